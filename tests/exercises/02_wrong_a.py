"""Stops at the first value without room and forgets the others."""


def offer(channel, values):
    rest = []
    for value in values:
        if not channel.try_send(value):
            rest.append(value)
            break
    return rest

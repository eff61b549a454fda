"""`try_send` returns whether there was room."""


def offer(channel, values):
    rest = []
    for value in values:
        if not channel.try_send(value):
            rest.append(value)
    return rest

"""`put_nowait` raises where `try_send` returns False."""


def offer(channel, values):
    rest = []
    for value in values:
        channel.put_nowait(value)
    return rest

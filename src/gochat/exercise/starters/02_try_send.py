"""Exercise 2, easy, fix: send only while there is room.

`offer` sends values on a buffered channel that nobody receives from, and should return the values
for which there is no room. It should never wait, but `send` waits for room. Use gochat's equivalent
of Go's `select` with `default`.
"""


def offer(channel, values):
    rest = []
    for value in values:
        channel.send(value)
    return rest

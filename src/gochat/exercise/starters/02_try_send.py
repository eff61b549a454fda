"""Exercise 2, easy, fix: send only while there is room.

`offer` sends values to a buffered channel from which nobody receives. It should return the values
for which there was no room. It should never wait, but `send` waits for room. Use what gochat has in
place of Go's `select` with `default`.
"""


def offer(channel, values):
    rest = []
    for value in values:
        channel.send(value)
    return rest

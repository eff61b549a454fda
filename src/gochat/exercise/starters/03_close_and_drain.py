"""Exercise 3, easy, fix: receive until the channel is closed.

`receive_all` should return all values that come over a channel before its close, in order, as
`for v := range ch` does in Go. This one ends as soon as the channel is empty, although the sender
may have more. Use the second value that `recv` returns.
"""


def receive_all(channel):
    values = []
    while len(channel) > 0:
        value, _ = channel.recv()
        values.append(value)
    return values

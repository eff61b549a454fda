"""Exercise 3, easy, fix: receive until the channel is closed.

`receive_all` should return all values that are sent on a channel before its close, in order, like
`for v := range ch` in Go. This version ends when the channel is empty, but the sender might send
more. Use the second value that `recv` returns.
"""


def receive_all(channel):
    values = []
    while len(channel) > 0:
        value, _ = channel.recv()
        values.append(value)
    return values

"""Exercise 3, easy, fix: receive until the channel is closed.

`receive_all` should return, in order, all values that are sent before the channel is closed, like
Go's `for v := range ch`. This version stops as soon as the channel is empty, but the sender may
send more. Use the second value that `recv` returns.
"""


def receive_all(channel):
    values = []
    while len(channel) > 0:
        value, _ = channel.recv()
        values.append(value)
    return values

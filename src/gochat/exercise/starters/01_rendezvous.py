"""Exercise 1, easy, fix: send and receive one value.

`carry` sends a value over an unbuffered channel and returns the value it received. A send on an
unbuffered channel waits for a receiver. Here the receiver would be the same thread, so it waits
forever. Let another thread send.
"""


def carry(channel, value):
    channel.send(value)
    received, _ = channel.recv()
    return received

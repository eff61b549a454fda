"""Exercise 1, easy, fix: send and receive one value.

`carry` sends a value over an unbuffered channel and returns what was received. A send on an
unbuffered channel waits for a receiver, but here the receiver is the same thread, which never gets
to receive. Let another thread send.
"""


def carry(channel, value):
    channel.send(value)
    received, _ = channel.recv()
    return received

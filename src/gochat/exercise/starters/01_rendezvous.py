"""Exercise 1, easy, fix: send and receive one value.

`carry` should send a value on an unbuffered channel, and return what it receives. A send on an
unbuffered channel waits for a receiver. Here, the receiver would be the same thread, so the send
waits forever. Let another thread send.
"""


def carry(channel, value):
    channel.send(value)
    received, _ = channel.recv()
    return received

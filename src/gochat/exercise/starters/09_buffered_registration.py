"""Exercise 9, medium, fix: the first message that its own sender misses.

Here the hub's channels have buffers, so a client that registers and then speaks does not wait for
the hub. But if both channels have a value, the hub chooses a channel at random, so it may send out
the message before it registers the client. Fix that, but keep the buffer of `broadcast`.
"""

import gochat


class Hub(gochat.Hub):
    def __init__(self):
        super().__init__()
        self.register = gochat.Channel(1)
        self.broadcast = gochat.Channel(1)

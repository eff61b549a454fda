"""The message and the registration may both wait for the hub, which chooses at random."""

import gochat


class Hub(gochat.Hub):
    def __init__(self):
        super().__init__()
        self.register = gochat.Channel(1)
        self.broadcast = gochat.Channel()

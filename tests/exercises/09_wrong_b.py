"""The message waits for the hub, but so may the registration, and the choice is random."""

import gochat


class Hub(gochat.Hub):
    def __init__(self):
        super().__init__()
        self.register = gochat.Channel(1)
        self.broadcast = gochat.Channel()

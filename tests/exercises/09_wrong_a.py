"""More room for registrations does not help."""

import gochat


class Hub(gochat.Hub):
    def __init__(self):
        super().__init__()
        self.register = gochat.Channel(256)
        self.broadcast = gochat.Channel(1)

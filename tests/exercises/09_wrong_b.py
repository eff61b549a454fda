"""A registration and a message can both wait, and the hub then takes either one first."""

import gochat


class Hub(gochat.Hub):
    def __init__(self):
        super().__init__()
        self.register = gochat.Channel(1)
        self.broadcast = gochat.Channel()

"""Registering is a rendezvous: when it returns, the hub knows the client."""

import gochat


class Hub(gochat.Hub):
    def __init__(self):
        super().__init__()
        self.broadcast = gochat.Channel(1)

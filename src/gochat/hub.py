"""The hub: who is in the room, and what is said in it (Go: hub.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .channel import Channel, select

if TYPE_CHECKING:
    from .client import Client

__all__ = ["Hub"]


class Hub:
    """Hub keeps the set of active clients and sends what one of them says to all of them.

    It never blocks, and it never sends on its own channels.
    """

    def __init__(self) -> None:
        # Registered clients. The hub's thread alone changes it; a dict, as it keeps their order.
        self.clients: dict[Client, bool] = {}

        # Inbound messages from the clients.
        self.broadcast: Channel[bytes] = Channel()

        # Requests to register, from serve_ws.
        self.register: Channel[Client] = Channel()

        # Requests to unregister, from the clients' read pumps.
        self.unregister: Channel[Client] = Channel()

        # Not in Go: a value is the close frame to part with from now on; closed, it ends run.
        self.stop: Channel[bytes] = Channel()

        # What a write pump puts into its close frame; empty, as in Go, until the hub is stopped.
        self.farewell = b""

    def run(self) -> None:
        """Serve the channels until `stop` is closed. On the thread `hub`."""
        while True:
            match select(self.register, self.unregister, self.broadcast, self.stop):
                case self.register, client, _:
                    self.clients[client] = True
                case self.unregister, client, _:
                    if client in self.clients:
                        del self.clients[client]
                        client.send.close()
                case self.broadcast, message, _:
                    for client in list(self.clients):
                        if not client.send.try_send(message):
                            client.send.close()
                            del self.clients[client]
                case self.stop, farewell, True:
                    self.farewell = farewell
                case _:  # stop is closed
                    return
            if self.farewell:
                for client in self.clients:
                    client.send.close()
                self.clients.clear()

"""The hub: the clients in the room, and what they say to each other (Go: hub.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .golang.channel import Channel, select

if TYPE_CHECKING:
    from .client import Client

__all__ = ["Hub"]


class Hub:
    """Hub keeps the set of active clients, and sends what a client says to all of them.

    Its thread never blocks but in select, and never sends on the hub's own channels.
    """

    def __init__(self) -> None:
        # Registered clients. The hub's thread alone changes them. A dict, because that keeps order.
        self.clients: dict[Client, bool] = {}

        # Inbound messages from the clients.
        self.broadcast: Channel[bytes] = Channel()

        # Requests to register, from serve_ws.
        self.register: Channel[Client] = Channel()

        # Requests to unregister, from the clients' read pumps.
        self.unregister: Channel[Client] = Channel()

        # Not in Go: takes the farewell, with which everyone is sent away from then on. Closing this
        # channel ends run.
        self.stop: Channel[bytes] = Channel()

        # The payload of the close frame that a write pump sends at the end; empty, as in Go, until
        # the hub is stopped. It is set before any channel is closed for it, so a write pump that
        # finds its channel closed finds the right farewell.
        self.farewell = b""

    def run(self) -> None:
        """Serve the channels until `stop` is closed. On the thread `hub`, once."""
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

"""The hub: the clients in the room, and what they say to each other (Go: hub.go)."""

from typing import TYPE_CHECKING

from .golang.channel import Channel, select

if TYPE_CHECKING:
    from .client import Client


class Hub:
    """Hub keeps the set of active clients and sends each client's messages to all of them."""

    def __init__(self) -> None:
        # The room's clients. Only the hub's thread changes them. A dict, to keep them in order.
        self.clients: dict[Client, bool] = {}

        # Messages for everyone, from the read pumps.
        self.broadcast: Channel[bytes] = Channel()

        # Requests to register, from serve_ws, and to unregister, from the read pumps.
        self.register: Channel[Client] = Channel()
        self.unregister: Channel[Client] = Channel()

        # Not in Go. A value on `stop` disconnects everyone, and is the payload of the close frames.
        self.stop: Channel[bytes] = Channel()
        self.farewell = b""

    def run(self) -> None:
        """Serve the channels until `stop` is closed. Blocks only in `select`."""
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
                case self.stop, farewell, ok:
                    if ok:
                        self.disconnect(farewell)
                    return

    def disconnect(self, farewell: bytes) -> None:
        """Disconnect all present and later clients until `stop` is closed. Not in Go."""
        self.farewell = farewell  # before a channel is closed, so that each write pump finds it
        for client in self.clients:
            client.send.close()
        self.clients.clear()
        while True:
            match select(self.register, self.unregister, self.broadcast, self.stop):
                case self.register, client, _:
                    client.send.close()
                case self.stop, _, False:
                    return

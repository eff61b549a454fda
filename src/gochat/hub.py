"""The hub: the clients in the room, and what they say to each other (Go: hub.go)."""

from .anyhub import HubStatistics
from .client import Client
from .golang.channel import Channel, select


class Hub:
    """Hub tracks which clients are in the room, and sends each message to all of them."""

    def __init__(self) -> None:
        # The clients in the room, in the order they joined. Only the hub's thread changes this.
        self.clients: dict[Client, bool] = {}
        # Messages for everyone, from the read pumps.
        self.broadcast: Channel[bytes] = Channel()
        # Requests to register, from serve_ws, and to unregister, from the read pumps.
        self.register: Channel[Client] = Channel()
        self.unregister: Channel[Client] = Channel()
        # Not in Go. Sending a close frame's payload on `stop` disconnects everyone with that frame.
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
        """Disconnect all clients, and turn new ones away, until `stop` is closed. Not in Go."""
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

    def statistics(self) -> HubStatistics:
        """Return what the hub and its channels are doing. Not in Go. Thread: any."""
        return HubStatistics.of(self)

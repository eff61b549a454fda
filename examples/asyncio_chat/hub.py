"""The hub: one task that owns the set of clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .client import Client

    # asyncio has no select for queues, so all events for the hub go through one queue.
    Event = (
        tuple[Literal["register", "unregister"], Client]
        | tuple[Literal["broadcast"], str]
        | tuple[Literal["stop"], int]
    )


class Hub:
    """Hub keeps the set of active clients and sends each message to all of them."""

    def __init__(self) -> None:
        # The clients in the room. Only the hub's task changes this dict.
        self.clients: dict[Client, bool] = {}

        # Events for the hub. There is room for one, so a read pump waits while the hub is busy.
        self.inbox: asyncio.Queue[Event] = asyncio.Queue(1)

        # Code for the close frames that clients get at the end.
        self.farewell = 1000

    async def run(self) -> None:
        """Handle events until "stop", and then disconnect everyone. Never returns."""
        while True:
            match await self.inbox.get():
                case "register", client:
                    self.clients[client] = True
                case "unregister", client:
                    if client in self.clients:
                        del self.clients[client]
                        client.close()
                case "broadcast", message:
                    for client in list(self.clients):
                        if not client.try_send(message):
                            client.close()
                            del self.clients[client]
                case "stop", farewell:
                    await self.disconnect(farewell)

    async def disconnect(self, farewell: int) -> None:
        """Disconnect all clients, and every client that registers later. Never returns."""
        self.farewell = farewell
        for client in self.clients:
            client.close()
        self.clients.clear()
        while True:
            match await self.inbox.get():
                case "register", client:
                    client.close()

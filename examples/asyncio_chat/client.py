"""A client: two tasks between a connection and the hub."""

from __future__ import annotations

import asyncio
import logging

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from .hub import Hub

# Times are in seconds. The library sends pings and checks for pongs.
WRITE_WAIT = 10.0
PONG_WAIT = 60.0
PING_PERIOD = PONG_WAIT * 9 / 10
MAX_MESSAGE_SIZE = 512  # bytes
SEND_BUFFER = 256  # messages

log = logging.getLogger("asyncio_chat")


class Client:
    """Client stands between a WebSocket connection and the hub."""

    def __init__(self, hub: Hub, conn: ServerConnection) -> None:
        self.hub = hub
        self.conn = conn

        # Outbound messages, followed by None. The queue is unbounded so that None always fits.
        self.send: asyncio.Queue[str | None] = asyncio.Queue()

    def try_send(self, message: str) -> bool:
        """Queue a message if fewer than SEND_BUFFER are queued. Return whether there was room."""
        if self.send.qsize() >= SEND_BUFFER:
            return False
        self.send.put_nowait(message)
        return True

    def close(self) -> None:
        """Queue the sentinel. The hub calls this once, after its last message."""
        self.send.put_nowait(None)

    async def read_pump(self) -> None:
        """Read messages and send them to the hub, until reading fails."""
        try:
            while True:
                message = await self.conn.recv(decode=True)
                message = message.replace("\n", " ").strip()
                await self.hub.inbox.put(("broadcast", message))
        except ConnectionClosedError as error:
            log.info("error: %s", error)
        except ConnectionClosed:
            return
        finally:
            await self.hub.inbox.put(("unregister", self))
            self.conn.transport.abort()

    async def write_pump(self) -> None:
        """Write the hub's messages to the connection, until the sentinel arrives."""
        try:
            while True:
                queued = [await self.send.get()]
                # Everything that is queued goes out together, as one frame.
                while not self.send.empty():
                    queued.append(self.send.get_nowait())
                messages = [message for message in queued if message is not None]
                if messages:
                    await asyncio.wait_for(self.conn.send("\n".join(messages)), WRITE_WAIT)
                if queued[-1] is None:
                    # There will be no more messages.
                    await self.conn.close(self.hub.farewell)
                    return
        except (TimeoutError, ConnectionClosed):
            return
        finally:
            self.conn.transport.abort()


async def serve_ws(hub: Hub, conn: ServerConnection) -> None:
    """Serve a connection. The read pump runs in this task, and the write pump in a second task."""
    client = Client(hub, conn)
    await client.hub.inbox.put(("register", client))
    writer = asyncio.create_task(client.write_pump())
    await client.read_pump()
    await writer

"""The chat on websockets with asyncio, as its documentation recommends.

`broadcast` builds a frame once, and writes it to the transports of all clients without waiting.
Messages for a slow client are buffered, and the client is not dropped. Like gochat, the library
sends pings.
"""

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

clients: set[ServerConnection] = set()


async def chat(connection: ServerConnection) -> None:
    clients.add(connection)
    try:
        async for message in connection:
            broadcast(clients, message)
    finally:
        clients.remove(connection)


async def main(port: int) -> None:
    async with serve(
        chat, "127.0.0.1", port, compression=None, max_size=512, backlog=1024
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))

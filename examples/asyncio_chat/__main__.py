"""The chat as a program: the page, the routes, and the server."""

from __future__ import annotations

import asyncio
import mimetypes
import signal
import sys
from functools import partial
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from .client import MAX_MESSAGE_SIZE, PING_PERIOD, PONG_WAIT, serve_ws
from .hub import Hub

STATIC = Path(__file__).parents[2] / "static"
FILES = {"/": STATIC / "home.html"} | {f"/{path.name}": path for path in STATIC.iterdir()}


def serve_home(conn: ServerConnection, request: Request) -> Response | None:
    """Answer a request for the page or one of its files. Return None for the chat at /ws."""
    if request.path == "/ws":
        return None
    if request.path not in FILES:
        return conn.respond(404, "Not found\n")
    path = FILES[request.path]
    response = conn.respond(200, path.read_text())
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = mimetypes.guess_type(path.name)[0] or ""
    return response


async def main(addr: str) -> None:
    """Serve the chat until a signal. addr: HOST:PORT."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    hub = Hub()
    running = asyncio.create_task(hub.run())
    host, _, port = addr.rpartition(":")
    async with serve(
        partial(serve_ws, hub),
        host or None,
        int(port),
        process_request=serve_home,
        compression=None,
        max_size=MAX_MESSAGE_SIZE,
        ping_interval=PING_PERIOD,
        ping_timeout=PONG_WAIT - PING_PERIOD,
    ) as server:
        host, port = server.sockets[0].getsockname()[:2]
        print(f"open http://{host}:{port}/", flush=True)
        signalled = asyncio.create_task(stopped.wait())
        await asyncio.wait({running, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():  # the hub has failed, which ends the program
            await running
        server.close(close_connections=False)
        await hub.inbox.put(("stop", 1001))
        await server.wait_closed()
    running.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if sys.argv[1:] else "127.0.0.1:8080"))
    except (OSError, ValueError) as error:  # the port is taken, or the address is malformed
        sys.exit(str(error))

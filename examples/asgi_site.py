"""The chat next to an ASGI site: two servers on two ports, behind nginx.

Run it: python examples/asgi_site.py :8080 8000
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

import gochat

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


async def site(scope: Event, receive: Receive, send: Send) -> None:
    text = b'<a href="/chat/">the chat</a>'
    if scope["method"] == "POST":
        text = (await receive())["body"]
        # Send on another thread, because the event loop must not wait for the hub.
        await asyncio.to_thread(hub.broadcast.send, b"News: " + text)
    headers = [(b"content-type", b"text/html")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


hub = gochat.Hub()
args = dict(enumerate(sys.argv))
addr = args.get(1, "127.0.0.1:8080")
try:
    port = int(args.get(2, "8000"))
    server = gochat.Server(addr, gochat.make_app(hub))
except (OSError, ValueError) as error:  # a port is taken or not a number, or addr is malformed
    sys.exit(str(error))
with gochat.running(server, hub):
    server.start()
    print(f"open {server.url}", flush=True)
    uvicorn.run(site, port=port, lifespan="off", log_level="error")

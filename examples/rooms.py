"""Rooms: /ws/go and /ws/python each have their own hub, so messages stay in their room.

The link /?room=go opens the page in that room. A link without a room leads to the first room.

Run it: python examples/rooms.py :8080
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import gochat

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

NAMES = ("go", "python")
ROOMS = {f"/ws/{name}": gochat.Hub() for name in NAMES}
LIMIT = gochat.Settings().max_message_size  # shown on the page


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    hub = ROOMS.get(path)
    if (method, path) == ("GET", "/") and "room" not in parse_qs(environ["QUERY_STRING"]):
        start_response("302 Found", [("Location", f"?room={NAMES[0]}"), ("Content-Length", "0")])
        return []
    if hub is None:
        return gochat.serve_home(environ, start_response, LIMIT)
    return gochat.serve_ws(hub, environ, start_response)


addr = sys.argv[1] if sys.argv[1:] else "127.0.0.1:8080"
try:
    server = gochat.Server(addr, app)
except (OSError, ValueError) as error:  # the port is taken, or the address is malformed
    sys.exit(str(error))
with suppress(KeyboardInterrupt), gochat.running(server, *ROOMS.values()):
    print("open", " or ".join(f"{server.url}?room={name}" for name in NAMES), flush=True)
    server.serve_forever()

"""Rooms, a hub for each: what is said at /ws/go stays there, and so at /ws/python.

Run it: python examples/rooms.py :8080
"""

import sys
from contextlib import suppress

import gochat

ROOMS = {f"/ws/{name}": gochat.Hub() for name in ("go", "python")}


def app(environ, start_response):
    hub = ROOMS.get(environ["PATH_INFO"])
    if hub is None:
        return gochat.serve_home(environ, start_response)
    return gochat.serve_ws(hub, environ, start_response)


server = gochat.Server(sys.argv[1], app)
with suppress(KeyboardInterrupt), gochat.running(server, *ROOMS.values()):
    print(f"open {server.url}, and choose {' or '.join(ROOMS)} there", flush=True)
    server.serve_forever()

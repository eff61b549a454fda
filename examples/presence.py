"""Presence: the chat announces who joins and who leaves, and `/who` lists everyone in the room.

Run it: python examples/presence.py :8080
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import gochat

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def sign(conn: gochat.Conn, message: bytes) -> bytes:
    if message == b"/who":
        names = ", ".join(client.conn.user for client in list(hub.clients))
        message = f"here are {names}".encode()
    return f"{conn.user}: ".encode() + message


class Member(gochat.Client):
    def read_pump(self) -> None:  # runs on the thread that passes on the client's messages
        self.hub.broadcast.send(f"{self.conn.user} has come".encode())
        super().read_pump()
        self.hub.broadcast.send(f"{self.conn.user} has left".encode())


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    (user,) = re.findall(r"^name=(\w{1,40})$", environ["QUERY_STRING"]) or ["guest"]
    return chat(environ | {"REMOTE_USER": user}, start_response)


hub = gochat.Hub()
chat = gochat.make_app(hub, upgrader=gochat.Upgrader(on_message=sign), client_class=Member)
addr = sys.argv[1] if sys.argv[1:] else "127.0.0.1:8080"
try:
    server = gochat.Server(addr, app)
except (OSError, ValueError) as error:  # the port is taken, or the address is malformed
    sys.exit(str(error))
with suppress(KeyboardInterrupt), gochat.running(server, hub):
    print(f"open {server.url}, and connect to /ws?name=ann there", flush=True)
    server.serve_forever()

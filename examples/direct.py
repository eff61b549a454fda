"""Direct messages: `/to bob TEXT` is for bob alone. Run it: python examples/direct.py :8080"""

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
    return f"{conn.user}: ".encode() + message


class Inbox(gochat.Channel[bytes]):  # only the hub's thread calls try_send
    user = ""

    def try_send(self, message: bytes) -> bool:
        direct = re.match(r"(\w+): /to (\w+) ", message.decode())
        return bool(direct and self.user not in direct.groups()) or super().try_send(message)


class Member(gochat.Client):
    def __init__(self, hub: gochat.AnyHub, conn: gochat.Conn, settings: gochat.Settings) -> None:
        super().__init__(hub, conn, settings)
        self.send = inbox = Inbox(settings.send_buffer, in_turn=True)
        inbox.user = conn.user


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    (user,) = re.findall(r"^name=(\w{1,40})$", environ["QUERY_STRING"]) or ["guest"]
    return chat(environ | {"REMOTE_USER": user}, start_response)


hub = gochat.Hub()
chat = gochat.make_app(hub, upgrader=gochat.Upgrader(on_message=sign), client_class=Member)
with suppress(KeyboardInterrupt), gochat.running(gochat.Server(sys.argv[1], app), hub) as server:
    print(f"open {server.url}, and connect to /ws?name=ann there", flush=True)
    server.serve_forever()

"""Login: each message begins with its user's name. Run it: python examples/login.py :8080"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from hmac import compare_digest
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request, Response

import gochat

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PASSWORDS = {"ann": b"tulip", "bob": b"daisy"}


def sign(conn: gochat.Conn, message: bytes) -> bytes:
    return b"%b: %b" % (conn.user.encode(), message)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    login = Request(environ).authorization
    user, password = (login.username, login.password) if login else (None, None)
    if user not in PASSWORDS or not compare_digest((password or "").encode(), PASSWORDS[user]):
        ask = Response("Who are you?\n", 401, {"WWW-Authenticate": 'Basic realm="chat"'})
        return ask(environ, start_response)
    return chat(environ | {"REMOTE_USER": user}, start_response)


addr = sys.argv[1] if sys.argv[1:] else "127.0.0.1:8080"
hub = gochat.Hub()
try:
    server = gochat.Server(addr, app)
except (OSError, ValueError) as error:  # the port is taken, or the address is malformed
    sys.exit(str(error))
chat = gochat.make_app(hub, upgrader=gochat.Upgrader(on_message=sign))
with suppress(KeyboardInterrupt), gochat.running(server, hub):
    print(f"open {server.url}", flush=True)
    server.serve_forever()

"""JSON: each message is an object on one line. Run it: python examples/json_lines.py :8080"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import gochat

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def check(conn: gochat.Conn, message: bytes) -> bytes:
    """Add the user's name to a message of the form `{"text": ...}`; refuse anything else."""
    try:
        said = json.loads(message)
        text = str.strip(said["text"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise gochat.ProtocolError('send {"text": ...}', 4000) from None
    return json.dumps({"from": conn.user, "text": text}).encode()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    names = parse_qs(environ["QUERY_STRING"]).get("name", ["guest"])
    return chat(environ | {"REMOTE_USER": names[0][:40]}, start_response)


addr = sys.argv[1] if sys.argv[1:] else "127.0.0.1:8080"
hub = gochat.Hub()
try:
    server = gochat.Server(addr, app)
except (OSError, ValueError) as error:  # the port is taken, or the address is malformed
    sys.exit(str(error))
chat = gochat.make_app(hub, upgrader=gochat.Upgrader(on_message=check))
with suppress(KeyboardInterrupt), gochat.running(server, hub):
    print(f"open {server.url}, and connect to /ws?name=ann there", flush=True)
    server.serve_forever()

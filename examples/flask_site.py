"""The chat next to Flask. Each message begins with the user's name from the Flask session.

Run it: python examples/flask_site.py :8080
"""

import secrets
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import flask

import gochat

site = flask.Flask(__name__)
site.secret_key = secrets.token_bytes()


@site.post("/upload/<name>")
def upload(name: str) -> flask.Response:
    flask.session["user"] = name
    size = len(flask.request.get_data())
    hub.broadcast.send(f"{name} has uploaded {size} bytes".encode())
    return flask.Response(f"{part} of {size}\n" for part in range(0, size + 1, 1000))  # a stream


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] not in ("/", "/ws"):
        return site(environ, start_response)
    with site.request_context(environ):
        user = flask.session.get("user", "guest")
    return chat(environ | {"REMOTE_USER": user}, start_response)


addr = sys.argv[1] if sys.argv[1:] else "127.0.0.1:8080"
hub = gochat.Hub()
try:
    server = gochat.Server(addr, app)
except (OSError, ValueError) as error:  # the port is taken, or the address is malformed
    sys.exit(str(error))
sign = gochat.Upgrader(on_message=lambda conn, text: f"{conn.user}: ".encode() + text)
chat = gochat.make_app(hub, upgrader=sign)
with suppress(KeyboardInterrupt), gochat.running(server, hub):
    print(f"open {server.url}", flush=True)
    server.serve_forever()

"""JSON: each message is one object on one line. Run it: python examples/json_lines.py :8080"""

import json
import sys
from contextlib import suppress
from urllib.parse import parse_qs

import gochat


def check(conn, message):
    """Pass on `{"text": ...}` with the name of its user; nothing else may be said."""
    try:
        said = json.loads(message)
        text = said["text"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise gochat.ProtocolError('send {"text": ...}', 4000) from None
    return json.dumps({"from": conn.user, "text": text}).encode()


def app(environ, start_response):
    names = parse_qs(environ["QUERY_STRING"]).get("name", ["guest"])
    return chat(environ | {"REMOTE_USER": names[0][:40]}, start_response)


hub, server = gochat.Hub(), gochat.Server(sys.argv[1], app)
chat = gochat.make_app(hub, upgrader=gochat.make_upgrader(on_message=check))
with suppress(KeyboardInterrupt), gochat.running(server, hub):
    print(f"open {server.url}, and connect to /ws?name=ann there", flush=True)
    server.serve_forever()

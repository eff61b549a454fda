"""A login: each message begins with its user's name. Run it: python examples/login.py :8080"""

import sys
from contextlib import suppress
from hmac import compare_digest

from werkzeug.wrappers import Request, Response

import gochat

PASSWORDS = {"ann": b"tulip", "bob": b"daisy"}


def sign(conn, message):
    return b"%b: %b" % (conn.user.encode(), message)


def app(environ, start_response):
    login = Request(environ).authorization
    user = login.username if login and login.type == "basic" else None
    if user not in PASSWORDS or not compare_digest(login.password.encode(), PASSWORDS[user]):
        ask = Response("Who are you?\n", 401, {"WWW-Authenticate": 'Basic realm="chat"'})
        return ask(environ, start_response)
    return chat(environ | {"REMOTE_USER": user}, start_response)


hub, server = gochat.Hub(), gochat.Server(sys.argv[1], app)
chat = gochat.make_app(hub, upgrader=gochat.make_upgrader(on_message=sign))
with suppress(KeyboardInterrupt), gochat.running(server, hub):
    print(f"open {server.url}", flush=True)
    server.serve_forever()

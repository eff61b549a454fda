"""Presence: who comes and who leaves is said, and `/who` gets a list of all who are here.

Run it: python examples/presence.py :8080
"""

import re
import sys
from contextlib import suppress

import gochat


class NamedConn(gochat.Conn):
    def read_message(self):
        message_type, message = super().read_message()
        if message == b"/who":
            names = ", ".join(client.conn.name for client in list(hub.clients))
            message = f"here are {names}".encode()
        return message_type, f"{self.name}: ".encode() + message


class NamedUpgrader(gochat.Upgrader):
    def new_conn(self, environ, *args):
        conn = NamedConn(*args, self.options)
        (conn.name,) = re.findall(r"^name=(\w{1,40})$", environ["QUERY_STRING"]) or ["guest"]
        return conn


class Member(gochat.Client):
    def read_pump(self):  # from this thread the hub hears what the client says, and so this
        self.hub.broadcast.send(f"{self.conn.name} has come".encode())
        super().read_pump()
        self.hub.broadcast.send(f"{self.conn.name} has left".encode())


hub = gochat.Hub()
app = gochat.make_app(hub, upgrader=gochat.make_upgrader(NamedUpgrader), kind=Member)
with suppress(KeyboardInterrupt), gochat.running(gochat.Server(sys.argv[1], app), hub) as server:
    print(f"open {server.url}, and connect to /ws?name=ann there", flush=True)
    server.serve_forever()

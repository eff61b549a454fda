"""Direct messages: `/to bob TEXT` is for bob alone. Run it: python examples/direct.py :8080"""

import re
import sys
from contextlib import suppress

import gochat


class NamedConn(gochat.Conn):
    def read_message(self):
        message_type, message = super().read_message()
        return message_type, f"{self.name}: ".encode() + message


class NamedUpgrader(gochat.Upgrader):
    def new_conn(self, environ, *args):
        conn = NamedConn(*args, self.options)
        (conn.name,) = re.findall(r"^name=(\w{1,40})$", environ["QUERY_STRING"]) or ["guest"]
        return conn


class Inbox(gochat.Channel):  # only the hub's thread calls try_send
    def try_send(self, message):
        direct = re.match(r"(\w+): /to (\w+) ", message.decode())
        return bool(direct and self.name not in direct.groups()) or super().try_send(message)


class Member(gochat.Client):
    def __init__(self, hub, conn, settings):
        super().__init__(hub, conn, settings)
        self.send = Inbox(settings.send_buffer, in_turn=True)
        self.send.name = conn.name


hub = gochat.Hub()
app = gochat.make_app(hub, upgrader=gochat.make_upgrader(NamedUpgrader), kind=Member)
with suppress(KeyboardInterrupt), gochat.running(gochat.Server(sys.argv[1], app), hub) as server:
    print(f"open {server.url}, and connect to /ws?name=ann there", flush=True)
    server.serve_forever()

"""Direct messages: `/to bob TEXT` goes only to bob. Run it: python examples/direct.py :8080"""

import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import gochat


def sign(conn: gochat.Conn, message: bytes) -> bytes:
    return f"{conn.user}: ".encode() + message


class Hub(gochat.Hub):  # the same `run` as in hub.py, with one more check before a send
    def run(self) -> None:
        while True:
            match gochat.select(self.register, self.unregister, self.broadcast, self.stop):
                case self.register, client, _:
                    self.clients[client] = True
                case self.unregister, client, _:
                    if client in self.clients:
                        del self.clients[client]
                        client.send.close()
                case self.broadcast, message, _:
                    direct = re.match(r"(\w+): /to (\w+) ", message.decode())
                    for client in list(self.clients):
                        if direct and client.conn.user not in direct.groups():
                            continue
                        if not client.send.try_send(message):
                            client.send.close()
                            del self.clients[client]
                case self.stop, farewell, ok:
                    if ok:
                        self.disconnect(farewell)
                    return


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    (user,) = re.findall(r"^name=(\w{1,40})$", environ["QUERY_STRING"]) or ["guest"]
    return chat(environ | {"REMOTE_USER": user}, start_response)


hub = Hub()
chat = gochat.make_app(hub, upgrader=gochat.Upgrader(on_message=sign))
addr = sys.argv[1] if sys.argv[1:] else "127.0.0.1:8080"
try:
    server = gochat.Server(addr, app)
except (OSError, ValueError) as error:  # the port is taken, or the address is malformed
    sys.exit(str(error))
with suppress(KeyboardInterrupt), gochat.running(server, hub):
    print(f"open {server.url}, and connect to /ws?name=ann there", flush=True)
    server.serve_forever()

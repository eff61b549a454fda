"""History: a new client gets the last hundred messages, and then all new messages.

Run it: python examples/history.py :8080
"""

import sys
from collections import deque
from contextlib import suppress

import gochat


class History(gochat.Hub):  # the same `run` as in hub.py, with four more lines
    def run(self) -> None:
        history = deque[bytes](maxlen=100)
        while True:
            match gochat.select(self.register, self.unregister, self.broadcast, self.stop):
                case self.register, client, _:
                    for message in history:
                        client.send.try_send(message)
                    self.clients[client] = True
                case self.unregister, client, _:
                    if client in self.clients:
                        del self.clients[client]
                        client.send.close()
                case self.broadcast, message, _:
                    history.append(message)
                    for client in list(self.clients):
                        if not client.send.try_send(message):
                            client.send.close()
                            del self.clients[client]
                case self.stop, farewell, ok:
                    if ok:
                        self.disconnect(farewell)
                    return


hub = History()
addr = sys.argv[1] if sys.argv[1:] else "127.0.0.1:8080"
try:
    server = gochat.Server(addr, gochat.make_app(hub))
except (OSError, ValueError) as error:  # the port is taken, or the address is malformed
    sys.exit(str(error))
with suppress(KeyboardInterrupt), gochat.running(server, hub):
    print(f"open {server.url}", flush=True)
    server.serve_forever()

"""History: a new client gets the last hundred messages, and then all new messages.

Run it: python examples/history.py :8080
"""

import sys
from collections import deque
from contextlib import suppress
from typing import Any

import gochat


class History(gochat.Observer):
    def __init__(self, hub: gochat.Hub) -> None:
        self.hub = hub
        self.messages = deque[bytes](maxlen=100)
        hub.register.observe(self)
        hub.broadcast.observe(self)

    # Runs on the hub's thread, before the hub does anything with the value.
    def received(self, channel: gochat.Channel[Any], value: Any) -> None:
        if channel is self.hub.broadcast:
            self.messages.append(value)
        else:
            for message in self.messages:
                value.send.try_send(message)


hub = gochat.Hub()
History(hub)
addr = sys.argv[1] if sys.argv[1:] else "127.0.0.1:8080"
try:
    server = gochat.Server(addr, gochat.make_app(hub))
except (OSError, ValueError) as error:  # the port is taken, or the address is malformed
    sys.exit(str(error))
with suppress(KeyboardInterrupt), gochat.running(server, hub):
    print(f"open {server.url}", flush=True)
    server.serve_forever()

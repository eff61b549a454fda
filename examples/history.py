"""History: a client that joins gets the last messages first, and misses none of the news, because
all of this happens on the hub's thread. Run it: python examples/history.py :8080
"""

import sys
from collections import deque
from contextlib import suppress

import gochat


class History(gochat.Channel[bytes]):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.messages = deque[bytes](maxlen=size)

    def try_send(self, message: bytes) -> bool:
        self.messages.append(message)
        return True


class Recorder(gochat.Client):  # to the hub one more client, with its channel
    def __init__(self, send: History) -> None:
        self.send = send


class Clients(dict[gochat.Client, bool]):
    def __setitem__(self, client: gochat.Client, registered: bool) -> None:
        for message in history.messages:
            client.send.try_send(message)
        super().__setitem__(client, registered)


hub, history = gochat.Hub(), History(100)
hub.clients = Clients({Recorder(history): True})
server = gochat.Server(sys.argv[1], gochat.make_app(hub))
with suppress(KeyboardInterrupt), gochat.running(server, hub):
    print(f"open {server.url}", flush=True)
    server.serve_forever()

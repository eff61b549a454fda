"""History: a client that joins gets the last messages first, and misses none of the news, because
all of this happens on the hub's thread. Run it: python examples/history.py :8080
"""

import sys
from collections import deque
from contextlib import suppress

import gochat


class Recorder:  # to the hub one more client, with its channel
    def __init__(self, size):
        self.send, self.messages = self, deque(maxlen=size)

    def try_send(self, message):
        self.messages.append(message)
        return True

    def close(self):
        self.messages.clear()


class Clients(dict):
    def __setitem__(self, client, registered):
        for message in recorder.messages:
            client.send.try_send(message)
        super().__setitem__(client, registered)


hub, recorder = gochat.Hub(), Recorder(100)
hub.clients = Clients({recorder: True})
server = gochat.Server(sys.argv[1], gochat.make_app(hub))
with suppress(KeyboardInterrupt), gochat.running(server, hub):
    print(f"open {server.url}", flush=True)
    server.serve_forever()

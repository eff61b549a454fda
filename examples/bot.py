"""A bot that reads all messages and answers `!time`. Run it: python examples/bot.py :8080"""

import sys
import time
from contextlib import suppress
from threading import Thread

import gochat


class Bot(gochat.Client):  # another client of the hub, with a channel but no connection
    def __init__(self, hub: gochat.AnyHub) -> None:
        self.hub = hub
        self.send = gochat.Channel[bytes](256)

    def run(self) -> None:
        """Answer until the hub closes the channel, at shutdown or because the channel is full."""
        for message in self.send:
            name, _, text = message.decode().partition(": ")
            if text == "!time":
                self.hub.broadcast.send(f"Bot: {name}, it is {time.strftime('%H:%M')}".encode())


hub = gochat.Hub()
addr = sys.argv[1] if sys.argv[1:] else "127.0.0.1:8080"
try:
    server = gochat.Server(addr, gochat.make_app(hub))
except (OSError, ValueError) as error:  # the port is taken, or the address is malformed
    sys.exit(str(error))
with suppress(KeyboardInterrupt), gochat.running(server, hub):
    bot = Bot(hub)
    hub.register.send(bot)
    Thread(target=bot.run, name="bot").start()
    print(f"open {server.url}", flush=True)
    server.serve_forever()

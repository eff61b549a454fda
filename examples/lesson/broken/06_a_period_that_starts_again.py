"""Broken: each message restarts the period, so a busy channel prevents every tick."""

import time
from threading import Thread

from gochat import Channel, select


def talk() -> None:
    while time.monotonic() < end:
        messages.send("message")
    messages.close()


messages, ticks, ok = Channel[str](), 0, True
end = time.monotonic() + 0.5
Thread(target=talk, name="talker").start()
while ok:
    channel, _, ok = select(messages, deadline=time.monotonic() + 0.25)
    ticks += channel is None
print("ticks in half a second:", ticks)

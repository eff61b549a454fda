"""A ticker: it ticks every tenth of a second, however busy the channel is."""

import time
from threading import Thread

from gochat import Channel, select

messages, stop = Channel[str](), Channel[str](1)


def talk() -> None:
    while not stop.drain():  # drain does not wait
        messages.send("message")
    print("the talker stops")
    messages.close()


Thread(target=talk, name="talker").start()
ticks, tick = 0, time.monotonic() + 0.1
while ticks < 2:
    channel, _, _ = select(messages, deadline=tick)
    if channel is None:
        ticks += 1
        print("tick", ticks)
        tick = time.monotonic() + 0.1
stop.send("stop")
for _ in messages:
    pass  # ignore a message that was still on its way

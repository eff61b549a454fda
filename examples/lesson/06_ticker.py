"""A ticker: something is due every tenth of a second, however busy the channel is."""

import time
from threading import Thread

from gochat import Channel, ClosedChannelError, select

messages = Channel()


def talk():
    try:
        while True:
            messages.send("message")
    except ClosedChannelError:
        print("the talker is told to stop")


talker = Thread(target=talk, name="talker")
talker.start()
ticks, tick = 0, time.monotonic() + 0.1
while ticks < 2:
    channel, message, _ = select(messages, deadline=tick)
    if channel is None:
        ticks += 1
        print("tick", ticks)
        tick = time.monotonic() + 0.1
messages.close()

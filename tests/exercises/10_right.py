"""Tries the channels in a new random order each time."""

import queue
import random
import time


def choose(*channels):
    while True:
        for channel in random.sample(channels, len(channels)):
            try:
                return channel, channel.get(block=False)
            except queue.Empty:
                pass
        time.sleep(0.001)

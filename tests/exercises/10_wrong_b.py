"""Waits for one channel that was chosen at random."""

import random


def choose(*channels):
    channel = random.choice(channels)
    return channel, channel.recv()[0]

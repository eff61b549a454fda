"""The sender has its own thread; this thread receives."""

import threading


def carry(channel, value):
    threading.Thread(target=channel.send, args=(value,)).start()
    received, _ = channel.recv()
    return received

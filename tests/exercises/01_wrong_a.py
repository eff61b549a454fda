"""Waits for the sender before there is a receiver."""

import threading


def carry(channel, value):
    sender = threading.Thread(target=channel.send, args=(value,), daemon=True)
    sender.start()
    sender.join()
    received, _ = channel.recv()
    return received

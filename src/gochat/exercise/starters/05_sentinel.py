"""Exercise 5, medium, fix: the sentinel on a full channel.

In this `queue.Queue`, `close` puts a sentinel after the values. But the hub closes a client's
channel exactly when the channel is full, and then `put_nowait` raises `queue.Full` in the hub's
thread. Fix `close` so that it never fails, never waits, and never loses a value.
"""

import queue

CLOSED = object()


class Channel(queue.Queue):
    def try_send(self, value):
        try:
            self.put_nowait(value)
        except queue.Full:
            return False
        return True

    def recv(self):
        value = self.get()
        return (None, False) if value is CLOSED else (value, True)

    def close(self):
        self.put_nowait(CLOSED)

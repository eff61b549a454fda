"""The sentinel follows the last value, even beyond the bound, and wakes a receiver."""

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
        with self.mutex:
            self.queue.append(CLOSED)
            self.not_empty.notify()

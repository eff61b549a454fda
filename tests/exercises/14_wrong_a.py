"""Takes the lock, so the pong waits for the message."""

import gochat


class Conn(gochat.Conn):
    def _send_for_library(self, data):
        with self._write_lock:
            self._sock.sendall(data)

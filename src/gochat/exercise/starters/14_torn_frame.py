"""Exercise 14, hard, break: a frame inside a frame.

The reading thread writes, too: `_send_for_library` sends the pong that answers a ping, in `_write`,
which takes the connection's lock. Change the method so that a pong still goes out, but can end up
in the middle of a message that the writing thread is sending.
"""

import gochat


class Conn(gochat.Conn):
    def _send_for_library(self, data):
        self._write(data, None, closing=False)

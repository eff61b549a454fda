"""Exercise 14, hard, break: a frame inside a frame.

The reading thread also writes: `_send_for_library` sends the pongs that answer pings. It calls
`_write`, which takes the connection's lock. Change `_send_for_library` so that a pong is still
sent, but can end up in the middle of a message from the writing thread.
"""

import gochat


class Conn(gochat.Conn):
    def _send_for_library(self, data):
        self._write(data, None, data[0] & 0x0F)  # the frame, no deadline, its opcode

"""Exercise 14, hard, break: a frame inside a frame.

The reading thread also writes: `_send_for_library` sends the pong that answers a ping, through
`_write`, which takes the connection's lock. Change the method so that a pong is still sent, but can
land in the middle of a message that the writing thread is sending.
"""

import gochat


class Conn(gochat.Conn):
    def _send_for_library(self, data):
        self._write(data, None, data[0] & 0x0F)  # the frame, no deadline, its opcode

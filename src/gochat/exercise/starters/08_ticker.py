"""Exercise 8, medium, fix: a ticker that never ticks.

This write pump should send a ping once per ping period, no matter how many messages it sends. But
each message restarts the period, so no client in a busy room gets a ping. Fix `write_pump`.
"""

import time

import gochat
from gochat.golang import websocket


class Client(gochat.Client):
    def write_pump(self):
        try:
            while True:
                deadline = time.monotonic() + self.settings.ping_period
                match gochat.select(self.send, deadline=deadline):
                    case self.send, message, True:
                        self.conn.write_message(websocket.TEXT_MESSAGE, message)
                    case self.send, _, False:
                        self.conn.write_message(websocket.CLOSE_MESSAGE, b"")
                        return
                    case _:
                        self.conn.write_message(websocket.PING_MESSAGE, b"")
        except OSError:
            return
        finally:
            self.conn.close()

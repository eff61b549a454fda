"""Only a ping changes the time of the next ping. Messages do not."""

import time

import gochat
from gochat.golang import websocket


class Client(gochat.Client):
    def write_pump(self):
        tick = time.monotonic() + self.settings.ping_period
        try:
            while True:
                match gochat.select(self.send, deadline=tick):
                    case self.send, message, True:
                        self.conn.write_message(websocket.TEXT_MESSAGE, message)
                    case self.send, _, False:
                        self.conn.write_message(websocket.CLOSE_MESSAGE, b"")
                        return
                    case _:
                        tick = time.monotonic() + self.settings.ping_period
                        self.conn.write_message(websocket.PING_MESSAGE, b"")
        except OSError:
            return
        finally:
            self.conn.close()

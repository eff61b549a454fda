"""Sends a close frame, but never unregisters the client when the pump ends."""

import gochat


class Client(gochat.Client):
    def read_pump(self):
        try:
            self.await_pong()
            self.conn.set_pong_handler(self.await_pong)
            while True:
                _, message = self.conn.read_message()
                self.hub.broadcast.send(message)
        except OSError:
            self.conn.write_message(8, b"")

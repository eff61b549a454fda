"""Closes the connection itself, as Go does, perhaps before the write pump's close frame."""

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
            pass
        finally:
            self.hub.unregister.send(self)
            self.conn.close()

"""The order of the Go original: the write pump might or might not be faster."""

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

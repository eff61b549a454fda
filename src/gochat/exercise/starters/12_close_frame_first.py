"""Exercise 12, hard, fix: the close frame first, then the end.

If a client sends no pong in time, its read pump unregisters it. The hub closes `client.send`, and
the write pump sends a close frame and closes the connection. But this read pump closes the
connection first. Fix the end of `read_pump` so that the close frame is always sent.
"""

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
            self.conn.close()
            self.hub.unregister.send(self)

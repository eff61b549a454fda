"""Exercise 12, hard, fix: the close frame first, then the end.

A client that sends no pong in time is unregistered: the hub closes `client.send`, and the write
pump sends a close frame and closes the connection. This read pump closes the connection itself, and
the close frame comes too late. Fix the end of `read_pump` so that the close frame always goes out.
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

"""Exercise 15, hard, write: everyone but the sender.

In this chat, a message also comes back to its sender. Change the chat so that a message goes to
everyone except its sender. The hub does not yet know who sent a message, and two clients may send
the same text. The check uses a real server and real connections.
"""

import gochat


class Client(gochat.Client):
    def read_pump(self):
        try:
            while True:
                _, message = self.conn.read_message()
                self.hub.broadcast.send(message)
        except OSError:
            pass
        finally:
            self.hub.unregister.send(self)
            self.conn.close()


class Hub(gochat.Hub):
    def run(self):
        while True:
            match gochat.select(self.register, self.unregister, self.broadcast, self.stop):
                case self.register, client, _:
                    self.clients[client] = True
                case self.unregister, client, _:
                    if client in self.clients:
                        del self.clients[client]
                        client.send.close()
                case self.broadcast, message, _:
                    for client in list(self.clients):
                        if not client.send.try_send(message):
                            client.send.close()
                            del self.clients[client]
                case self.stop, _, True:
                    for client in self.clients:
                        client.send.close()
                    self.clients.clear()
                case _:  # stop is closed
                    return

"""Exercise 6, medium, break: what kills this hub?

This hub loops over `self.clients` directly, but the original loops over a list of the clients.
Usually, that makes no difference. Change `scenario` so that it kills this hub, but not the
original. `new_client(capacity)` makes a client that does not read.
"""

import gochat


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
                    for client in self.clients:
                        if not client.send.try_send(message):
                            client.send.close()
                            del self.clients[client]
                case _:  # stop is closed
                    return


def scenario(hub, new_client):
    ann, bob = new_client(16), new_client(16)
    hub.register.send(ann)
    hub.register.send(bob)
    hub.broadcast.send(b"hello")
    hub.unregister.send(ann)

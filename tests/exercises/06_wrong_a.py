"""Fills the channel, but sends nothing after that."""

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
    ann = new_client(1)
    hub.register.send(ann)
    hub.broadcast.send(b"this one fits")
    hub.unregister.send(ann)
    hub.broadcast.send(b"ann does not get this one")

"""Sends to all clients, or only to those that the message names."""

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
                    for client in self.readers(message):
                        if not client.send.try_send(message):
                            client.send.close()
                            del self.clients[client]
                case _:  # stop is closed
                    return

    def readers(self, message):
        if not message.startswith(b"@"):
            return list(self.clients)
        name = message[1:].partition(b" ")[0]
        return [client for client in self.clients if client.name == name]

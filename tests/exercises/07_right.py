"""The hub sends its own messages like any others."""

import gochat


class Hub(gochat.Hub):
    def run(self):
        while True:
            match gochat.select(self.register, self.unregister, self.broadcast, self.stop):
                case self.register, client, _:
                    self.clients[client] = True
                    self.send_to_all(client.name + b" has come")
                case self.unregister, client, _:
                    if client in self.clients:
                        del self.clients[client]
                        client.send.close()
                case self.broadcast, message, _:
                    self.send_to_all(message)
                case _:  # stop is closed
                    return

    def send_to_all(self, message):
        for client in list(self.clients):
            if not client.send.try_send(message):
                client.send.close()
                del self.clients[client]

"""Exercise 11, medium, write: direct messages.

A message such as `@bob hello` should go only to the client named `bob`, unchanged. If there is no
such client, it goes to nobody. Any other message goes to everyone, as before. Messages and
`client.name` are bytes, and names have no spaces.
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
                    for client in list(self.clients):
                        if not client.send.try_send(message):
                            client.send.close()
                            del self.clients[client]
                case _:  # stop is closed
                    return

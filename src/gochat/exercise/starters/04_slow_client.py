"""Exercise 4, medium, fix: a slow client must not hold up the room.

This hub waits for room in a client's channel, so one client that does not read stops the chat for
everyone. Instead, the hub should drop such a client: its channel ends after the messages queued in
it, and all others get every message. The hub must wait only in `select`.
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
                        client.send.send(message)
                case _:  # stop is closed
                    return

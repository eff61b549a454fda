"""Exercise 7, medium, fix: tell the room who has come.

When a client joins, everyone in the room, including that client, should get the message
`NAME has come` before any later message. This hub sends the message on its own channel, but only
the hub receives from that channel. Fix `run`. `client.name` is bytes.
"""

import gochat


class Hub(gochat.Hub):
    def run(self):
        while True:
            match gochat.select(self.register, self.unregister, self.broadcast, self.stop):
                case self.register, client, _:
                    self.clients[client] = True
                    self.broadcast.send(client.name + b" has come")
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

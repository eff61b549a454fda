"""Broken: the read pump does not unregister its client, so the hub keeps the client."""

import socket
from threading import Thread

from gochat import Client, Conn, Hub, Settings


class Forgetful(Client):
    def read_pump(self) -> None:
        try:
            while True:
                self.hub.broadcast.send(self.conn.read_message()[1])
        except OSError:
            self.conn.close()


hub = Hub()
ours, theirs = socket.socketpair()
with ours, theirs:
    client = Forgetful(hub, Conn(ours, b"", "peer"), Settings())
    owner = Thread(target=hub.run, name="hub")
    owner.start()
    hub.register.send(client)
    theirs.close()
    client.read_pump()
    hub.stop.close()
    owner.join()
print("clients in the room:", len(hub.clients))

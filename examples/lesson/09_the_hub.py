"""The hub without sockets, with two clients that consist only of a channel."""

from threading import Thread

from gochat import Channel, Client, Hub


class Listener(Client):  # the hub uses only a client's channel
    def __init__(self, capacity: int) -> None:
        self.send = Channel(capacity)


hub = Hub()
ann, bob = Listener(2), Listener(1)
Thread(target=hub.run, name="hub").start()
hub.register.send(ann)
hub.register.send(bob)
hub.broadcast.send(b"hello")
hub.broadcast.send(b"goodbye")
hub.unregister.send(ann)
hub.stop.close()
for name, client in ("Ann", ann), ("Bob", bob):
    for message in client.send:
        print(name, "reads:", message.decode())
    print(f"{name}'s channel is closed")

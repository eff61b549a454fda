"""The pumps: a client of the chat, between a socket and the hub."""

import socket
from threading import Thread

from gochat import Client, Conn, Hub, Settings

TEXT, CLOSE = b"\x81", b"\x88"  # the first byte of a frame
MASK = b"\0\0\0\0"  # clients mask their frames; zeros leave the text readable

hub = Hub()
ours, theirs = socket.socketpair()
with ours, theirs:
    client = Client(hub, Conn(ours, b"", "peer"), Settings())
    owner = Thread(target=hub.run, name="hub")
    read_pump = Thread(target=client.read_pump, name="readPump")
    owner.start()
    hub.register.send(client)
    Thread(target=client.write_pump, name="writePump").start()
    read_pump.start()

    theirs.sendall(TEXT + b"\x85" + MASK + b"hello")
    print("the room hears:", theirs.recv(100)[2:].decode())
    theirs.sendall(CLOSE + b"\x80" + MASK)
    read_pump.join()
    hub.stop.close()
    owner.join()
print("clients in the room:", len(hub.clients))

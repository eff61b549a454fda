"""Broken: the hub loops over a dict and deletes a client from it in the loop."""

from gochat import Channel

clients = {"Bob": Channel[str](0), "Ann": Channel[str](1)}  # nobody receives, so Bob has no room
try:
    for name, send in clients.items():
        if not send.try_send("hello"):
            send.close()
            del clients[name]
except RuntimeError as error:
    print("the hub dies:", error)

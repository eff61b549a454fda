"""select with default: send if there is room, and never wait."""

from threading import Thread

from gochat import Channel

mailbox = Channel(2)


def read():
    while (received := mailbox.recv())[1]:
        print("read", received[0])
    print("closed")


for letter in ("a", "b", "c"):
    if not mailbox.try_send(letter):
        print("no room for", letter)
        mailbox.close()
        break
Thread(target=read, name="reader").start()

"""select with default: send a value only if there is room, without waiting."""

from threading import Thread

from gochat import Channel

mailbox = Channel[str](2)


def read() -> None:
    for letter in mailbox:
        print("read", letter)
    print("closed")


for letter in ("a", "b", "c"):
    if not mailbox.try_send(letter):
        print("no room for", letter)
        mailbox.close()
        break
Thread(target=read, name="reader").start()

"""Broken: when the mailbox is full, send makes main wait forever for a reader."""

from gochat import Channel

mailbox = Channel[str](2)
for letter in ("a", "b", "c"):
    print("send", letter)
    mailbox.send(letter)
print("main goes on")

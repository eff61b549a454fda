"""Broken: send, not try_send. The mailbox is full, so main waits forever for a reader."""

from gochat import Channel

mailbox = Channel[str](2)
for letter in ("a", "b", "c"):
    print("send", letter)
    mailbox.send(letter)
print("main goes on")

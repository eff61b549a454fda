"""Broken: send, not try_send. The mailbox is full, and main waits for its reader for ever."""

from gochat import Channel

mailbox = Channel[str](2)
for letter in ("a", "b", "c"):
    print("send", letter)
    mailbox.send(letter)
print("main goes on")

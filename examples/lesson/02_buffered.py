"""A buffered channel: the sender does not wait until the buffer is full."""

from threading import Thread

from gochat import Channel

letters = Channel[str](2)


def read() -> None:
    for _ in range(3):
        letter, _ = letters.recv()
        print("read", letter)


letters.send("a")
letters.send("b")
print(len(letters), "of", letters.capacity, "places are taken")
Thread(target=read, name="reader").start()
letters.send("c")

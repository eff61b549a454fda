"""Close and drain: the values sent before the close still arrive."""

from threading import Thread

from gochat import Channel

words = Channel[str](4)


def write() -> None:
    for word in ("first", "second", "third"):
        words.send(word)
    words.close()


writer = Thread(target=write, name="writer")
writer.start()
writer.join()
word, _ = words.recv()
print("received:", word)
print("drained:", " ".join(words.drain()))
nothing, ok = words.recv()
if not ok:
    print("closed")

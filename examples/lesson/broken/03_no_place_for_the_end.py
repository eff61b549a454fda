"""Broken: the sentinel is a value like any other, so a full queue has no room for it."""

from queue import Full, Queue

words: Queue[str | None] = Queue(1)
words.put("first")
try:
    words.put_nowait(None)
except Full:
    print("the queue is full: there is no place for the end")

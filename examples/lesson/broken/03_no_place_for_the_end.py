"""Broken: the end is one more value in a plain queue, and finds no place in a full one."""

from queue import Full, Queue

words: Queue[str | None] = Queue(1)
words.put("first")
try:
    words.put_nowait(None)
except Full:
    print("the queue is full: there is no place for the end")

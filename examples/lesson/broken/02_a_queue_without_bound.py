"""Broken: a queue of size 0 is unbounded, but a channel of capacity 0 holds no values."""

from queue import Queue

letters: Queue[str] = Queue(0)
for letter in ("a", "b", "c"):
    letters.put(letter)
print("nobody receives, and", letters.qsize(), "values are queued")

"""Broken: a queue of size 0 has no bound, where a channel of capacity 0 has no place."""

from queue import Queue

letters: Queue[str] = Queue(0)
for letter in ("a", "b", "c"):
    letters.put(letter)
print("nobody receives, and", letters.qsize(), "values are queued")

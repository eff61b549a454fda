"""Calculates how many entries the stream should keep.

Redis can limit a stream's number of entries, but not their size, which clients choose. So a Bound
adds up the sizes of the newest entries to find how many fit into a given number of bytes.

This module has no threads and no I/O. One thread uses a bound.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Bound"]

# Sizes are added up in this many parts. The oldest part is dropped as a whole.
_PARTS: Final = 64


class Bound:
    """The number of newest entries that are within both limits.

    maxlen: the maximum number of entries. maxbytes: their maximum total size, in bytes.
    """

    def __init__(self, maxlen: int, maxbytes: int) -> None:
        #: Number of entries that the stream should keep. Thread: any.
        self.length = maxlen
        self._maxlen: Final = maxlen
        self._maxbytes: Final = maxbytes
        # For each complete part, oldest first: the number of entries, and their size in bytes.
        self._parts: deque[tuple[float, float]] = deque()
        # For the newest part: the number of entries, and their size in bytes.
        self._new = 0
        self._size = 0
        # Whether a part was ever dropped. Until then, `length` is `maxlen`.
        self._full = False

    def begin(self, entries: int = 0, size: int = 0) -> None:
        """Start over with a stream that already has entries.

        entries: their number. size: their total size, in bytes. The entries are not read, so all
        are assumed to be equally large.
        """
        self._parts.clear()
        self._new, self._size, self._full = 0, 0, False
        self.length = self._maxlen
        for _ in range(_PARTS):
            self._close(entries / _PARTS, size / _PARTS)

    def add(self, size: int) -> None:
        """Count a new entry. size: in bytes."""
        self._new += 1
        self._size += size
        if self._new * _PARTS >= self._maxlen or self._size * _PARTS >= self._maxbytes:
            self._close(self._new, self._size)
            self._new = self._size = 0

    def _close(self, entries: float, size: float) -> None:
        """End the newest part and drop the oldest parts that no longer fit."""
        parts = self._parts
        parts.append((entries, size))
        while len(parts) > 1 and (
            sum(size for _, size in parts) > self._maxbytes
            or sum(entries for entries, _ in parts) - parts[0][0] >= self._maxlen
        ):
            self._full = True
            parts.popleft()
        if self._full:
            self.length = max(1, min(self._maxlen, int(sum(entries for entries, _ in parts))))

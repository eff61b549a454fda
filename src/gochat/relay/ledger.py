"""Tracks which messages of each process have been seen.

Each process numbers its messages from 1, and an entry contains the number of its first message. A
process may append an entry twice, if it does not know whether the first attempt succeeded. So a
number seen before means a duplicate, and a gap in the numbers means that the stream has lost an
entry.

Some gaps are found only through announcements. Every few seconds, each process announces its next
number, which shows whether its last messages are lost. For each process that started later, it also
announces the number that it had reached when that process started, which tells the later process
where to begin. Until then, the later process assumes that it has missed nothing.

This module has no threads and no I/O. One thread uses a ledger.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from .entry import Id, started

__all__ = ["Ledger", "Verdict"]

# The maximum number of processes to remember that were heard from once, and also of those that
# were heard from more often. A restarted process counts as a new one.
_PROCESSES: Final = 1000


class Verdict(NamedTuple):
    """The result of `Ledger.take`."""

    #: Whether the entry has been seen. Checking the entry's first number is enough, because a
    #: process repeats only whole entries.
    seen: bool
    #: Number of the process's messages that are missing just before the entry.
    missing: int


class Ledger:
    """The highest number seen from each process.

    since: the id after which this process reads all entries.
    """

    def __init__(self, since: Id) -> None:
        #: If the id of a process's first entry is higher than this, all messages of the process
        #: count, from number 1 on.
        self.since = since
        # The highest numbers of processes heard from once, and of processes heard from more often.
        # They are separate, so that invented names, each used once, push out only each other.
        self._once: OrderedDict[bytes, int] = OrderedDict()
        self._again: OrderedDict[bytes, int] = OrderedDict()
        # For each process that started before this one: one less than the number of the first
        # message heard from it. Removed when that process announces the number it had reached.
        self._guesses: dict[bytes, int] = {}

    def knows(self, process: bytes) -> bool:
        """Return whether an entry of the process has been seen."""
        return process in self._again or process in self._once

    def is_new(self, process: bytes) -> bool:
        """Return whether the process has been heard from at most once."""
        return process not in self._again

    def take(self, process: bytes, first: int, count: int) -> Verdict:
        """Record an entry with `count` messages. first: the number of its first message."""
        known, last = self._again, self._again.get(process, self._once.pop(process, None))
        if last is None:
            known, last = self._once, 0
            if started(process) < self.since:
                last = self._guesses[process] = first - 1
        known[process] = max(last, first + count - 1)
        known.move_to_end(process)
        if len(known) > _PROCESSES:
            forgotten, _ = known.popitem(last=False)
            self._guesses.pop(forgotten, None)
        return Verdict(first <= last, max(first - last - 1, 0))

    def begins(self, process: bytes, number: int) -> int:
        """Record the number that a process had reached when this process joined.

        Returns how many of the messages after that number this process has missed.
        """
        if not self.knows(process):
            self._once[process] = number
            return 0
        return max(self._guesses.pop(process, 0) - number, 0)

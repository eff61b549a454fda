"""Tracks the messages seen from each process. No threads and no I/O; used by one thread.

Each process numbers its clients' messages from 1. A stream entry has the process, the number of its
first message, and the messages. A process appends an entry again if it does not come back, so the
stream may contain an entry twice. If the stream loses an entry, there is a gap.

A gap at the end is found when the process announces its next number, every few seconds. A gap at
the beginning is found because each process announces which number it had reached when a later
process started. Until this announcement, the first number heard is used as a guess.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from .entry import Id, started

__all__ = ["Ledger", "Verdict"]

# How many of the latest processes are remembered: this many that were heard once, and as many that
# were heard more often. Each start of a process adds one.
_PROCESSES: Final = 1000


class Verdict(NamedTuple):
    """The part of an entry that is new."""

    #: Whether any of its numbers has been seen. Then the whole entry has been seen: a process
    #: appends an entry as a whole and may append the same entry again.
    seen: bool
    #: How many messages of the process are missing before the entry.
    missing: int


class Ledger:
    """The last number of each process.

    since: the id after which all entries are read.
    """

    def __init__(self, since: Id) -> None:
        #: A process whose first entry comes after this id is heard from its first message on.
        self.since = since
        # The processes heard once, and those heard more often. Invented names, each used for one
        # entry, push out only each other.
        self._once: OrderedDict[bytes, int] = OrderedDict()
        self._again: OrderedDict[bytes, int] = OrderedDict()
        # For each process that started before this one and has not yet announced the number that it
        # had reached: one less than the first number heard from it.
        self._guesses: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Return how many processes have been heard more than once. Thread: any."""
        return len(self._again)

    def knows(self, process: bytes) -> bool:
        """Return whether anything from the process has been seen."""
        return process in self._again or process in self._once

    def is_new(self, process: bytes) -> bool:
        """Return whether the process has not been heard more than once."""
        return process not in self._again

    def take(self, process: bytes, first: int, count: int) -> Verdict:
        """Note an entry with `count` messages, numbered from `first`."""
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
        """Note the number of the last message that a process sent before this process joined.

        Returns how many messages are missing between that message and the first one heard.
        """
        if not self.knows(process):
            self._once[process] = number
            return 0
        return max(self._guesses.pop(process, 0) - number, 0)

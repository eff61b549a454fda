"""Which messages of which process have been seen. No thread and no I/O: for one thread.

Each process numbers the messages of its clients from 1. An entry of the stream has the process, the
number of its first message, and the messages. A process appends an entry again if it does not come
back, so an entry may be there twice; and a stream may lose entries, which shows as a gap.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

__all__ = ["Ledger", "Verdict"]

# How many processes are remembered: those heard last. A new one comes with every start.
_PROCESSES: Final = 1000


class Verdict(NamedTuple):
    """What an entry is, beside what was seen before."""

    #: How many messages at its begin have been seen.
    seen: int
    #: How many messages of the process are missing before it.
    missing: int


class Ledger:
    """The last number of each process.

    since: the position in the stream, as its id, from which everything is read.
    """

    def __init__(self, since: tuple[int, int]) -> None:
        self._since = since
        self._last: OrderedDict[bytes, int] = OrderedDict()

    def knows(self, process: bytes) -> bool:
        """Whether anything of the process has been seen."""
        return process in self._last

    def take(self, process: bytes, first: int, count: int) -> Verdict:
        """Note an entry of so many messages, the first of which has this number."""
        last = self._last.get(process)
        if last is None:
            # A process that has started later than this one is heard from its first message on.
            # Of one that was there before, what it has said before is none of ours.
            last = 0 if started(process) >= self._since else first - 1
        end = first + count - 1
        self._last[process] = max(last, end)
        self._last.move_to_end(process)
        if len(self._last) > _PROCESSES:
            self._last.popitem(last=False)
        return Verdict(min(max(last - first + 1, 0), count), max(first - last - 1, 0))


def started(process: bytes) -> tuple[int, int]:
    """The position of the stream at which a process has started: its id begins with that."""
    try:
        milliseconds, _, rest = process.partition(b"-")
        return int(milliseconds), int(rest.partition(b".")[0])
    except ValueError:
        return (-1, 0)

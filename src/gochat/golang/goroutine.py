"""What goroutines wait for, and who is told of what they do: for those who look inside.

The same in every runtime; on greenlets, read "greenlet" for "thread". `threading.get_ident` gives
the ident of either.

A thread that waits for a channel says so here; one that stands in line for a turn stands in
`Turns.statistics()`, and one that waits for its connection in `Conn.statistics()`. Where there is
nothing of a thread, it is at work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = ["ChannelStatistics", "Observer", "TurnsStatistics", "waits"]

#: By the ident of a thread, what it waits for: `send`, until its value is taken; or `recv`, for a
#: value. Each thread sets and unsets its own. One whose wait was interrupted may be here until it
#: waits again.
waits: Final[dict[int, str]] = {}


class Observer(Protocol):
    """Is told of what happens on a channel, by the thread that does it: that waits meanwhile."""

    def received(self, channel: Any, value: Any) -> None:
        """A value was received, or CLOSED, and the receiver does not know it yet.

        What this raises is raised by the receive, which then has not happened.
        """

    def closed(self, channel: Any) -> None:
        """The channel was closed."""


@dataclass(frozen=True)
class ChannelStatistics:
    """What is in a channel, who waits for it, and what it has done so far.

    Each figure is read as it is, so two of them may differ by what happens meanwhile. An operation
    that was interrupted may count, although it was undone.
    """

    capacity: int
    #: Values that are queued.
    queued: int
    closed: bool

    #: Threads that wait to send.
    senders: int
    #: The thread that receives in turn, or did last; None before.
    receiver: int | None
    #: Whether a thread waits to receive, and has not been woken.
    receiver_waits: bool

    #: Values that were sent, without those of `senders`; and of them the ones that were received.
    sent: int
    received: int
    #: Values that `try_send` had no room for.
    refused: int
    #: At place b, how many calls of `drain` have returned a number of values that has b bits: 0,
    #: 1, 2 or 3, 4 to 7, and so on.
    drains: tuple[int, ...]
    #: Values that were queued when the channel was closed.
    queued_at_close: int


@dataclass(frozen=True)
class TurnsStatistics:
    """Who has a turn and who waits for one. Threads are given by `threading.get_ident`."""

    #: How many turns there are.
    limit: int
    #: The threads that have one.
    holders: tuple[int, ...]
    #: The threads that wait for one, first come first.
    line: tuple[int, ...]

"""The waits of goroutines, the statistics of channels and turns, and the observer of a channel.

The same for both runtimes; for greenlets, read "greenlet" for "thread". `threading.get_ident` gives
the ident of either.

A thread that waits for a channel is recorded here. One that waits for a turn is in
`Turns.statistics()`, and one that waits for its connection in `Conn.statistics()`. A thread that is
in none of them is working.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = ["ChannelStatistics", "Observer", "TurnsStatistics", "waits"]

#: The operation in which each waiting thread waits, by its ident: `send`, until its value is taken;
#: or `recv`, for a value. Each thread sets and unsets its own. A thread whose wait was interrupted
#: may be here until it waits again.
waits: Final[dict[int, str]] = {}


class Observer(Protocol):
    """Hears what happens on a channel. Each method delays the thread that calls it."""

    def received(self, channel: Any, value: Any) -> None:
        """Called when a value or CLOSED was received, before the receiver gets it.

        An exception comes out of the receive, and undoes it.
        """

    def closed(self, channel: Any) -> None:
        """Called when the channel was closed."""


@dataclass(frozen=True)
class ChannelStatistics:
    """The contents of a channel, who waits for it, and its counts so far.

    The figures are read one after another, not all at the same moment. An interrupted operation may
    count, although it was undone.
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
    """Who has a turn and who waits for one, as idents of `threading.get_ident`."""

    #: How many turns there are.
    limit: int
    #: The threads that have one.
    holders: tuple[int, ...]
    #: The threads that wait for one, first come first.
    line: tuple[int, ...]

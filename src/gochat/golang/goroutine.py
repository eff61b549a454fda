"""For both runtimes: the base of their threads, and the statistics of channels and turns.

On greenlets, read "greenlet" for "thread". `threading.get_ident` returns the ident of either.

To find out what a thread is waiting for, look in three places: `waits` for a channel,
`Turns.statistics()` for a turn, and `Conn.statistics()` for a connection. If it is in none of them,
it is working.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = [
    "ChannelStatistics",
    "Goroutine",
    "Observer",
    "TurnsStatistics",
    "waits",
]

# Source of the objects that all started threads share.
_STARTED: Final[Any] = threading.Thread()
_STARTED._started.set()

#: Maps the ident of each thread that waits for a channel to `send` or `recv`. Each thread adds and
#: removes its own entry. After an interrupt, an entry may stay until the thread waits again.
waits: Final[dict[int, str]] = {}


class Goroutine(threading.Thread):
    """A daemon thread that calls a function. The base class of each runtime's `Thread`.

    It uses less memory than a `threading.Thread`: all Goroutines share the function that reports an
    exception, and `run` needs less stack.

    target: the function to call. name: the thread's name.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._function: Callable[[], object] | None = target
        self._invoke_excepthook = _STARTED._invoke_excepthook

    def _share_started(self) -> None:
        """Replace the start event, which is set from now on, with one that all Goroutines share."""
        self._started = _STARTED._started

    def run(self) -> None:
        """Call the target. Thread: this one."""
        assert self._function is not None, "a thread runs once"
        try:
            self._function()
        finally:
            self._function = None  # it may refer to this thread


class Observer(Protocol):
    """Receives the events of a channel. Each method runs on the thread that causes the event."""

    def received(self, channel: Any, value: Any) -> None:
        """Called when a value or CLOSED is received, before the operation returns it.

        If this raises an exception, the receive is undone and raises that exception.
        """

    def closed(self, channel: Any) -> None:
        """Called after the channel was closed."""


@dataclass(frozen=True)
class ChannelStatistics:
    """State of a channel, its waiting threads and its counters.

    The values are read one after another, so they may not fit together exactly. An operation that
    was interrupted and undone may still be counted.
    """

    capacity: int
    #: Values that are queued.
    queued: int
    closed: bool

    #: The number of threads that wait to send.
    senders: int
    #: In a channel with turns: ident of the last thread that received. Otherwise None.
    receiver: int | None
    #: Whether a thread is waiting to receive and has not been woken.
    receiver_waits: bool

    #: Values sent, not counting those of waiting `senders`.
    sent: int
    #: Values received.
    received: int
    #: Values that `try_send` could not send.
    refused: int
    #: Calls of `drain`, by the bit length of the number of values returned. So the counts are for
    #: 0 values, 1, 2 to 3, 4 to 7, and so on.
    drains: tuple[int, ...]
    #: Values that were queued when the channel was closed.
    queued_at_close: int


@dataclass(frozen=True)
class TurnsStatistics:
    """Threads that have a turn or wait for one, as idents from `threading.get_ident`."""

    #: The number of turns.
    limit: int
    #: Threads that have a turn.
    holders: tuple[int, ...]
    #: Threads that wait for a turn, longest wait first.
    line: tuple[int, ...]

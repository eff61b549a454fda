"""The base of threads; statistics of threads, channels and turns; the observer of a channel.

Both runtimes use this; for greenlets, read "greenlet" for "thread". `threading.get_ident` returns
the ident of either.

A thread that waits for a channel is recorded here. A thread that waits for a turn is in
`Turns.statistics()`, and a thread that waits for its connection is in `Conn.statistics()`. A thread
that is in none of these is working.
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

# Has what all threads that have started can share.
_STARTED: Final[Any] = threading.Thread()
_STARTED._started.set()

#: The operation that each waiting thread is in, by its ident: `send` until its value is taken, or
#: `recv` until it gets a value. Each thread sets and removes its own entry. If a wait was
#: interrupted, the entry may stay until the thread waits again.
waits: Final[dict[int, str]] = {}


class Goroutine(threading.Thread):
    """A daemon thread that calls a function: the base of each runtime's `Thread`.

    All these threads share the function that reports an exception. The base class calls the target
    in a way that needs more of the stack.

    target: the function to call. name: the thread's name.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._function: Callable[[], object] | None = target
        self._invoke_excepthook = _STARTED._invoke_excepthook

    def _share_started(self) -> None:
        """Drop this thread's event for its start, which is set, for one that all threads share."""
        self._started = _STARTED._started

    def run(self) -> None:
        """Call the target. Thread: this one."""
        assert self._function is not None, "a thread runs once"
        try:
            self._function()
        finally:
            self._function = None  # it may refer to this thread


class Observer(Protocol):
    """Observes a channel. Each method delays the thread that calls it."""

    def received(self, channel: Any, value: Any) -> None:
        """Called when a value or CLOSED was received, before the receiver gets it.

        If this raises an exception, the receive is undone and raises that exception.
        """

    def closed(self, channel: Any) -> None:
        """Called when the channel was closed."""


@dataclass(frozen=True)
class ChannelStatistics:
    """The contents of a channel, who waits for it, and its counts so far.

    The values are read one after another, not all at the same moment. An interrupted operation may
    be counted even though it was undone.
    """

    capacity: int
    #: Values that are queued.
    queued: int
    closed: bool

    #: Threads that wait to send.
    senders: int
    #: In a channel with turns: the thread that is receiving, or was the last to receive. None if no
    #: thread has received, and for a channel without turns.
    receiver: int | None
    #: Whether a thread is waiting to receive and has not been woken.
    receiver_waits: bool

    #: Values that were sent, not counting those of waiting `senders`; and values received.
    sent: int
    received: int
    #: Values that `try_send` had no room for.
    refused: int
    #: Calls of `drain`, by the bit length of the number of values returned: 0, 1, 2 or 3, 4 to 7,
    #: and so on.
    drains: tuple[int, ...]
    #: Values that were queued when the channel was closed.
    queued_at_close: int


@dataclass(frozen=True)
class TurnsStatistics:
    """Who has a turn and who waits for one, by `threading.get_ident`."""

    #: The number of turns.
    limit: int
    #: The threads that have a turn.
    holders: tuple[int, ...]
    #: The threads that wait for a turn, longest wait first.
    line: tuple[int, ...]

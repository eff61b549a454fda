"""The base class of both runtimes' threads, the observer of channels, and statistics.

In this module, "thread" also means a greenlet. `threading.get_ident` returns the ident of either.

Four places show what a thread is waiting for: `waits` or `Channel.statistics()` if it is a channel,
`Turns.statistics()` if it is a turn, and `Conn.statistics()` if it is a connection. A thread in
none of these places is working.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "ChannelStatistics",
    "Goroutine",
    "Observer",
    "TurnsStatistics",
    "waits",
]

# A thread that never runs. All Goroutines share its start event and its exception hook.
_STARTED: Final[Any] = threading.Thread()
_STARTED._started.set()

#: Maps the idents of threads that wait for a channel to `send` or `recv`. The receiver of a channel
#: with turns is not included; see `ChannelStatistics.receiver_waits`. Each thread adds and removes
#: its own entry. After an interrupt, an entry may remain until the thread waits again.
waits: Final[dict[int, str]] = {}


class Goroutine(threading.Thread):
    """A daemon thread that calls a function. The base class of each runtime's `Thread`.

    It uses less memory than a `threading.Thread`: all Goroutines share the function that reports
    exceptions, and `run` needs less stack.

    target: the function to call. name: the thread's name.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._function: Callable[[], object] | None = target
        self._invoke_excepthook = _STARTED._invoke_excepthook

    def _share_started(self) -> None:
        """Mark this thread as started, using an event that all Goroutines share."""
        self._started = _STARTED._started

    def run(self) -> None:
        """Call the target. Thread: this one."""
        assert self._function is not None, "a thread runs once"
        try:
            self._function()
        finally:
            self._function = None  # it may refer to this thread


class Observer:
    """Receives the events of channels; see `Channel.observe`. By default, it ignores them.

    Each method runs on the thread that causes the event. Only `received` may raise an exception.
    """

    def sends(self, channel: Any, value: Any) -> None:
        """Called before a thread sends a value, which may have to wait."""

    def sent(self, channel: Any, value: Any) -> None:
        """Called when the send has succeeded. The value may have been received already."""

    def refused(self, channel: Any, value: Any) -> None:
        """Called instead of `sent` if the send returns False or raises an exception."""

    def waits(self, channel: Any) -> None:
        """Called before a thread waits for a value from this channel, and perhaps from others."""

    def received(self, channel: Any, value: Any) -> None:
        """Called when a value or CLOSED is received, before the operation returns it.

        If this method raises an exception, the receive is undone and raises it.
        """

    def drained(self, channel: Any, values: Sequence[Any]) -> None:
        """Called when `drain` has received values, before it returns them."""

    def closes(self, channel: Any) -> None:
        """Called before the channel is closed."""


@dataclass(frozen=True)
class ChannelStatistics:
    """A channel's state, its waiting threads and its counters.

    The values are read one after another, so they may not be quite consistent. An operation that
    was interrupted and undone may still be counted.
    """

    capacity: int
    #: The number of queued values.
    queued: int
    closed: bool

    #: The number of threads that are waiting to send.
    senders: int
    #: In a channel with turns, the ident of the last thread that received; otherwise None.
    receiver: int | None
    #: Whether a thread is waiting to receive and has not been woken.
    receiver_waits: bool

    #: The number of values sent, not counting those of waiting `senders`.
    sent: int
    #: The number of values received.
    received: int
    #: The number of values that `try_send` could not send.
    refused: int
    #: How many calls of `drain` returned 0 values, 1, 2 to 3, 4 to 7, and so on. The index is the
    #: bit length of the number of values.
    drains: tuple[int, ...]
    #: The number of values that were queued when the channel was closed.
    queued_at_close: int


@dataclass(frozen=True)
class TurnsStatistics:
    """The idents of threads that have a turn or wait for one."""

    #: The number of turns.
    limit: int
    #: The threads that have a turn.
    holders: tuple[int, ...]
    #: The threads that wait for a turn, longest wait first.
    line: tuple[int, ...]

"""The base class of both runtimes' channels, and what a closed channel returns or raises."""

from __future__ import annotations

import operator
import queue
import time
from contextlib import nullcontext
from functools import partial
from itertools import repeat, starmap, takewhile
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .goroutine import ChannelStatistics, Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "CLOSED",
    "AbandonedChannelError",
    "ClosedChannelError",
    "Closing",
    "deadline_of",
]

T = TypeVar("T")

# The methods of an Observer that are called by sends.
_SENDS: Final = ("sends", "sent", "refused")


class ClosedChannelError(RuntimeError):
    """Raised by a send on a closed channel, or by a second close. In Go, both panic."""


class AbandonedChannelError(ConnectionAbortedError):
    """Raised by a send on a channel whose receiver has failed.

    In Go, the receiver's failure would have ended the program. Here, a pump handles this exception
    like any failure of its connection.
    """


class _Sentinel:
    def __repr__(self) -> str:
        return "CLOSED"


#: Returned by `Channel.get` when a closed channel has no values left.
CLOSED: Final[Any] = _Sentinel()


class Closing(queue.Queue[T]):
    """A `queue.Queue` that can be closed: the part of a channel that both runtimes share."""

    # The inherited methods acquire this. Each reads only one length, so no real lock is needed.
    mutex = nullcontext()  # type: ignore[assignment]

    def __init__(self, capacity: int) -> None:
        # queue.Queue's constructor is not called, because a channel needs no condition variables.
        if capacity < 0:
            raise ValueError(f"negative capacity: {capacity}")
        self.maxsize = max(capacity, 1)
        self.capacity: Final = capacity
        # Whether sends are refused, and whether `abandon` was called. Neither is ever reset.
        self._closed = self._abandoned = False
        # `try_send` may queue a value without further checks if the queue is shorter than this: the
        # capacity, or 0 if sends are observed or the channel is closed.
        self._accepts = capacity
        #: Receive the channel's events; see `observe`.
        self.observers: tuple[Observer, ...] = ()
        # Counters for ChannelStatistics. The receiver writes these:
        self._received = 0
        self._drains = [0] * 32
        # The sending side writes these; `_left` is `queued_at_close`:
        self._refused = self._left = 0

    def __len__(self) -> int:
        """Return the number of queued values; 0 for an unbuffered channel. Thread: any."""
        return len(self.queue) if self.capacity else 0

    def __bool__(self) -> bool:
        """Return True, even if the channel is empty. Thread: any."""
        return True

    def full(self) -> bool:
        """Return whether the channel is full; True if it is unbuffered. Thread: any."""
        return len(self.queue) >= self.capacity

    def observe(self, observer: Observer) -> None:
        """Report the channel's events to an observer. Call before the channel is used.

        If a channel has several observers, the one that was added last gets each event first.

        If the observer has a method for sends, `try_send` is slower, because it makes all its
        checks.
        """
        self.observers = (observer, *self.observers)
        if any(_function(observer, name) is not getattr(Observer, name) for name in _SENDS):
            self._accepts = 0

    def send(self, value: T) -> None:
        """Send a value. Waits for room or, if the channel is unbuffered, for a receiver.

        If a thread sends to several unbuffered channels, `select` receives the values in the order
        in which they were sent. Raises ClosedChannelError if the channel is closed before or during
        the wait. Thread: any.
        """
        self._send(value, None)

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Send a value, with the arguments of `queue.Queue.put`.

        Raises queue.Full if the value cannot be sent in time, and ClosedChannelError as `send`
        does.
        """
        if block:
            self._send(item, deadline_of(timeout))
        elif not self.try_send(item):
            raise queue.Full

    def __iter__(self) -> Iterator[T]:
        """Receive until the channel is closed and drained (Go: range). Thread: the receiver."""
        # No Python code runs between `get` and the loop's body, because an interrupt in that code
        # would lose the value.
        return takewhile(partial(operator.is_not, CLOSED), starmap(self.get, repeat(())))

    # Methods of queue.Queue that a channel does not support.

    def shutdown(self, immediate: bool = False) -> None:
        """Raise NotImplementedError."""
        raise NotImplementedError("a channel has no shutdown: use close")

    def task_done(self) -> None:
        """Raise NotImplementedError."""
        raise NotImplementedError("a channel counts no tasks: receive until it is closed")

    join = task_done

    if TYPE_CHECKING:  # each runtime implements these methods

        def try_send(self, value: T) -> bool: ...
        def _wait_to_send(self, value: T, deadline: float | None) -> None: ...

    # For the runtimes.

    def _send(self, value: T, deadline: float | None) -> None:
        if self.observers:
            self._observed(self._wait_to_send, value, deadline)
        else:
            self._wait_to_send(value, deadline)

    def _observed(self, send: Callable[..., bool | None], value: T, *args: object) -> bool:
        """Call `send`, report what happens, and return whether the value was sent."""
        for observer in self.observers:
            observer.sends(self, value)
        sent = False
        try:
            sent = send(value, *args) is not False
        finally:
            for observer in self.observers:
                (observer.sent if sent else observer.refused)(self, value)
        return sent

    def _check_open(self, what: str = "send on") -> None:
        if self._abandoned:
            raise AbandonedChannelError("the channel has lost its receiver")
        if self._closed:
            raise ClosedChannelError(f"{what} closed channel")

    def _statistics(
        self, *, senders: int, receiver: int | None, receiver_waits: bool
    ) -> ChannelStatistics:
        queued, received = len(self), self._received
        return ChannelStatistics(
            capacity=self.capacity,
            queued=queued,
            closed=self._closed,
            senders=senders,
            receiver=receiver,
            receiver_waits=receiver_waits,
            sent=received + queued,
            received=received,
            refused=self._refused,
            drains=tuple(self._drains),
            queued_at_close=self._left,
        )


def _function(observer: Observer, name: str) -> object:
    """Return the function of an observer's method; None if the attribute is not a method."""
    return getattr(getattr(observer, name), "__func__", None)


def deadline_of(timeout: float | None) -> float | None:
    """Return the deadline for a timeout; None for None. Raises ValueError if it is negative."""
    if timeout is None:
        return None
    if timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return time.monotonic() + timeout

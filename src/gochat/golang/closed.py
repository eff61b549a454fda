"""The base of the channels of both runtimes: the closed state, and unsupported methods."""

from __future__ import annotations

import time
from typing import Any, Final

__all__ = [
    "CLOSED",
    "AbandonedChannelError",
    "ClosedChannelError",
    "Closing",
    "deadline_of",
]


class ClosedChannelError(RuntimeError):
    """Raised by a send on a closed channel, or by a second close. In Go, these panic."""


class AbandonedChannelError(ConnectionAbortedError):
    """Raised by a send on a channel if its receiver has failed.

    In Go, that failure would have ended the program. Here, a pump treats this exception as the end
    of its connection.
    """


class _Sentinel:
    def __repr__(self) -> str:
        return "CLOSED"


#: Returned by `Channel.get` after the last value of a closed channel.
CLOSED: Final[Any] = _Sentinel()


class Closing:
    """A base class of both Channel classes, which set its fields."""

    _closed: bool
    _abandoned: bool

    def _check_open(self, what: str = "send on") -> None:
        if self._abandoned:
            raise AbandonedChannelError("the channel has lost its receiver")
        if self._closed:
            raise ClosedChannelError(f"{what} closed channel")

    # Methods of queue.Queue that a channel does not support.

    def shutdown(self, immediate: bool = False) -> None:
        """Raise NotImplementedError."""
        raise NotImplementedError("a channel has no shutdown: use close")

    def task_done(self) -> None:
        """Raise NotImplementedError."""
        raise NotImplementedError("a channel counts no tasks: receive until it is closed")

    join = task_done


def deadline_of(timeout: float | None) -> float | None:
    """Return the deadline for a timeout, as in queue.Queue. Raises ValueError if it is negative."""
    if timeout is None:
        return None
    if timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return time.monotonic() + timeout

"""The end of a channel, which is the same in every runtime."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["CLOSED", "AbandonedChannelError", "ClosedChannelError"]


class ClosedChannelError(RuntimeError):
    """A send on a closed channel, or a second close: a run-time panic in Go."""


class AbandonedChannelError(ConnectionAbortedError):
    """A send on a channel that nobody will receive from: the end of the program in Go.

    Not a mistake of the sender's, so a pump that sends takes it as the end of its connection.
    """


class _Sentinel:
    def __repr__(self) -> str:
        return "CLOSED"


#: Stands after the last value of a closed channel; `Channel.get` returns it.
CLOSED: Final[Any] = _Sentinel()

"""What threads wait for, and who is told of what they do: for those who look inside.

A thread that waits for a channel says so here; one that stands in line for a turn stands in
`Turns.statistics()`, and one that waits for its connection in `Conn.statistics()`. Where there is
nothing of a thread, it is at work.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

__all__ = ["Observer", "waits"]

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

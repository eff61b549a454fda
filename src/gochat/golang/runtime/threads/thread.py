"""Threads for connections; there may be thousands of them (in Go: goroutines)."""

from __future__ import annotations

from ...goroutine import Goroutine

__all__ = ["Thread"]


class Thread(Goroutine):
    """A daemon thread that uses two kilobytes less than a `threading.Thread`.

    `start` waits for an event, which a `threading.Thread` then keeps. After the start this event
    is always set, so these threads share one.

    target: the function to call. name: the thread's name.
    """

    def start(self) -> None:
        """Start the thread. Raises RuntimeError as `threading.Thread.start` does."""
        super().start()
        self._share_started()

    def reserve(self) -> None:
        """Start the thread, since the system may have no more later. Raises as `start` does."""
        self.start()

    def begin(self) -> None:
        """Make a reserved thread run, which it does already."""

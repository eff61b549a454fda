"""Threads for connections; there may be thousands of them (in Go: goroutines)."""

from __future__ import annotations

import threading
from typing import Final

__all__ = ["Thread"]

# The event that all started threads share.
_STARTED: Final = threading.Event()
_STARTED.set()


class Thread(threading.Thread):
    """A `threading.Thread` that uses a kilobyte less once it has started.

    `start` waits for an event, which a `threading.Thread` then keeps. After the start this event
    is always set, so these threads share one.
    """

    def start(self) -> None:
        """Start the thread. Raises RuntimeError as `threading.Thread.start` does."""
        super().start()
        self._started = _STARTED

"""Threads for connections; there may be thousands of them (in Go: goroutines)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Thread"]

# Has what all threads that have started can share.
_STARTED: Final[Any] = threading.Thread()
_STARTED._started.set()


class Thread(threading.Thread):
    """A daemon thread that uses two kilobytes less than a `threading.Thread`.

    `start` waits for an event, which a `threading.Thread` then keeps. After the start this event
    is always set, so these threads share one, and a function that reports an exception. The base
    class calls the target in a way that needs more of the stack.

    target: the function to call. name: the thread's name.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._function: Callable[[], object] | None = target
        self._invoke_excepthook = _STARTED._invoke_excepthook

    def start(self) -> None:
        """Start the thread. Raises RuntimeError as `threading.Thread.start` does."""
        super().start()
        self._started = _STARTED._started

    def reserve(self) -> None:
        """Start the thread, since the system may have no more later. Raises as `start` does."""
        self.start()

    def begin(self) -> None:
        """Make a reserved thread run, which it does already."""

    def run(self) -> None:
        """Call the target. Thread: this one."""
        assert self._function is not None, "a thread runs once"
        try:
            self._function()
        finally:
            self._function = None  # it may refer to this thread

"""A greenlet that waits for another, or for a deadline."""

from __future__ import annotations

import time
from typing import Any, Final

from gevent import get_hub, getcurrent

from ...goroutine import waits

__all__ = ["Waiter"]

_YEAR: Final = 365 * 86400.0


class Waiter:
    """A place where one greenlet at a time waits.

    A timer outlives the wait that it was set for. A new one is set only when that has rung or has
    to ring earlier: to set one for each wait would cost more than the wait.
    """

    __slots__ = ("_due", "_greenlet", "_resume", "_rings", "_timer", "hub")

    def __init__(self) -> None:
        #: Runs the loop, and the greenlets.
        self.hub: Final = get_hub()
        # The greenlet that waits, and its deadline.
        self._greenlet: Any = None
        self._due: float | None = None
        # What will resume the greenlet, once it was woken.
        self._resume: Any = None
        # The timer, and when it rings.
        self._timer: Any = None
        self._rings: float | None = None

    def park(self, deadline: float | None = None) -> bool:
        """Wait until `wake`. Return False if `time.monotonic()` reaches the deadline before."""
        if deadline is not None:
            if deadline <= time.monotonic():
                return False
            self._due = deadline
            if self._rings is None or self._rings > deadline:
                self._set_timer(deadline)
        self._greenlet = getcurrent()
        try:
            return bool(self.hub.switch())
        except BaseException:
            if self._resume is not None:
                self._resume.stop()
            raise
        finally:
            self._greenlet = self._due = self._resume = None

    def park_for(self, what: str, deadline: float | None) -> bool:
        """`park`, and say in `waits` what for."""
        ident = id(getcurrent())  # as threading.get_ident has it
        waits[ident] = what
        try:
            return self.park(deadline)
        finally:
            del waits[ident]

    def wake(self) -> None:
        """Resume the greenlet that waits, if there is one, after those that are ready."""
        if self._greenlet is not None and self._resume is None:
            self._resume = self.hub.loop.run_callback(self._greenlet.switch, True)

    def resume(self) -> None:
        """Resume the greenlet that waits, at once. Only for what gevent's loop calls."""
        if self._greenlet is not None and self._resume is None:
            self._greenlet.switch(True)

    def end(self) -> None:
        """Stop the timer. Call this when the waiter is of no more use."""
        if self._rings is not None:
            self._timer.stop()
            self._rings = None

    def _set_timer(self, deadline: float) -> None:
        self.end()
        # One that would ring in more than a year rings then, and is set anew.
        left = min(max(0.0, deadline - time.monotonic()), _YEAR)
        self._timer = self.hub.loop.timer(left)
        self._timer.start(self._ring)
        self._rings = deadline

    def _ring(self) -> None:
        self._rings = None
        if self._due is None or self._resume is not None:
            return
        if self._due > time.monotonic():
            self._set_timer(self._due)
        else:
            self._greenlet.switch(False)

"""Waiting for another greenlet or for a deadline."""

from __future__ import annotations

import time
from typing import Any, Final

from gevent import get_hub, getcurrent

from ...goroutine import waits

__all__ = ["Waiter"]

_YEAR: Final = 365 * 86400.0


class Waiter:
    """Lets one greenlet at a time wait.

    A timer is kept after the wait that it was set for. It is replaced only when it has fired or
    must fire earlier, because a new timer for each wait would cost more than the wait.
    """

    __slots__ = ("_due", "_greenlet", "_resume", "_rings", "_timer", "hub")

    def __init__(self) -> None:
        #: Runs the loop, and the greenlets.
        self.hub: Final = get_hub()
        # The waiting greenlet, and its deadline.
        self._greenlet: Any = None
        self._due: float | None = None
        # After a wake-up: the callback that will resume the greenlet.
        self._resume: Any = None
        # The timer, and when it fires.
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
        """Call `park`, and record in `waits` what for."""
        ident = id(getcurrent())  # like threading.get_ident
        waits[ident] = what
        try:
            return self.park(deadline)
        finally:
            del waits[ident]

    def wake(self) -> None:
        """Resume the waiting greenlet, if there is one, after those that are ready."""
        if self._greenlet is not None and self._resume is None:
            self._resume = self.hub.loop.run_callback(self._greenlet.switch, True)

    def resume(self) -> None:
        """Resume the waiting greenlet at once. Only for callbacks of gevent's loop."""
        if self._greenlet is not None and self._resume is None:
            self._greenlet.switch(True)

    def end(self) -> None:
        """Stop the timer. Call this when the waiter is no longer needed."""
        if self._rings is not None:
            self._timer.stop()
            self._rings = None

    def _set_timer(self, deadline: float) -> None:
        self.end()
        # A timer fires after a year at the latest, and is then set again.
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

"""Waiters, and the line of ready greenlets.

In gevent, a greenlet that waits switches to the loop, which switches to the next greenlet. To save
one of these two switches, this module keeps its own line of woken greenlets. A greenlet that waits
switches directly to the first greenlet in line. It switches to the loop only if the line is empty,
or if the loop has not run for _SLICE seconds.
"""

from __future__ import annotations

import math
from collections import deque
from time import monotonic
from typing import Any, Final

from gevent import get_hub, getcurrent
from greenlet import greenlet

from ...goroutine import waits

__all__ = ["HUB", "Waiter"]

#: The greenlet that runs gevent's loop.
HUB: Final = get_hub()

# The time after which the loop checks sockets and timers again, in seconds.
_SLICE: Final = 0.005

_YEAR: Final = 365 * 86400.0

_NEVER: Final = math.inf

# Switches to gevent's loop. `Hub.switch` would take more time and stack.
_to_loop: Final = greenlet.switch.__get__(HUB)


# The greenlets that were woken and have not run since, in the order of their wake-ups. A greenlet
# removes itself when it runs. The greenlet that switches to it must not remove it: if a signal
# handler raised an exception between the removal and the switch, the woken greenlet would never
# run.
_line: Final[deque[Waiter]] = deque()


class _Ready:
    """Runs the greenlets in line."""

    __slots__ = ("_later", "planned", "until")

    def __init__(self) -> None:
        #: Whether the loop is running the greenlets in line, or is about to.
        self.planned = False
        #: When to return to the loop, a `time.monotonic()` time; 0 outside `_run`.
        self.until = 0.0
        self._later: Final = HUB.loop.timer(0.0, priority=HUB.loop.MINPRI)

    def plan(self) -> None:
        """Make the loop run the greenlets in line before it waits for sockets and timers."""
        self.planned = True
        HUB.loop.run_callback(self._run)

    def _run(self) -> None:
        """Run the greenlets in line for up to _SLICE seconds.

        The rest run after the loop has checked the sockets.
        """
        try:
            until = self.until = monotonic() + _SLICE
            while _line and monotonic() < until:
                _line[0].greenlet.switch()
        finally:
            self.until = 0.0
            # Race: a signal handler wakes a greenlet after this method has found the line empty. If
            # `planned` were still True, the handler would not plan a run, and the greenlet would
            # sleep forever. So `planned` is False before the line is read.
            self.planned = False
            if _line:
                self.planned = True
                self._later.start(self._run)


_ready: Final = _Ready()


class Waiter:
    """Lets one greenlet at a time wait for a wake-up or a deadline.

    The timer stays set after a wait, because a new timer for each wait would cost more than the
    wait itself. The timer is replaced only if it has fired, or if the next deadline is earlier.

    If a signal handler calls `wake` just before `park`, the greenlet does not wait.
    """

    __slots__ = ("_due", "_early", "_rings", "_timer", "greenlet", "parked")

    def __init__(self) -> None:
        #: The greenlet that is waiting or waited last; None before the first wait.
        self.greenlet: Any = None
        # The greenlet's deadline.
        self._due: float | None = None
        #: Whether a greenlet is waiting and has not been woken yet.
        self.parked = False
        # Whether `wake` was called while no greenlet was waiting.
        self._early = False
        # The timer; None before it is first set.
        self._timer: Any = None
        # When the timer fires; infinite while it is not set.
        self._rings = _NEVER

    def park(self, deadline: float | None = None) -> bool:
        """Wait for `wake`. Return False if the deadline, a `time.monotonic()` time, comes first.

        Raises BlockingSwitchOutError on the greenlet of gevent's loop, which cannot wait.
        """
        me = getcurrent()
        if self.greenlet is not me:
            self.settle(me)
        self._due = deadline
        self.parked = True
        try:
            if self._early:
                return True
            now = monotonic()
            if deadline is not None:
                if deadline <= now:
                    return False
                if deadline < self._rings:
                    self._set_timer(deadline)
            if me is HUB:
                HUB.switch_out()  # raises BlockingSwitchOutError
            # `switch` returns what the next switch to this greenlet passes; the timer passes False.
            if now < _ready.until and _line:
                return _line[0].greenlet.switch() is not False
            return _to_loop() is not False
        finally:
            woken, self.parked, self._early = not self.parked, False, False
            if woken:
                _line.remove(self)

    def settle(self, greenlet: Any) -> None:
        """Record which greenlet waits here."""
        self.greenlet = greenlet

    def park_for(self, what: str, deadline: float | None) -> bool:
        """Call `park`. During the wait, record in `waits` what the greenlet is waiting for."""
        ident = id(getcurrent())  # what threading.get_ident returns
        waits[ident] = what
        try:
            return self.park(deadline)
        finally:
            del waits[ident]

    def wake(self) -> None:
        """Put the waiting greenlet at the end of the line of ready greenlets.

        If no greenlet is waiting, the next `park` returns immediately. A second call before the
        woken greenlet runs has no effect.
        """
        if self.parked:
            self.parked = False
            _line.append(self)
            if not _ready.planned:
                _ready.plan()
        else:
            self._early = True

    def end(self) -> None:
        """Stop the timer. Call this when the waiter is no longer needed."""
        if self._rings < _NEVER:
            self._timer.stop()
            self._rings = _NEVER

    def _set_timer(self, deadline: float) -> None:
        self.end()
        # If the deadline is more than a year away, the timer is set again when it fires.
        left = min(max(0.0, deadline - monotonic()), _YEAR)
        self._timer = HUB.loop.timer(left)
        self._timer.start(self._ring)
        self._rings = deadline

    def _ring(self) -> None:
        self._rings = _NEVER
        if self._due is None or not self.parked:
            return
        if self._due > monotonic():
            self._set_timer(self._due)
        else:
            self.greenlet.switch(False)

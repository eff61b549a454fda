"""How a greenlet waits for another greenlet or a deadline; and the line of ready greenlets.

gevent resumes a greenlet from its loop and returns to the loop when the greenlet waits: two
switches. To save one, the greenlets that were woken here are kept in a separate line. When a
greenlet waits, it switches to the next one in line, or to the loop if no other is ready or the loop
has not run for _SLICE.
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

#: Runs gevent's loop.
HUB: Final = get_hub()

# How long greenlets run before the loop checks sockets and timers again, in seconds.
_SLICE: Final = 0.005

_YEAR: Final = 365 * 86400.0

_NEVER: Final = math.inf

# Switches to gevent's loop. `Hub.switch` would first look for a method `switch_out`, and need more
# of the stack.
_to_loop: Final = greenlet.switch.__get__(HUB)


# The greenlets that were woken and have not run since, in the order of their wake-ups. Each removes
# itself when it runs. If the greenlet that switches to it removed it, and was interrupted before
# the switch, as by Ctrl-C, the woken greenlet would sleep forever.
_line: Final[deque[Waiter]] = deque()


class _Ready:
    """Runs the line of woken greenlets."""

    __slots__ = ("_later", "planned", "until")

    def __init__(self) -> None:
        #: Whether the loop is running the line, or is going to.
        self.planned = False
        #: When to return to the loop, on the monotonic clock; 0 while the loop is not running the
        #: line.
        self.until = 0.0
        self._later: Final = HUB.loop.timer(0.0, priority=HUB.loop.MINPRI)

    def plan(self) -> None:
        """Make the loop run the line before it waits."""
        self.planned = True
        HUB.loop.run_callback(self._run)

    def _run(self) -> None:
        """Run the line. If greenlets are left, continue after the loop has checked the sockets."""
        try:
            until = self.until = monotonic() + _SLICE
            while _line and monotonic() < until:
                _line[0].greenlet.switch()
        finally:
            self.until = 0.0
            # No call between these two lines: a signal handler in it could wake a greenlet.
            self.planned = False
            if _line:
                self.planned = True
                self._later.start(self._run)


_ready: Final = _Ready()


class Waiter:
    """Lets one greenlet at a time wait.

    A timer is kept after the wait for which it was set. It is replaced only if it has fired or must
    fire earlier, because a new timer for each wait would cost more than the wait.

    If a signal handler calls `wake` just before the greenlet parks, the greenlet does not wait.
    """

    __slots__ = ("_due", "_early", "_rings", "_timer", "greenlet", "parked")

    def __init__(self) -> None:
        #: The greenlet that is waiting, or waited last; None before the first wait.
        self.greenlet: Any = None
        # The greenlet's deadline.
        self._due: float | None = None
        #: Whether a greenlet is waiting and has not been woken yet.
        self.parked = False
        # Whether `wake` was called before `park`.
        self._early = False
        # The timer, and when it rings; infinite for never.
        self._timer: Any = None
        self._rings = _NEVER

    def park(self, deadline: float | None = None) -> bool:
        """Wait until `wake`. Return False if `time.monotonic()` reaches the deadline first.

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
            # `switch` returns the value that the next switch to `me` passes: the timer's is False.
            if now < _ready.until and _line:
                return _line[0].greenlet.switch() is not False
            return _to_loop() is not False
        finally:
            # Python 3.10 calls signal handlers at jumps, too, so no jump comes before the removal.
            woken, self.parked, self._early = not self.parked, False, False
            if woken:
                _line.remove(self)

    def settle(self, greenlet: Any) -> None:
        """Note which greenlet waits here from now on."""
        self.greenlet = greenlet

    def park_for(self, what: str, deadline: float | None) -> bool:
        """Call `park` and record in `waits` what the greenlet waits for meanwhile."""
        ident = id(getcurrent())  # like threading.get_ident
        waits[ident] = what
        try:
            return self.park(deadline)
        finally:
            del waits[ident]

    def wake(self) -> None:
        """Resume the waiting greenlet, if there is one, after the greenlets that are ready."""
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
        # A timer is set for at most a year, and set again when it fires.
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

"""A greenlet that waits for another, or for a deadline; and the greenlets that are ready.

gevent resumes a greenlet from its loop, and gets back there when that waits: two switches. So the
greenlets that were woken here stand in a line of their own. Each switches to the next one when it
waits, and to the loop when no other is ready, or when the loop has not run for _SLICE.
"""

from __future__ import annotations

import math
from collections import deque
from time import monotonic
from typing import Any, Final

from gevent import get_hub, getcurrent

from ...goroutine import waits

__all__ = ["HUB", "Waiter"]

#: Runs gevent's loop.
HUB: Final = get_hub()

# For how long greenlets run before the loop looks at sockets and clocks again, in seconds.
_SLICE: Final = 0.005

_YEAR: Final = 365 * 86400.0

_NEVER: Final = math.inf


# The greenlets that were woken and have not run since, in the order in which they were. Each
# removes itself when it runs. If the one that switches to it removed it first, and were then
# interrupted, as by Ctrl-C, it would sleep forever.
_line: Final[deque[Waiter]] = deque()


class _Ready:
    """Runs the line of woken greenlets."""

    __slots__ = ("_later", "planned", "until")

    def __init__(self) -> None:
        #: Whether the loop is running them, or is going to.
        self.planned = False
        #: When to return to the loop, on the clock of `time.monotonic`; 0 while it runs no line.
        self.until = 0.0
        self._later: Final = HUB.loop.timer(0.0, priority=HUB.loop.MINPRI)

    def plan(self) -> None:
        """Have the loop run the line, before it waits."""
        self.planned = True
        HUB.loop.run_callback(self._run)

    def _run(self) -> None:
        """Run the line. If some of it is left, go on after a look at the sockets."""
        try:
            until = self.until = monotonic() + _SLICE
            while _line and monotonic() < until:
                _line[0].greenlet.switch()
        finally:
            self.until = 0.0
            # No call between these two, in which a signal handler could wake a greenlet.
            self.planned = False
            if _line:
                self.planned = True
                self._later.start(self._run)


_ready: Final = _Ready()


class Waiter:
    """Lets one greenlet at a time wait.

    A timer is kept after the wait that it was set for. It is replaced only when it has fired or
    must fire earlier, because a new timer for each wait would cost more than the wait.

    A signal handler may call `wake` just before the greenlet parks: then it does not wait.
    """

    __slots__ = ("_due", "_early", "_rings", "_timer", "greenlet", "parked")

    def __init__(self) -> None:
        #: The greenlet that waits, or did last; None before.
        self.greenlet: Any = None
        # Its deadline.
        self._due: float | None = None
        #: Whether it waits, and was not woken.
        self.parked = False
        # Whether it was woken before it waited.
        self._early = False
        # The timer, and when it rings; infinite for never.
        self._timer: Any = None
        self._rings = _NEVER

    def park(self, deadline: float | None = None) -> bool:
        """Wait until `wake`. Return False if `time.monotonic()` reaches the deadline before."""
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
            # `switch` returns what is passed by whatever switches back; the timer passes False.
            if now < _ready.until and _line:
                return _line[0].greenlet.switch() is not False
            return HUB.switch() is not False
        finally:
            if self.parked:
                self.parked = False
            else:
                _line.remove(self)
            self._early = False

    def settle(self, greenlet: Any) -> None:
        """Note which greenlet waits here from now on."""
        self.greenlet = greenlet

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
        # A timer fires after a year at the latest, and is then set again.
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

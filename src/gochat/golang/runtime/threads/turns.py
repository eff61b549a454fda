"""Turns: limits how many write pumps work at the same time, as Go's scheduler does (GOMAXPROCS).

A message in a room of a thousand clients wakes a thousand write pumps. Goroutines would line up for
the few processors that GOMAXPROCS allows; threads would all become ready and compete for the
interpreter. So the write pumps also line up here. The first `gomaxprocs` pumps in line have a turn.
A pump joins the line when it has work and leaves the line when it has none. While a pump waits in
line, its messages gather, and go out in one frame: the longer the line, the larger the frames.

A thread that has a turn must not wait, except for its next turn. Before it waits for a socket or a
lock, it calls `give_up`; likewise, Go's scheduler takes the processor from a goroutine that blocks
in a system call. The thread rejoins the line at its next receive.

A pump whose channel is closed needs no turn for the remaining messages, because no more can gather.
If it did, and many clients left at the same time, the others would have to wait for them.

A thread leaves the line when it ends, however it ends, and when an exception ends its wait.

Strategy: the line is the only state. The first threads in line have the turns, so a turn can be
neither lost nor doubled. A thread joins or leaves the line in a single step, and then wakes every
thread that has a turn and sleeps. A wake-up is only a hint, after which the woken thread checks the
line. So an extra wake-up is harmless. A thread that is interrupted before it has woken the others
wakes them while it handles the exception. No lock is used, so a signal handler never finds a lock
held by its own thread.

`docs/turns.pml` is a model of this module, and of `Channel`'s part in it. The model checker Spin
shows that no pump with work is ever forgotten.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from itertools import islice
from typing import Final

from ...goroutine import TurnsStatistics

__all__ = [
    "DEFAULT_GOMAXPROCS",
    "FREE_THREADED",
    "Gate",
    "Turns",
    "Waiter",
    "turns",
]

# Whether threads run in parallel. With a GIL, only one thread at a time executes Python, so the
# steps of all threads have one order, and each method call on a list, deque or dict is a single
# step. If FREE_THREADED is set, code that relies on this order takes a lock.
FREE_THREADED: Final = not getattr(sys, "_is_gil_enabled", lambda: True)()

# Python finds a global name faster than an attribute of a class.
_pop: Final = list.pop

#: Chosen by measurement, see docs/why/performance.md.
DEFAULT_GOMAXPROCS: Final = 1


class Gate:
    """Lets one thread wait for a wake-up. One early wake-up is kept; further ones are lost.

    A wake-up is only a hint: the woken thread must check what it was waiting for.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._lock.acquire()

    def pass_(self, timeout: float = -1) -> bool:
        """Wait for a wake-up; return False after `timeout` seconds without one (-1: no limit)."""
        return self._lock.acquire(True, timeout)

    def open(self) -> None:
        """Wake the waiting thread, or the next thread that waits. Thread: any."""
        if self._lock.locked():
            try:  # noqa: SIM105 - `suppress` is slower
                self._lock.release()
            except RuntimeError:  # another thread was faster
                pass


class Turns:
    """The turns and the line of threads that take them. Thread: any."""

    def __init__(self, limit: int = DEFAULT_GOMAXPROCS) -> None:
        self._limit = limit
        # The first `_limit` of these have a turn. A thread removes itself; it is added by itself or
        # by the thread that wakes it. A thread that is woken just before it removes itself is here
        # twice for a moment, and then gives up its first place, which has the turn.
        self._line: deque[Waiter] = deque()
        # Without a GIL, makes two steps atomic; see FREE_THREADED. Reentrant, because a signal
        # handler may acquire it while the interrupted thread holds it.
        self._lock = threading.RLock()
        #: Each thread's own `waiter`, once the thread has called `Turns.waiter`.
        self.local = threading.local()

    def gomaxprocs(self, limit: int) -> int:
        """Set the number of turns, unless it is 0 or less. Return the previous number.

        A lower limit takes no turn away; it takes effect as turns are passed on. (Go:
        runtime.GOMAXPROCS.) Thread: any, but one at a time.
        """
        before = self._limit
        if limit > 0:
            try:
                self._limit = limit
                self._call()
            except BaseException:
                self._call()
                raise
        return before

    def waiter(self) -> Waiter:
        """Return the calling thread's own place in line. Thread: any."""
        try:
            waiter: Waiter = self.local.waiter
        except AttributeError:
            waiter = Waiter(self)
            self.local.guard = _Guard(waiter)
            self.local.waiter = waiter
        return waiter

    def give_up(self) -> None:
        """Pass on the calling thread's turn, if it has one. Call this before the thread waits."""
        self.waiter().give_up()

    def gosched(self) -> None:
        """Return when every thread now in line has had a turn (Go: runtime.Gosched).

        For a thread without a turn, to avoid giving the pumps more work than they can queue.
        """
        waiter = self.waiter()
        try:
            waiter.line_up()
            waiter.leave()
        except BaseException:
            waiter.retire()
            raise

    def statistics(self) -> TurnsStatistics:
        """Return who has a turn and who waits for one. Thread: any."""
        line = self._line.copy()
        return TurnsStatistics(
            limit=self._limit,
            holders=tuple(waiter.thread for waiter in line if waiter.holds),
            line=tuple(waiter.thread for waiter in line if not waiter.holds),
        )

    def _has_turn(self, waiter: Waiter) -> bool:
        """Return whether a thread in line has a turn."""
        while True:
            try:
                return waiter in islice(self._line, self._limit)
            except RuntimeError:  # the line has just changed
                pass

    def _call(self) -> None:
        """Wake the threads that have a turn and do not know it. Call after a change of the line.

        If two threads leave the line at the same time, each may see the line only after both have
        left. So each of them wakes every thread that now has a turn. Thread: any.
        """
        line = self._line
        if self._limit == 1:
            try:
                first = line[0]
            except IndexError:
                return
            if not first._holds:
                first.open()
        else:
            for waiter in list(line.copy())[: self._limit]:
                if not waiter._holds:
                    waiter.open()


class Waiter(Gate):
    """A thread's place in line. Made by `Turns.waiter`, for the thread that calls it.

    While a thread waits for a value, it is armed. The first sender that wakes it puts it in line,
    and the thread sleeps until it has a turn.
    """

    __slots__ = ("_holds", "_turns", "armed", "receiving", "thread")

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns: Final = turns
        #: The ident of the thread.
        self.thread: Final = threading.get_ident()
        #: Contains this waiter while the thread waits for a value and has not been woken. A sender
        #: moves the waiter from here to the line; the thread removes it to end the wait.
        self.armed: Final[list[Waiter]] = []
        # Whether the thread knows that it has a turn. Set only by the thread, and False whenever it
        # waits, so that it is woken.
        self._holds = False
        #: Whether the thread is receiving from a channel with turns; meanwhile, a signal handler
        #: must not do so. Set only by the thread.
        self.receiving = False

    # Any thread:

    @property
    def holds(self) -> bool:
        """Whether the thread has a turn. Another thread may get an outdated answer."""
        return self._holds

    def is_idle(self) -> bool:
        """Return whether the thread waits for a value and has not been woken."""
        return bool(self.armed)

    def wake(self) -> bool:
        """Put an armed thread in line; it wakes when it has a turn. Return whether it was armed."""
        turns = self._turns
        line = turns._line
        try:
            # One step: an interrupt between two steps would leave the thread asleep forever.
            if FREE_THREADED:
                with turns._lock:
                    line.extend(map(_pop, (self.armed,)))
            else:
                line.extend(map(_pop, (self.armed,)))
            if turns._limit > 1:
                turns._call()
            elif line[0] is self and not self._holds:  # as in `_call`, without a call
                self.open()
            return True
        except IndexError:  # it is not armed, or has already had its turn
            return False
        except BaseException:
            turns._call()
            raise

    def let_go(self) -> None:
        """Wake the thread without a turn, because its channel is closed."""
        self.open()

    # The thread itself:

    def disarm(self) -> bool:
        """End the wait. Return False if a sender has put this thread in line."""
        if self.armed:
            try:
                self.armed.pop()
            except IndexError:
                return False
            return True
        return False

    def wait(self, timeout: float = -1) -> bool:
        """Pass on the turn, then wait until put in line and given a turn. The thread must be armed.

        timeout: in seconds; -1 for no limit. Return False, without a turn and no longer armed, if
        no sender has put the thread in line within that time, or if `let_go` was called.
        """
        if self._holds:
            self.leave()
        self._lock.acquire(True, timeout)
        if self.armed and self.disarm():
            return False
        turns = self._turns
        if turns._limit == 1 and turns._line[0] is self:
            self._holds = True
        else:
            self.wait_turn()
        return True

    def wait_turn(self) -> None:
        """Return with a turn. The thread must be in line."""
        turns = self._turns
        line = turns._line
        while line[0] is not self if turns._limit == 1 else not turns._has_turn(self):
            self._lock.acquire()
        self._holds = True

    def line_up(self) -> None:
        """Return with a turn, after all threads now in line. If there are none, keep the turn."""
        turns = self._turns
        try:
            if self._holds:
                if len(turns._line) <= turns._limit:
                    return
                self._holds = False
                turns._line.remove(self)
                turns._line.append(self)
                turns._call()
            else:
                turns._line.append(self)
            self.wait_turn()
        except BaseException:
            self.retire()
            raise

    def leave(self) -> None:
        """Leave the line if the thread has a turn; this passes on the turn."""
        if self._holds:
            turns = self._turns
            line = turns._line
            try:
                self._holds = False
                line.remove(self)
                if turns._limit > 1:
                    turns._call()
                elif line:  # as in `_call`, without a call
                    first = line[0]
                    if not first._holds:
                        first.open()
            except IndexError:  # the first thread has left meanwhile, and has woken the next
                pass
            except BaseException:
                self.retire()
                raise

    def give_up(self) -> None:
        """Pass on the turn, if the thread has one.

        Does nothing in a signal handler that has interrupted a receive on a channel with turns.
        """
        if self._holds and not self.receiving:
            self.leave()

    def retire(self) -> None:
        """Leave the line when the thread ends, or after an interruption at any point."""
        if FREE_THREADED:
            with self._turns._lock:
                self._remove()
        else:
            self._remove()
        self._turns._call()

    def _remove(self) -> None:
        self.armed.clear()
        self._holds = False
        try:
            while True:
                self._turns._line.remove(self)
        except ValueError:
            pass


class _Guard:
    """Makes a thread leave the line when it ends.

    Only the thread's own storage refers to the guard. Python clears that storage on the thread
    itself when the thread ends, however it was started.
    """

    __slots__ = ("_waiter",)

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter

    def __del__(self) -> None:
        self._waiter.retire()


#: The turns of the write pumps.
turns: Final = Turns()

"""Turns, which limit how many write pumps work at the same time (Go: GOMAXPROCS).

A message in a room of a thousand clients wakes a thousand write pumps. In Go, GOMAXPROCS limits how
many goroutines run at the same time. Here, a thousand threads would compete for the interpreter. So
the write pumps wait in line instead, and only the first `gomaxprocs` pumps in line have a turn and
may work. A pump joins the line when it has work, and leaves when that work is done. While a pump
waits in line, messages gather in its channel, and it later writes them all in one frame.

A thread with a turn must not wait for anything except its next turn. Before it waits for a socket
or a lock, it calls `give_up`; it joins the line again at its next receive. (Similarly, Go's
scheduler takes the processor away from a goroutine that blocks in a system call.)

A pump whose channel is closed writes its remaining messages without a turn. No more messages can
gather, so a wait would gain nothing. If these pumps took turns, many clients leaving at once would
delay the other pumps.

A thread also leaves the line when it ends, or when an exception interrupts its wait.

Implementation: the line is the only state. A thread has a turn if it is among the first in line, so
no turn can be lost or given twice. Each change to the line is a single step, and the thread that
makes it then wakes the sleeping threads that have a turn. Each woken thread checks its place in
line, so an extra wake-up has no effect. A thread that is interrupted between the step and the
wake-ups does the wake-ups while it handles the exception. With a GIL, no lock is needed, so a
signal handler never has to wait for a lock that the interrupted thread holds.

`docs/turns.pml` is a model of this module and of the steps in `Channel` that use it. The model
checker Spin verifies that no pump with work sleeps forever.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from contextlib import nullcontext
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

# Whether threads run in parallel, without a GIL. With a GIL, each method call on a list, deque or
# dict is a single step, and the steps of all threads happen in one order. Without a GIL, code that
# needs this order takes a lock.
FREE_THREADED: Final = not getattr(sys, "_is_gil_enabled", lambda: True)()

# Python finds a global name faster than an attribute of a class.
_pop: Final = list.pop

#: The default number of turns. docs/why/tried.md has the measurements.
DEFAULT_GOMAXPROCS: Final = 1


class Gate:
    """Lets one thread sleep until another thread wakes it.

    If `open` is called first, the next `pass_` returns immediately. Several calls of `open` count
    as one. After a wake-up, the thread must check whether it still has to wait.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._lock.acquire()

    def pass_(self, timeout: float = -1) -> bool:
        """Sleep until woken. Return False after `timeout` seconds; -1 means no limit."""
        return self._lock.acquire(True, timeout)

    def open(self) -> None:
        """Wake the sleeping thread. Thread: any."""
        if self._lock.locked():
            try:  # noqa: SIM105 - `suppress` is slower
                self._lock.release()
            except RuntimeError:  # another thread was faster
                pass


class Turns:
    """The line of threads that take turns. Thread: any."""

    def __init__(self, limit: int = DEFAULT_GOMAXPROCS) -> None:
        self._limit = limit
        # The first `_limit` threads in this line have a turn. A thread is added by itself or by a
        # sender, but removed only by itself. Race: a thread with a turn arms itself, and then
        # leaves the line to wait for a value. If a sender adds the thread between these steps, it
        # is in line twice. It then leaves its first place, and so passes on its turn, but keeps its
        # second.
        self._line: deque[Waiter] = deque()
        # Used only without a GIL; see FREE_THREADED. It is reentrant because a signal handler may
        # acquire it while the interrupted thread holds it.
        self._lock = threading.RLock()
        #: Has the attribute `waiter` on each thread that has called `Turns.waiter`.
        self.local = threading.local()

    def gomaxprocs(self, limit: int) -> int:
        """Set the number of turns (Go: runtime.GOMAXPROCS). Return the previous number.

        A limit of 0 or less changes nothing. If the limit is lowered, threads that have a turn keep
        it. Thread: any, but only one at a time.
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
        """Return the Waiter of the calling thread. Thread: any."""
        try:
            waiter: Waiter = self.local.waiter
        except AttributeError:
            waiter = Waiter(self)
            self.local.guard = _Guard(waiter)
            self.local.waiter = waiter
        return waiter

    def give_up(self) -> None:
        """Pass on the calling thread's turn, if it has one. Call this before a wait."""
        self.waiter().give_up()

    def gosched(self) -> None:
        """Wait until every thread that is in line now has had a turn (Go: runtime.Gosched).

        A thread without a turn calls this between messages, so that no pump's channel fills.
        """
        waiter = self.waiter()
        try:
            waiter.line_up()
            waiter.leave()
        except BaseException:
            waiter.retire()
            raise

    def statistics(self) -> TurnsStatistics:
        """Return which threads have a turn and which are waiting for one. Thread: any."""
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
            except RuntimeError:  # the line changed during the search
                pass

    def _call(self) -> None:
        """Wake the sleeping threads that have a turn. Call after a change to the line. Thread: any.

        Race: two threads leave the line at the same time, and look for the next thread only when
        both have left. If each woke only one thread, both would wake the same one, and the second
        turn would stay unused. So each wakes every sleeping thread that has a turn.
        """
        line = self._line
        if self._limit == 1:
            try:
                first = line[0]
            except IndexError:
                return
            if not first.holds:
                first.open()
        else:
            for waiter in list(line.copy())[: self._limit]:
                if not waiter.holds:
                    waiter.open()


class Waiter(Gate):
    """A thread that takes turns. `Turns.waiter` creates one Waiter per thread.

    The thread is armed while it waits for a value. The first sender disarms it and puts it in line.
    The thread then sleeps until it has a turn.
    """

    __slots__ = ("_turns", "armed", "holds", "receiving", "thread")

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns: Final = turns
        #: The ident of the thread.
        self.thread: Final = threading.get_ident()
        #: Contains this waiter while the thread is armed; otherwise empty. A sender moves the
        #: waiter from here to the line. The thread removes the waiter to end its wait.
        self.armed: Final[list[Waiter]] = []
        #: Whether the thread knows that it has a turn. Only the thread writes this. It is False
        #: while the thread waits, which tells other threads to wake this one. To other threads, the
        #: value may be out of date.
        self.holds = False
        #: Whether the thread is receiving from a channel with turns. A signal handler that
        #: interrupts the receive must not receive from such a channel. Only the thread writes this.
        self.receiving = False

    # Any thread:

    def is_idle(self) -> bool:
        """Return whether the thread is armed."""
        return bool(self.armed)

    def wake(self) -> bool:
        """If the thread is armed, put it in line. Return whether it was armed.

        The thread wakes up when it has a turn.
        """
        turns = self._turns
        line = turns._line
        try:
            # This is a single step. An interrupt between two steps would leave the thread neither
            # armed nor in line, and it would sleep forever.
            if FREE_THREADED:
                with turns._lock:
                    line.extend(map(_pop, (self.armed,)))
            else:
                line.extend(map(_pop, (self.armed,)))
            if turns._limit > 1:
                turns._call()
            elif line[0] is self and not self.holds:  # `_call`, inlined for speed
                self.open()
            return True
        except IndexError:  # it was not armed, or has already had its turn and left
            return False
        except BaseException:
            turns._call()
            raise

    def let_go(self) -> None:
        """Wake the thread without putting it in line, because its channel is closed."""
        self.open()

    # The thread itself:

    def disarm(self) -> bool:
        """End the wait for a value. Return False if a sender has already put the thread in line."""
        try:
            self.armed.pop()
        except IndexError:
            return False
        return True

    def wait(self, timeout: float = -1) -> bool:
        """Pass on the turn, then sleep until a sender puts the thread in line and its turn comes.

        The thread must be armed. timeout: in seconds; -1 for no limit. Returns True if the thread
        has a turn. Returns False if no sender put it in line before the timeout or a call of
        `let_go`; the thread then has no turn and is not armed.
        """
        if self.holds:
            self.leave()
        self._lock.acquire(True, timeout)
        if self.armed and self.disarm():
            return False
        turns = self._turns
        if turns._limit == 1 and turns._line[0] is self:
            self.holds = True
        else:
            self.wait_turn()
        return True

    def wait_turn(self) -> None:
        """Sleep until the thread has a turn. It must be in line."""
        turns = self._turns
        line = turns._line
        while line[0] is not self if turns._limit == 1 else not turns._has_turn(self):
            self._lock.acquire()
        self.holds = True

    def line_up(self) -> None:
        """Join the end of the line and wait for a turn.

        A thread that already has a turn keeps it if no other thread is waiting for one.
        """
        turns = self._turns
        try:
            if self.holds:
                if len(turns._line) <= turns._limit:
                    return
                self.holds = False
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
        """Pass on the turn, if the thread has one: leave the line and wake the next thread."""
        if self.holds:
            turns = self._turns
            line = turns._line
            try:
                self.holds = False
                line.remove(self)
                if turns._limit > 1:
                    turns._call()
                elif line:  # `_call`, inlined for speed
                    first = line[0]
                    if not first.holds:
                        first.open()
            except IndexError:  # the line is now empty
                pass
            except BaseException:
                self.retire()
                raise

    def give_up(self) -> None:
        """Pass on the turn, if the thread has one, before a wait outside this module.

        Does nothing in a signal handler that has interrupted a receive on a channel with turns.
        """
        if self.holds and not self.receiving:
            self.leave()

    def retire(self) -> None:
        """Disarm the thread and leave the line. Called when the thread ends or is interrupted."""
        turns = self._turns
        with turns._lock if FREE_THREADED else nullcontext():
            self.armed.clear()
            self.holds = False
            try:
                while True:
                    turns._line.remove(self)
            except ValueError:
                pass
        turns._call()


class _Guard:
    """Makes a thread leave the line when it ends, no matter how it was started.

    Only the thread's `threading.local` storage refers to the guard. When the thread ends, Python
    clears that storage on the same thread, which calls `__del__`.
    """

    __slots__ = ("_waiter",)

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter

    def __del__(self) -> None:
        self._waiter.retire()


#: The turns of the write pumps.
turns: Final = Turns()

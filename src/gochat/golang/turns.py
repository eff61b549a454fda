"""Turns: what Go's scheduler does for goroutines, for the threads of Python.

A message in a room of a thousand clients wakes a thousand write pumps. Goroutines would line up for
the few processors that GOMAXPROCS allows; threads all run at once, and fight for the interpreter.
So here they line up too. There are as many turns as `gomaxprocs` says. A pump that has work takes a
free turn or joins the line; one with nothing left passes its turn to the first in line. While a
pump stands in line, messages gather for it, and go out in one frame: the longer the line, the
larger the frames.

A thread that holds a turn must not wait for anything but its next turn. Before it waits for a
socket or a lock it calls `give_up`, as Go's scheduler takes the processor from a goroutine that
blocks in a system call. The thread lines up again with its next receive.

A pump whose channel has been closed takes no turn for what is left. Nothing more can gather for it,
and if many clients leave at the same time, those that stay would have to wait behind all of them.

`docs/turns.pml` is a model of this module, and of `Channel`'s part in it, for the model checker
spin, which shows that no pump with work is ever forgotten.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

__all__ = ["DEFAULT_GOMAXPROCS", "FREE_THREADED", "Turns", "Waiter", "turns"]

# Whether threads really run at the same time. With a GIL, one thread at a time executes Python, so
# all that threads do has one order, and deque's append and popleft are single steps of that order
# (documentation of `collections.deque`). Code that relies on the order, and looks without a lock,
# takes the lock if this is set.
FREE_THREADED: Final = not getattr(sys, "_is_gil_enabled", lambda: True)()

#: Measured: see docs/why/performance.md.
DEFAULT_GOMAXPROCS: Final = 1


class Turns:
    """A number of turns, and the line of threads that wait for one. Any thread may use it.

    A turn that is passed on goes from its holder straight to the first in line, without the lock.
    The lock is for turns that are free while nobody is in line. A thread that joins the line does
    that first, and then looks for a free turn; a thread that frees a turn does that first, and then
    looks at the line. Whichever comes second sees what the first has done, so no thread is left in
    line beside a free turn.
    """

    def __init__(self, limit: int = DEFAULT_GOMAXPROCS) -> None:
        # Guards changes of the two below; a look without the lock is explained above. This lock is
        # taken last: no other is waited for while it is held.
        self._lock = threading.Lock()
        self._limit = limit
        # Below 0 while more turns are held than the limit allows.
        self._free = limit
        # Any thread appends, and pops the first: single steps, see FREE_THREADED.
        self._line: deque[Waiter] = deque()
        self._local = threading.local()
        #: Makes a thread's place in line: for a subclass of Waiter that records. Set before the
        #: first thread comes.
        self.new_waiter: Callable[[Turns], Waiter] = Waiter

    def gomaxprocs(self, limit: int) -> int:
        """Set the number of turns, unless it is 0 or less. Returns the number before.

        A turn that is held is not taken away: a lower limit takes effect as turns are handed on.
        (Go: runtime.GOMAXPROCS.)
        """
        with self._lock:
            before = self._limit
            if limit > 0:
                self._limit = limit
                self._free += limit - before
        self._dispatch()
        return before

    def waiter(self) -> Waiter:
        """The calling thread's own place in line."""
        try:
            waiter: Waiter = self._local.waiter
        except AttributeError:
            waiter = self._local.waiter = self.new_waiter(self)
        return waiter

    def give_up(self) -> None:
        """Hand on the calling thread's turn, if it holds one, before the thread waits."""
        self.waiter().give_up()

    def line(self) -> list[Waiter]:
        """The threads that stand in line for a turn, first come first. Any thread."""
        return list(self._line.copy())  # `copy` is a single step: the line may change meanwhile

    def hand_on(self) -> None:
        """Give a turn to the first in line; free it if nobody waits, or drop it above the limit."""
        if self._free >= 0:
            try:
                first = self._line.popleft()
            except IndexError:
                pass
            else:
                first._gate.release()
                return
        with self._lock:
            self._free += 1
        self._dispatch()

    def join_line(self, waiter: Waiter) -> None:
        """Put a thread into the line: a turn comes to it when it is the first, and one is free."""
        self._line.append(waiter)
        if self._free > 0 or FREE_THREADED:
            self._dispatch()

    def _dispatch(self) -> None:
        """Give the free turns to those in line."""
        with self._lock, suppress(IndexError):
            while self._free > 0:
                first = self._line.popleft()
                self._free -= 1
                first._gate.release()


class Waiter:
    """A thread's place in line. Made by `Turns.waiter`, for the thread that calls it."""

    __slots__ = ("_armed", "_gate", "_holds", "_let_go", "_turns")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        # Released by the thread that gives this one a turn, or lets it go without one.
        self._gate = threading.Lock()
        self._gate.acquire()
        # Whether the thread is let go without a turn. Set before the gate is released for that, and
        # unset by the woken thread.
        self._let_go = False
        # Released while the thread can be claimed. Acquired by the thread that is to wake this one,
        # or by this one itself.
        self._armed = threading.Lock()
        self._armed.acquire()
        # Whether the thread has a turn. Only the thread itself decides by this.
        self._holds = False

    def arm(self) -> None:
        """Let the thread be claimed, once. The thread's own call, before it is marked as idle."""
        if self._armed.locked():  # it is not after a wait that an exception has ended
            self._armed.release()

    def claim(self, _: object) -> bool:
        """Whether the caller is to wake the thread: no other is. Any thread."""
        return self._armed.acquire(False)

    def is_idle(self) -> bool:
        """Whether the thread can be claimed. Any thread."""
        return not self._armed.locked()

    @property
    def holds(self) -> bool:
        """Whether the thread has a turn, or had one a moment ago. Any thread, to show it."""
        return self._holds

    def wake(self) -> None:
        """Give the thread a turn as soon as one is free. Any thread, once for each `wait`."""
        self._turns.join_line(self)

    def let_go(self) -> None:
        """Wake the thread without a turn. Any thread, once for each `wait`, in place of `wake`."""
        self._let_go = True
        self._gate.release()

    def line_up(self) -> None:
        """Return with a turn, after all that are in line. The thread's own call."""
        turns = self._turns
        if self._holds and not turns._line:
            return
        if self._holds:
            turns._line.append(self)
            self.give_up()
        else:
            turns.join_line(self)
        self._holds = self._gate.acquire()

    def wait(self, timeout: float = -1) -> bool:
        """Wait to be woken, and for a turn, without holding one meanwhile. The thread's own call.

        timeout: in seconds, below 0 for none. Returns False, without a turn, when it has passed;
        True otherwise, and without a turn if the thread was let go.
        """
        if self._holds:
            self._holds = False
            self._turns.hand_on()
        woken = self._gate.acquire(True, timeout)
        if woken:
            self._holds = not self._let_go
            self._let_go = False
        return woken

    def give_up(self) -> None:
        """Hand on the turn, if the thread holds one. The thread's own call."""
        if self._holds:
            self._holds = False
            self._turns.hand_on()


#: The turns of the write pumps.
turns: Final = Turns()

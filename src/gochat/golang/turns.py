"""Turns: what Go has from its scheduler, for the threads that Python has.

One message in a room of a thousand wakes a thousand write pumps. Goroutines would line up for the
few processors that GOMAXPROCS allows; threads all run at once, and fight for the interpreter. So
they are made to line up here. There are as many turns as `gomaxprocs` says. Who is to be woken gets
a free turn, or stands in line; who has nothing left to do hands its turn to the first in line.
While a pump stands in line messages gather for it, and go out in one frame: the longer the line,
the larger the frames.

A thread that holds a turn must not wait for anything but its next one. Before it waits for a socket
or a lock it calls `give_up`, as Go's scheduler takes the processor from a goroutine that blocks in
a system call. It lines up again with its next receive.

A pump whose channel has been closed takes no turn for the rest. Nothing more can gather for it, and
if many clients leave at the same time, those who stay would have to wait behind all of them.

That nobody who has something to do is forgotten is checked by `docs/turns.pml`, a model of this
module and of `Channel`'s part in it, for the model checker spin.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["DEFAULT_GOMAXPROCS", "FREE_THREADED", "Turns", "Waiter", "settle", "turns"]

# Whether threads really run at the same time. With a GIL, one thread at a time executes Python, so
# all that threads do has one order, and deque's append and popleft are single steps of it
# (documentation of `collections.deque`). Where a look without a lock relies on that order, this
# takes the lock.
FREE_THREADED: Final = not getattr(sys, "_is_gil_enabled", lambda: True)()

#: Measured: see docs/performance.md.
DEFAULT_GOMAXPROCS: Final = 1

#: How long a thread waits for the GIL before it asks for it, in seconds. Python's own is 0.005.
SWITCH_INTERVAL: Final = 2.0


def settle(*, pin: bool) -> None:
    """Have the system run the threads to come as the GIL lets them: one after the other.

    - A thread that is woken shall not interrupt the one that has woken it, and still has the GIL:
      it could but go to sleep again.
    - A thread that waits for the GIL shall not look up every 5 ms, nor twice a second: when
      thousands do, as when all clients leave at the same time, nothing else is done. Nor never: who
      gives the GIL away and takes it again at once is only so kept from starving the others.
    - A thread on another CPU gets the GIL later than one on this.

    All three are measured in docs/performance.md. Nothing here needs a privilege; on a
    free-threaded build, and as far as the system has no such thing, nothing is done.

    pin: have the process stay on the CPU that it is on.
    """
    if FREE_THREADED:
        return
    # Nobody here computes for long. Who waits is woken when the GIL is free.
    sys.setswitchinterval(SWITCH_INTERVAL)
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        if pin:
            # The 39th field of proc_pid_stat(5), the 37th behind the name.
            stat = Path("/proc/self/stat").read_text()
            os.sched_setaffinity(0, {int(stat.rpartition(")")[2].split()[36])})


class Turns:
    """So many turns, and the line of threads that wait for one. Any thread may use it."""

    def __init__(self, limit: int = DEFAULT_GOMAXPROCS) -> None:
        # Guards the three below. It is taken last: with it held, no other lock is waited for.
        self._lock = threading.Lock()
        self._limit = limit
        # Below 0 while more turns are held than there are to be.
        self._free = limit
        self._line: deque[Waiter] = deque()
        self._local = threading.local()

    def gomaxprocs(self, limit: int) -> int:
        """Set the number of turns, if it is above 0; returns what it was. Go: runtime.GOMAXPROCS.

        A turn that is held is not taken away: a lower number comes as turns are handed on.
        """
        with self._lock:
            before = self._limit
            if limit > 0:
                self._limit = limit
                self._free += limit - before
            first = [self._line.popleft() for _ in range(min(self._free, len(self._line)))]
            self._free -= len(first)
        for waiter in first:
            waiter._gate.release()
        return before

    def waiter(self) -> Waiter:
        """The calling thread's own."""
        try:
            waiter: Waiter = self._local.waiter
        except AttributeError:
            waiter = self._local.waiter = Waiter(self)
        return waiter

    def give_up(self) -> None:
        """Hand on the turn that the calling thread holds, if any, before it waits for something."""
        self.waiter().give_up()

    def hand_on(self) -> None:
        """Give a turn to the first in line. It is free if there is none, gone if one too many."""
        with self._lock:
            if not self._line or self._free < 0:
                self._free += 1
                return
            first = self._line.popleft()
        first._gate.release()


class Waiter:
    """A thread's place in line. Made by `Turns.waiter`, for the thread that calls it."""

    __slots__ = ("_gate", "_holds", "_let_go", "_turns")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        # Released by whoever gives this thread a turn, or lets it go without, and by nobody else.
        self._gate = threading.Lock()
        self._gate.acquire()
        # Whether it is let go without. Set before the gate is opened for that, and unset behind it.
        self._let_go = False
        # Whether the thread has a turn. Its own thread's alone.
        self._holds = False

    def wake(self) -> None:
        """Give the thread a turn as soon as there is one. Any thread, once for each `wait`."""
        turns = self._turns
        with turns._lock:
            if turns._free <= 0:
                turns._line.append(self)
                return
            turns._free -= 1
        self._gate.release()

    def let_go(self) -> None:
        """Wake the thread without a turn. Any thread, once for each `wait`, in place of `wake`."""
        self._let_go = True
        self._gate.release()

    def line_up(self) -> None:
        """Return with a turn, behind all who are in line. Its own thread."""
        turns = self._turns
        with turns._lock:
            if self._holds and not turns._line:
                return
            if not self._holds and turns._free > 0:
                turns._free -= 1
                self._holds = True
                return
            turns._line.append(self)
        self.give_up()
        self._holds = self._gate.acquire()

    def wait(self, timeout: float = -1) -> bool:
        """Wait to be woken, and for a turn, without holding one meanwhile. Its own thread.

        timeout: in seconds, below 0 for none. Returns False, without a turn, if it has passed. Who
        is let go has none either, and True.
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
        """Hand on the turn, if it holds one. Its own thread."""
        if self._holds:
            self._holds = False
            self._turns.hand_on()


#: Those of the write pumps.
turns: Final = Turns()

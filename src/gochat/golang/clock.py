"""A clock for deadlines that stands still while the process is paused.

A virtual machine is stopped and continued, a container is paused, somebody presses Ctrl-Z: none of
its peers is at fault then, though all their deadlines have passed on the system's clock. The pongs
that were due may lie in the sockets, and pings that were due were never sent. So deadlines are
judged by `now`, which leaves pauses out. The rule, for every deadline that a peer has to meet: it
is kept as a time of this clock, and it has passed when `now` says so.

A pause is noticed by what did not happen meanwhile. As long as somebody accepts connections, that
thread calls `beat` every BEAT seconds; at the end, the thread that waits for the others does. A gap
between two beats of more than _GAP is a pause, and so is a time in which no thread got the
interpreter. Whoever asks for the time first after the gap notices it: the thread that beats need
not run before the threads that judge.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["BEAT", "after", "beat", "beating", "join", "now", "since"]

#: The longest time between two beats, in seconds.
BEAT: Final = 1.0

# The shortest gap between two beats that is a pause, in seconds.
_GAP: Final = 2.0


class _Clock:
    """The state of the clock.

    A thread reads `last` before it reads `paused`, and a pause is added to `paused` before `last`
    is set, so a look without the lock finds at worst a time that lies a pause too early: a deadline
    is then judged once more. It never finds one that is too late.
    """

    def __init__(self) -> None:
        # Guards changes of the three below. No other lock is waited for while this one is held. A
        # signal handler may take it on the thread that holds it.
        self.lock = threading.RLock()
        # How many threads beat. Without any, no gap is a pause.
        self.beating = 0
        # When the last beat was; infinite while no thread beats.
        self.last = float("inf")
        # How long the process was paused so far, in seconds.
        self.paused = 0.0

    def beat(self) -> None:
        """Note that the process runs, and a pause if there was one."""
        with self.lock:
            if self.beating:
                moment = time.monotonic()
                if moment - self.last > _GAP:
                    self.paused += moment - self.last
                self.last = moment


_clock: Final = _Clock()


def now() -> float:
    """Return the time of this clock, in seconds: that of `time.monotonic` without all pauses.

    Thread: any.
    """
    moment = time.monotonic()
    if moment - _clock.last > _GAP:
        _clock.beat()
        moment = time.monotonic()
    return moment - _clock.paused


def since(deadline: float) -> float:
    """Return the time of this clock for a time of `time.monotonic`. Thread: any."""
    return deadline - _clock.paused


def after(seconds: float) -> float:
    """Return the time of this clock in so many seconds. Thread: any."""
    return now() + seconds


def beat() -> None:
    """Note that the process runs. Thread: one that is within `beating`, every BEAT seconds."""
    _clock.beat()


@contextmanager
def beating() -> Iterator[None]:
    """Promise, for the time of the block, to call `beat` every BEAT seconds. Thread: any."""
    with _clock.lock:
        _clock.beating += 1
        if _clock.beating == 1:
            _clock.last = time.monotonic()
    try:
        yield
    finally:
        with _clock.lock:
            _clock.beating -= 1
            if not _clock.beating:
                _clock.last = float("inf")


def join(thread: threading.Thread, deadline: float) -> bool:
    """Wait for a thread to end, and return whether it has.

    deadline: how long, as a time of this clock, which leaves out pauses during the wait, too.
    Thread: any.
    """
    with beating():
        while thread.is_alive() and (left := deadline - now()) > 0:
            thread.join(min(left, BEAT))
            beat()
    return not thread.is_alive()

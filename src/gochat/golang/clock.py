"""A clock for deadlines. It stops while the process is paused.

A process can be paused with Ctrl-Z, or together with its container or virtual machine. When it
resumes, deadlines may have passed on the system's clock through no fault of a peer: the peer's pong
may be waiting in the socket, or the ping may not have been sent. So all deadlines for peers are
times on this clock.

To detect pauses, one thread calls `beat` every BEAT seconds: the thread that accepts connections
or, at shutdown, the thread that waits for the others to end. If more than _GAP seconds pass without
a beat, the clock treats all of that time as a pause, even if the interpreter was merely busy. The
first thread to call `now` or `beat` afterwards records the pause.
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

# The shortest gap between two beats that counts as a pause, in seconds.
_GAP: Final = 2.0


class _Clock:
    """The state of the clock.

    Race: one thread reads the clock in `now`, without the lock, while another thread records a
    pause in `beat`. If the reader missed the pause, its time would be too late. This cannot happen,
    because `beat` changes `paused` before `last`, and `now` reads `last` before `paused`. At worst,
    the reader subtracts a pause that came after it read the system's clock. Its time is then too
    early, and it checks its deadline again later.
    """

    def __init__(self) -> None:
        # Guards changes to the fields below. It is reentrant because a signal handler may acquire
        # it while the interrupted thread holds it.
        self.lock = threading.RLock()
        # The number of threads inside `beating`. While it is 0, pauses are not detected.
        self.beating = 0
        # The time of the last beat; infinite if no thread is inside `beating`.
        self.last = float("inf")
        # The total length of all pauses, in seconds.
        self.paused = 0.0


_clock: Final = _Clock()


def now() -> float:
    """Return `time.monotonic()` minus all pauses, in seconds. Thread: any."""
    moment = time.monotonic()
    if moment - _clock.last > _GAP:
        beat()
        moment = time.monotonic()
    return moment - _clock.paused


def since(deadline: float) -> float:
    """Convert a `time.monotonic()` time to a time on this clock. Thread: any."""
    return deadline - _clock.paused


def after(seconds: float) -> float:
    """Return the time on this clock that is `seconds` from now. Thread: any."""
    return now() + seconds


def beat() -> None:
    """Record a beat and, if the previous beat is too old, a pause.

    Thread: the thread inside `beating`, and any thread that calls `now` after a pause.
    """
    with _clock.lock:
        if _clock.beating:
            moment = time.monotonic()
            if moment - _clock.last > _GAP:
                _clock.paused += moment - _clock.last
            _clock.last = moment


@contextmanager
def beating() -> Iterator[None]:
    """Detect pauses during the block. The block must call `beat` every BEAT seconds.

    Thread: any.
    """
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
    """Wait for a thread to end, and return whether it has ended.

    deadline: a time on this clock, so pauses extend the wait. Thread: any.
    """
    with beating():
        while thread.is_alive() and (left := deadline - now()) > 0:
            thread.join(min(left, BEAT))
            beat()
    return not thread.is_alive()

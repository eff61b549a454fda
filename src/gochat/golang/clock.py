"""A clock for deadlines that stands still while the process is paused.

After a virtual machine was stopped, a container was paused, or Ctrl-Z was pressed, all deadlines
have passed on the system's clock, but no peer is at fault: a pong may be waiting in the socket, and
a ping may never have been sent. So every deadline for a peer is a time on this clock, which leaves
out pauses, and is compared with `now`.

The thread that accepts connections calls `beat` every BEAT seconds; at shutdown, the thread that
waits for the others does. A gap of more than _GAP between two beats counts as a pause, even if
the only cause was a busy interpreter. The first thread that asks for the time after a gap notices
the pause, even if it runs before the thread that beats.
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

    A thread reads `last` before `paused`, and a pause is added to `paused` before `last` is set. So
    a thread without the lock gets, at worst, a time that is too early by one pause, and checks its
    deadline again. It never gets a time that is too late.
    """

    def __init__(self) -> None:
        # Guards changes to the three fields below. A thread that holds it waits for no other lock.
        # Reentrant, because a signal handler may take it while the interrupted thread holds it.
        self.lock = threading.RLock()
        # How many threads beat. If none does, no gap is a pause.
        self.beating = 0
        # The time of the last beat; infinite while no thread beats.
        self.last = float("inf")
        # The total of all pauses, in seconds.
        self.paused = 0.0

    def beat(self) -> None:
        """Record that the process is running, and a pause if there was one."""
        with self.lock:
            if self.beating:
                moment = time.monotonic()
                if moment - self.last > _GAP:
                    self.paused += moment - self.last
                self.last = moment


_clock: Final = _Clock()


def now() -> float:
    """Return the time of this clock, in seconds: `time.monotonic()` minus all pauses.

    Thread: any.
    """
    moment = time.monotonic()
    if moment - _clock.last > _GAP:
        _clock.beat()
        moment = time.monotonic()
    return moment - _clock.paused


def since(deadline: float) -> float:
    """Convert a time from `time.monotonic` to this clock. Thread: any."""
    return deadline - _clock.paused


def after(seconds: float) -> float:
    """Return the time `seconds` from now on this clock. Thread: any."""
    return now() + seconds


def beat() -> None:
    """Record that the process is running. Thread: one inside `beating`, every BEAT seconds."""
    _clock.beat()


@contextmanager
def beating() -> Iterator[None]:
    """Promise to call `beat` every BEAT seconds during the block. Thread: any."""
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
    """Wait for a thread to end and return whether it has.

    deadline: a time on this clock, so pauses during the wait do not count. Thread: any.
    """
    with beating():
        while thread.is_alive() and (left := deadline - now()) > 0:
            thread.join(min(left, BEAT))
            beat()
    return not thread.is_alive()

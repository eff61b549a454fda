"""What the system is told of the threads: how to find and schedule them, and on which CPU.

In Go, all this is a part of the scheduler.

With a GIL, the threads of a process run one at a time, and a thread on another CPU gets the GIL
later than one on the same. So the process stays on one CPU. But if other programs take that CPU
while another one has time, the process would share what it need not share: then all its threads
move.

Linux only. /proc/stat says how busy each CPU is (proc_stat(5)).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from .turns import FREE_THREADED

__all__ = ["INTERVAL", "Processor", "settle"]

#: How long a thread waits for the GIL before it asks for it, in seconds. Python's own is 0.005.
SWITCH_INTERVAL: Final = 2.0

#: How often to look, in seconds.
INTERVAL: Final = 1.0

# By how much of its time the own CPU has to be busier with other programs than another CPU is in
# all, and in how many looks in a row.
_MARGIN: Final = 0.1
_LOOKS: Final = 2

# For how many looks the process stays after a move.
_REST: Final = 10


# Where threads wait, the system looks them up in a table of so many slots (prctl(2): PR_FUTEX_HASH,
# PR_FUTEX_HASH_SET_SLOTS; Linux 6.17).
_FUTEX_SLOTS: Final = 4096
_PR_FUTEX_HASH: Final = 78
_PR_FUTEX_HASH_SET_SLOTS: Final = 1


def settle(*, pin: bool, cpu: int | None = None) -> set[int]:
    """Set up the system for thousands of waiting threads, which a GIL runs one at a time.

    - A call that wakes a thread should find the thread fast. The system's own table of those that
      wait has a few slots for each CPU, and with thousands of threads each slot is a long list.
    - A thread that is woken should not interrupt the thread that has woken it, which still has the
      GIL: the woken thread could only go back to sleep.
    - A thread that waits for the GIL should not ask for it every 5 ms, nor twice a second: when
      thousands ask, as when all clients leave at the same time, nothing else is done. But it must
      ask sometimes: a thread that releases the GIL and retakes it at once would starve the rest.
    - The process should stay on one CPU, because a thread on another CPU gets the GIL later.

    docs/why/performance.md has measurements of all four. Nothing here needs a privilege. On a
    free-threaded build only the first is done, and whatever the system does not know is left out.

    pin: have the process stay on one CPU. cpu: of the CPUs that it may use, by number from 0, and
    round; None for the one that it is on.

    Returns the CPUs to which the process may move, if it stays on one of them: for a Processor.
    """
    # A Python without ctypes, and a system that is not Linux, do without.
    with suppress(ImportError, AttributeError, OSError):
        import ctypes  # noqa: PLC0415

        ctypes.CDLL(None).prctl(_PR_FUTEX_HASH, _PR_FUTEX_HASH_SET_SLOTS, _FUTEX_SLOTS, 0, 0)
    if FREE_THREADED:
        return set()
    # A thread that waits is woken when the GIL is free, and no thread computes for long without
    # falling asleep: one that could, by what a peer sends, sees to that itself (Conn._give_way).
    sys.setswitchinterval(SWITCH_INTERVAL)
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        if pin:
            allowed = sorted(os.sched_getaffinity(0))
            # The 39th field of proc_pid_stat(5), the 37th behind the name.
            stat = Path("/proc/self/stat").read_text()
            here = int(stat.rpartition(")")[2].split()[36])
            os.sched_setaffinity(0, {here if cpu is None else allowed[cpu % len(allowed)]})
            if cpu is None:
                return set(allowed)
    return set()


class Processor:
    """Where the process is, and where it should be. For one thread.

    allowed: the CPUs that the process may use, two at the least. It is on one of them alone.
    """

    def __init__(self, allowed: Collection[int], stat: Path = Path("/proc/stat")) -> None:
        self._allowed = allowed
        self._stat = stat
        (self.cpu,) = os.sched_getaffinity(0)
        self._busy = self._read()
        self._own, self._time = time.process_time(), time.monotonic()
        self._worse = 0
        self._rest = 0

    def follow(self) -> None:
        """Move to another CPU if that is better by now. To be called at least every INTERVAL."""
        if time.monotonic() - self._time < INTERVAL / 2:
            return
        with suppress(OSError):
            if (cpu := self.look()) is not None:
                self.move(cpu)

    def look(self) -> int | None:
        """The CPU to move to, or None, by what has happened since the last look."""
        busy, own, now = self._read(), time.process_time(), time.monotonic()
        passed = max(now - self._time, 1e-3)
        shares = {cpu: (busy[cpu] - self._busy[cpu]) / passed for cpu in self._allowed}
        others = shares.pop(self.cpu) - (own - self._own) / passed
        self._busy, self._own, self._time = busy, own, now
        best = min(shares, key=shares.__getitem__)
        self._rest = max(0, self._rest - 1)
        self._worse = self._worse + 1 if others > shares[best] + _MARGIN else 0
        return best if self._worse >= _LOOKS and not self._rest else None

    def move(self, cpu: int) -> None:
        """Have all threads of the process stay on this CPU from now on."""
        moved: set[str] = set()
        # A thread that starts meanwhile is where the thread that starts it is.
        while threads := set(os.listdir("/proc/self/task")) - moved:
            for thread in threads:
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread), {cpu})
            moved |= threads
        self.cpu, self._worse, self._rest = cpu, 0, _REST

    def _read(self) -> dict[int, float]:
        """How long each CPU has been busy with programs, or was not there, in seconds."""
        ticks = os.sysconf("SC_CLK_TCK")
        found: dict[int, float] = {}
        for line in self._stat.read_text().splitlines():
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu":
                user, nice, system, _idle, _iowait, *rest = [int(field) for field in fields]
                # What is left: interrupts, of both kinds, and time that the host has taken.
                found[int(name[3:])] = (user + nice + system + sum(rest[:3])) / ticks
        return found

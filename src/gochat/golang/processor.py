"""What the system is told of the threads: how to find and schedule them, and on which CPU.

In Go, all this is a part of the scheduler.

With a GIL, the threads of a process run one at a time, and a thread on another CPU gets the GIL
later than one on the same. So the process stays on one CPU. If other programs come to that CPU, the
system moves them to one that has time, unless they stay on theirs, too.

Linux only.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from .turns import FREE_THREADED

__all__ = ["settle"]

#: How long a thread waits for the GIL before it asks for it, in seconds. Python's own is 0.005.
SWITCH_INTERVAL: Final = 2.0

# Where threads wait, the system looks them up in a table of so many slots (prctl(2): PR_FUTEX_HASH,
# PR_FUTEX_HASH_SET_SLOTS; Linux 6.17).
_FUTEX_SLOTS: Final = 4096
_PR_FUTEX_HASH: Final = 78
_PR_FUTEX_HASH_SET_SLOTS: Final = 1


def settle(*, pin: bool, cpu: int | None = None) -> None:
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
    """
    # A Python without ctypes, and a system that is not Linux, do without.
    with suppress(ImportError, AttributeError, OSError):
        import ctypes  # noqa: PLC0415

        ctypes.CDLL(None).prctl(_PR_FUTEX_HASH, _PR_FUTEX_HASH_SET_SLOTS, _FUTEX_SLOTS, 0, 0)
    if FREE_THREADED:
        return
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

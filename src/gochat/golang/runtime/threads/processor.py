"""Settings of the system's scheduler for a process with many threads (Go has its own scheduler).

With a GIL, the threads of a process run one at a time, and a thread on another CPU gets the GIL
later than a thread on the same CPU. So the process stays on one CPU. The system moves other
programs away from that CPU, unless they are pinned to it.

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

#: How long a thread waits for the GIL before it requests it, in seconds. Python's default is 0.005.
SWITCH_INTERVAL: Final = 2.0

# The size of the table in which the system looks up waiting threads (prctl(2): PR_FUTEX_HASH,
# PR_FUTEX_HASH_SET_SLOTS; Linux 6.17).
_FUTEX_SLOTS: Final = 4096
_PR_FUTEX_HASH: Final = 78
_PR_FUTEX_HASH_SET_SLOTS: Final = 1


def settle(*, pin: bool, cpu: int | None = None) -> None:
    """Set up the system for thousands of waiting threads, which a GIL runs one at a time.

    - A call that wakes a thread should find the thread fast. The system's default table of waiting
      threads has a few slots per CPU, so with thousands of threads each slot is a long list.
    - A woken thread should not interrupt the thread that woke it: the waking thread still has the
      GIL, so the woken thread could only go back to sleep.
    - A thread that waits for the GIL should not request it every 5 ms, or even twice a second. If
      thousands do, as when all clients leave at the same time, no other work gets done. But a
      thread must request it sometimes: otherwise a thread that releases the GIL and immediately
      retakes it would starve the rest.
    - The process should stay on one CPU, because a thread on another CPU gets the GIL later.

    docs/why/performance.md has measurements of all four. None needs privileges. On a free-threaded
    build, only the first is done. Settings that the system does not support are skipped.

    pin: keep the process on one CPU. cpu: index into the allowed CPUs, modulo their number; None
    for the current CPU.
    """
    # Skipped in a Python without ctypes, and on systems other than Linux.
    with suppress(ImportError, AttributeError, OSError):
        import ctypes  # noqa: PLC0415

        ctypes.CDLL(None).prctl(_PR_FUTEX_HASH, _PR_FUTEX_HASH_SET_SLOTS, _FUTEX_SLOTS, 0, 0)
    if FREE_THREADED:
        return
    # A waiting thread wakes when the GIL is free, and no thread computes for long without sleeping:
    # where a peer's data could keep a thread busy, the thread gives way itself (Conn._give_way).
    sys.setswitchinterval(SWITCH_INTERVAL)
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        if pin:
            allowed = sorted(os.sched_getaffinity(0))
            # The 39th field of proc_pid_stat(5), the 37th after the name.
            stat = Path("/proc/self/stat").read_text()
            here = int(stat.rpartition(")")[2].split()[36])
            os.sched_setaffinity(0, {here if cpu is None else allowed[cpu % len(allowed)]})

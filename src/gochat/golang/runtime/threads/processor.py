"""Scheduler settings for a process with thousands of threads, on Linux."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from .turns import FREE_THREADED

__all__ = ["settle"]

#: How long a thread waits for the GIL before requesting it, in seconds. Python's default is 0.005.
SWITCH_INTERVAL: Final = 2.0

# The number of slots in the kernel's table of waiting threads (prctl(2): PR_FUTEX_HASH,
# PR_FUTEX_HASH_SET_SLOTS; Linux 6.17).
_FUTEX_SLOTS: Final = 4096
_PR_FUTEX_HASH: Final = 78
_PR_FUTEX_HASH_SET_SLOTS: Final = 1


def settle(*, pin: bool, cpu: int | None = None) -> None:
    """Set up the system for thousands of waiting threads.

    - Futex table: make it larger, so that the kernel quickly finds the thread that it wakes. The
      default table has a few slots per CPU, so with thousands of threads, each slot is a long list.
    - Batch scheduling: keep a woken thread from interrupting the thread that woke it. The latter
      still has the GIL, so the woken thread could only go back to sleep.
    - Switch interval: let a thread that waits for the GIL request it every 2 s, not every 5 ms.
      When all clients leave, thousands of threads wait for the GIL, and requests every 5 ms would
      leave no time for other work. But without requests, a thread that releases the GIL and retakes
      it immediately would starve the others.
    - Pinning: keep the process on one CPU, because a thread on another CPU takes longer to get the
      GIL. The system moves other programs away from that CPU, unless they are pinned to it.

    docs/why/tried.md has measurements of all four. None of them needs privileges. A free-threaded
    build uses only the first. Settings that the system does not support are skipped.

    pin: whether to pin the process. cpu: index into the allowed CPUs, modulo their number; None for
    the current CPU.
    """
    # This needs ctypes and Linux 6.17 or later; otherwise, it has no effect.
    with suppress(ImportError, AttributeError, OSError):
        import ctypes  # noqa: PLC0415

        ctypes.CDLL(None).prctl(_PR_FUTEX_HASH, _PR_FUTEX_HASH_SET_SLOTS, _FUTEX_SLOTS, 0, 0)
    if FREE_THREADED:
        return
    # The interval can be this long because no thread computes for long. If a peer keeps a reading
    # thread busy, that thread sleeps every few milliseconds (Conn._give_way).
    sys.setswitchinterval(SWITCH_INTERVAL)
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        if pin:
            allowed = sorted(os.sched_getaffinity(0))
            # The current CPU is field 39 of proc_pid_stat(5), at index 36 after the name.
            stat = Path("/proc/self/stat").read_text()
            here = int(stat.rpartition(")")[2].split()[36])
            os.sched_setaffinity(0, {here if cpu is None else allowed[cpu % len(allowed)]})

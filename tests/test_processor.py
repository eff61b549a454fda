"""processor.py: scheduling settings."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gochat.golang.runtime.threads.processor import settle


def test_free_threads_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GIL, settle lets the threads run on all CPUs."""
    monkeypatch.setattr("gochat.golang.runtime.threads.processor.FREE_THREADED", True)

    def settled() -> tuple[int, set[int], float]:
        return os.sched_getscheduler(0), os.sched_getaffinity(0), sys.getswitchinterval()

    before = settled()
    settle(pin=True)
    assert settled() == before


def test_a_table_for_thousands_that_wait() -> None:
    """Where the kernel allows it, the futex hash table has 4,096 slots."""
    program = (
        "import ctypes\n"
        "from gochat.golang.runtime.threads.processor import settle\n"
        "def slots():\n"
        "    return ctypes.CDLL(None).prctl(78, 2, 0, 0, 0)  # PR_FUTEX_HASH_GET_SLOTS\n"
        "able = ctypes.CDLL(None).prctl(78, 1, 2, 0, 0) == 0  # PR_FUTEX_HASH_SET_SLOTS\n"
        "settle(pin=False)\n"
        "print(int(able), slots())\n"
    )
    command = [sys.executable, "-c", program]
    able, slots = map(int, subprocess.check_output(command, text=True).split())
    assert (slots == 4096) == bool(able)

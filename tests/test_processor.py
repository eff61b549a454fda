"""processor.py: what the system is told of the threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gochat.golang.processor import settle


def test_free_threads_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads can run at the same time, settle leaves all their CPUs to them."""
    monkeypatch.setattr("gochat.golang.processor.FREE_THREADED", True)

    def settled() -> tuple[int, set[int], float]:
        return os.sched_getscheduler(0), os.sched_getaffinity(0), sys.getswitchinterval()

    before = settled()
    settle(pin=True)
    assert settled() == before


def test_a_table_for_thousands_that_wait() -> None:
    """The system has slots for thousands of threads that wait, if it is one that can be told."""
    program = (
        "import ctypes\n"
        "from gochat.golang.processor import settle\n"
        "def slots():\n"
        "    return ctypes.CDLL(None).prctl(78, 2, 0, 0, 0)  # PR_FUTEX_HASH_GET_SLOTS\n"
        "able = ctypes.CDLL(None).prctl(78, 1, 2, 0, 0) == 0  # PR_FUTEX_HASH_SET_SLOTS\n"
        "settle(pin=False)\n"
        "print(int(able), slots())\n"
    )
    command = [sys.executable, "-c", program]
    able, slots = map(int, subprocess.check_output(command, text=True).split())
    assert (slots == 4096) == bool(able)

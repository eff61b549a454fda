"""processor.py: which CPU the process stays on, and its move to another one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gochat.golang import processor
from gochat.golang.processor import Processor, settle

from .support import PATIENCE, in_background


def test_free_threads_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where threads can run at the same time, settle leaves all their CPUs to them."""
    monkeypatch.setattr("gochat.golang.processor.FREE_THREADED", True)

    def settled() -> tuple[int, set[int], float]:
        return os.sched_getscheduler(0), os.sched_getaffinity(0), sys.getswitchinterval()

    before = settled()
    assert settle(pin=True) == set()
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


@pytest.fixture
def pinned() -> Iterator[int]:
    """The CPU that this process stays on during the test."""
    before = os.sched_getaffinity(0)
    cpu = min(before)
    os.sched_setaffinity(0, {cpu})
    yield cpu
    os.sched_setaffinity(0, before)


class Stat:
    """A file like /proc/stat of two CPUs, which a test writes. busy: in seconds, by others too."""

    def __init__(self, path: Path, cpu: int) -> None:
        self.path = path
        self.here, self.there = cpu, cpu + 1
        self.busy = {self.here: 0.0, self.there: 0.0}
        self.write()

    def write(self) -> None:
        tick = os.sysconf("SC_CLK_TCK")
        lines = ["cpu  1 2 3 4 5 6 7 8 9 10"]
        for cpu, busy in self.busy.items():
            lines.append(f"cpu{cpu} {int(busy * tick)} 0 0 99999 0 7 7 0 0 0")
        self.path.write_text("\n".join([*lines, "ctxt 1", ""]))


def looks(stat: Stat, found: Processor, here: float, there: float) -> int | None:
    """A look after a second in which the CPUs were busy for these shares of the time."""
    found._time = time.monotonic() - 1
    stat.busy[stat.here] += here
    stat.busy[stat.there] += there
    stat.write()
    return found.look()


def test_the_process_moves_away_from_others(pinned: int, tmp_path: Path) -> None:
    """If others take its CPU for two looks while another one has time, the process should move."""
    stat = Stat(tmp_path / "stat", pinned)
    found = Processor([stat.here, stat.there], stat.path)
    assert looks(stat, found, 1.0, 0.1) is None
    assert looks(stat, found, 1.0, 0.1) == stat.there


def test_the_process_stays_where_others_are_few(pinned: int, tmp_path: Path) -> None:
    """The process stays if the other CPU is as busy, or its own only for a moment."""
    stat = Stat(tmp_path / "stat", pinned)
    found = Processor([stat.here, stat.there], stat.path)
    for _ in range(5):
        assert looks(stat, found, 1.0, 0.95) is None
    for _ in range(5):
        assert looks(stat, found, 1.0, 0.1) is None
        assert looks(stat, found, 0.1, 0.1) is None


def test_the_process_stays_for_itself(pinned: int, tmp_path: Path) -> None:
    """What the process itself does on its CPU is no reason to leave."""
    stat = Stat(tmp_path / "stat", pinned)
    found = Processor([stat.here, stat.there], stat.path)
    for _ in range(3):
        found._own = time.process_time() - 0.9  # what it did in the last second
        assert looks(stat, found, 1.0, 0.1) is None


def test_the_process_rests_after_a_move(pinned: int, tmp_path: Path) -> None:
    """After a move, the process stays for some looks, whatever it sees."""
    stat = Stat(tmp_path / "stat", pinned)
    found = Processor([stat.here, stat.there], stat.path)
    found.move(pinned)
    moves = [looks(stat, found, 1.0, 0.1) for _ in range(processor._REST)]
    assert moves[:-1] == [None] * (processor._REST - 1)
    assert moves[-1] == stat.there


def test_all_threads_move(pinned: int) -> None:
    """A move takes every thread along, and those that are started meanwhile."""
    allowed = sorted(os.sched_getaffinity(os.getppid()) | {pinned})
    gate = threading.Event()
    with in_background(lambda: gate.wait(PATIENCE)), in_background(lambda: gate.wait(PATIENCE)):
        Processor([pinned]).move(allowed[-1])
        threads = [int(name) for name in os.listdir("/proc/self/task")]
        assert {frozenset(os.sched_getaffinity(thread)) for thread in threads} == {
            frozenset({allowed[-1]})
        }
        gate.set()


def test_follow_looks_now_and_then(
    pinned: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls in a row are one look; a move that is due is made."""
    stat = Stat(tmp_path / "stat", pinned)
    found = Processor([stat.here, stat.there], stat.path)
    moved: list[int] = []
    monkeypatch.setattr(found, "move", moved.append)
    for _ in range(4):
        found._time = time.monotonic() - 1
        stat.busy[stat.here] += 1.0
        stat.write()
        for _ in range(3):
            found.follow()
    assert moved == [stat.there] * 3

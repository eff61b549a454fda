"""A short run of each fault in harm.py, and the table that harm.py writes."""

from __future__ import annotations

import re

import pytest

from .harm import BEGIN, END, HEAD, PAGE, TRIALS, Amount, run
from .support import ROOT, SEED

#: Faults that other tests also cause, or that mostly consist of waiting.
TESTED_ELSEWHERE = {"calm", "silent", "drip", "handshakes", "frames", "twice"}


@pytest.mark.parametrize("name", [name for name in TRIALS if name not in TESTED_ELSEWHERE])
def test_a_little_harm(name: str) -> None:
    """A fault harms only the clients that cause it."""
    row = run(name, Amount(SEED, quick=True))
    assert row.count(" | ") == HEAD.splitlines()[0].count(" | ")


def test_the_table_has_a_row_for_each_fault() -> None:
    """The table in docs/run/reliability.md lists the faults of harm.py, in order."""
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    faults = re.findall(r"^\| (.+?) \|", table, re.M)[2:]
    assert faults == [fault for fault, _, _ in TRIALS.values()]


def test_the_tests_of_the_faults_are_there() -> None:
    code = "".join(path.read_text() for path in ROOT.glob("tests/test_*.py"))
    for _, _, tests in TRIALS.values():
        for name in re.findall(r"`(\w+)`", tests):
            assert f"def {name}(" in code
        for name in re.findall(r"(test_\w+\.py)", tests):
            assert (ROOT / "tests" / name).exists()

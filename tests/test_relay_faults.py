"""The promise of docs/run/scale.md while Redis has faults, as caused by relay_faults.py."""

from __future__ import annotations

import re

import pytest

from .redis_support import TESTED
from .relay_faults import BEGIN, END, ENDINGS, FAULTS, PAGE, Row, line, run, run_ending
from .support import SEED

# These tests keep a CPU busy, so they run one after the other.
pytestmark = pytest.mark.xdist_group("faults")


@pytest.mark.parametrize("server", TESTED)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_redis(name: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No message is doubled or out of its sender's order, and losses are reported as missing."""
    monkeypatch.setattr("gochat.relay.stream._ANSWER_WAIT", 0.5)
    run(name, server, SEED, short=True)


@pytest.mark.parametrize("server", TESTED)
@pytest.mark.parametrize("name", ENDINGS)
def test_a_fault_of_a_process(name: str, server: str) -> None:
    """Clients of both processes hear the same messages, until all get a close frame."""
    run_ending(name, server, SEED)


def test_the_table_has_a_row_for_each_fault() -> None:
    """The table of docs/run/scale.md has the faults of relay_faults.py, in the same order."""
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    faults = [fault.text for fault in FAULTS.values()]
    faults += [ending.text for ending in ENDINGS.values()]
    assert re.findall(r"^\| (.+?) \|", table, re.M)[2:] == faults


def test_a_row_for_both_servers() -> None:
    """A row of the table has a value once if both servers have it, and otherwise both values."""
    rows = [Row("cut", said, lost, lost, 0, 0, True, "200") for said, lost in ((9, 0), (8, 0))]
    assert line(rows) == "| cut | 9 / 8 | 0 | 0 | 0 | 0 | one | 200 |"

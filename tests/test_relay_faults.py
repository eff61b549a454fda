"""The promises of docs/run/scale.md about faults of Redis, tested with relay_faults.py."""

from __future__ import annotations

import re

import pytest

from .redis_support import TESTED
from .relay_faults import BEGIN, END, ENDINGS, FAULTS, PAGE, Row, line, run, run_ending
from .support import SEED

# These tests keep a CPU busy, so they run one at a time.
pytestmark = pytest.mark.xdist_group("faults")


@pytest.mark.parametrize("server", TESTED)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_redis(name: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No message is repeated or reordered, and every loss is reported."""
    monkeypatch.setattr("gochat.relay.stream._ANSWER_WAIT", 0.5)
    run(name, server, SEED, short=True)


@pytest.mark.parametrize("server", TESTED)
@pytest.mark.parametrize("name", ENDINGS)
def test_a_fault_of_a_process(name: str, server: str) -> None:
    """All clients of both processes receive the same messages until they are disconnected."""
    run_ending(name, server, SEED)


def test_the_table_has_a_row_for_each_fault() -> None:
    """The table in docs/run/scale.md lists the faults of relay_faults.py, in order."""
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    faults = [fault.text for fault in FAULTS.values()]
    faults += [ending.text for ending in ENDINGS.values()]
    assert re.findall(r"^\| (.+?) \|", table, re.M)[2:] == faults


def test_a_row_for_both_servers() -> None:
    """A table cell shows two values only if Redis and Valkey differ."""
    rows = [Row("cut", said, lost, lost, 0, 0, True, "200") for said, lost in ((9, 0), (8, 0))]
    assert line(rows) == "| cut | 9 / 8 | 0 | same | 200 |"

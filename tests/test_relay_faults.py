"""The promise of docs/run/scale.md, while Redis crashes, stops, forgets; see relay_faults.py."""

from __future__ import annotations

import pytest

from .redis_support import SERVERS
from .relay_faults import ENDINGS, FAULTS, run, run_ending
from .support import SEED

# These tests keep a CPU busy, so they run one after the other.
pytestmark = pytest.mark.xdist_group("faults")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_redis(name: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No message is doubled or out of its sender's order, and losses are reported as missing."""
    monkeypatch.setattr("gochat.relay.stream._ANSWER_WAIT", 0.5)
    run(name, server, SEED, short=True)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", ENDINGS)
def test_a_fault_of_a_process(name: str, server: str) -> None:
    """Clients of both processes hear the same messages, until all get a close frame."""
    run_ending(name, server, SEED)

"""The promise of docs/run/scale.md, while Redis crashes, stops, forgets; see relay_faults.py."""

from __future__ import annotations

import pytest

from .redis_support import SERVERS
from .relay_faults import ENDINGS, FAULTS, run, run_ending
from .support import SEED

# Busy for itself: one after the other. Other tests run meanwhile.
pytestmark = pytest.mark.xdist_group("faults")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_redis(name: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is doubled or out of a sender's order, and all that is lost is said to be missing."""
    monkeypatch.setattr("gochat.relay.stream._ANSWER_WAIT", 0.5)
    run(name, server, SEED, short=True)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", ENDINGS)
def test_a_fault_of_a_process(name: str, server: str) -> None:
    """What its clients and those of another process hear is the same, up to a farewell to all."""
    run_ending(name, server, SEED)

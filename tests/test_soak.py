"""One minute of soak.py, and a leak that soak.py must detect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .soak import PONG_WAIT, Sample, judge, soak, windows
from .support import SEED

# These tests keep a CPU busy, so they run one at a time. They are not `measured`, because coverage
# keeps memory for each ended thread.
pytestmark = pytest.mark.xdist_group("soak")

SECONDS = 60.0

#: A tenth of soak.py's default, so that other tests can run at the same time. Most of the time goes
#: into deliveries to members; the number of connections depends on them little.
MEMBERS = 20

#: Leaks 1 MB per accepted connection, and writes a byte for each to the file `path`.
LEAK = """
    from gochat import Server

    kept, process_request = [], Server.process_request
    count = open({path!r}, "wb", buffering=0)

    def keep(self, *args):
        kept.append(b"x" * 1_000_000)
        count.write(b"x")
        process_request(self, *args)

    Server.process_request = keep
"""

#: Connections that must leak between the second quarter of the run and the last: at 1 MB each, more
#: than twice the growth that soak.py allows in one minute.
LEAKED = 40


def test_everything_at_once(record_property: Callable[[str, object], None]) -> None:
    """Despite churn, floods, stuck clients and bad input, no message is lost and nothing leaks."""
    record_property("soak with", f"GOCHAT_SEED={SEED}")
    run = soak(SECONDS, SEED, members=MEMBERS)
    record_property("soak", run.report())
    assert len(run.samples) > SECONDS / 2  # even on a busy machine
    assert all(flooder.heard for flooder in run.flooders if not flooder.leaving)
    # Some stuck clients are disconnected after the write wait, others after the pong wait.
    assert min(run.ages) < PONG_WAIT <= max(run.ages)


def test_a_leak_is_seen(tmp_path: Path) -> None:
    path, counts = tmp_path / "count", list[int]()

    def enough() -> bool:
        # Counts connections, not seconds, because a slow machine accepts fewer per second.
        counts.append(path.stat().st_size)
        early, late = windows(counts)
        return late - early >= LEAKED

    with pytest.raises(AssertionError, match="memory grows"):
        soak(
            SECONDS,
            SEED,
            members=MEMBERS,
            fault=LEAK.format(path=str(path)),
            enough=enough,
        )


def samples(memory: list[float]) -> list[Sample]:
    """Return samples with these amounts of memory, in MB."""
    return [
        Sample(float(i), int(megabytes * 1e6), 240, 120, 118, 118 + 40 * i, 300 * i, 30_000 * i)
        for i, megabytes in enumerate(memory)
    ]


def test_memory_is_judged() -> None:
    """Memory may grow at first and may vary, but must not keep growing."""
    judge(samples([20 + min(i, 20) for i in range(60)]))
    judge(samples([40 + 10 * (i % 2) for i in range(60)]))
    judge(samples([40 + min(i / 5, 10) for i in range(1800)]))
    with pytest.raises(AssertionError, match="memory grows"):
        judge(samples([40 + i * 40 * 20_000 / 1e6 for i in range(60)]))
    with pytest.raises(AssertionError, match="memory grows"):
        judge(samples([40 + i * 40 * 200 / 1e6 for i in range(1800)]))

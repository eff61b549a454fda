"""The Autobahn test suite, run by `kosoku` against an echo server."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gochat import Server, Upgrader, running

from .support import PATIENCE, ROOT, patch

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: The runtime under test. `tests/run` tests both at the same time.
RUNTIME = os.environ.get("GOCHAT_RUNTIME") or "threads"

#: The report's directory. Its first page is index.html.
REPORT = Path(__file__).with_name("reports") / "autobahn-{}.{}-{}".format(
    *sys.version_info[:2], RUNTIME
)

#: All cases except those on compression, which gochat does not offer.
CASES = 301
COMPRESSION = ("12.*", "13.*")

#: Verdicts that pass, for the messages and for the close.
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}

SERVE = "from tests.test_autobahn import serve_echo; serve_echo()"

#: Seconds for all cases together. They take about 15, of which 6 are pauses.
BOUND = 300


def serve_echo() -> None:
    """Serve an echo until stdin ends."""
    upgrader = Upgrader(utf8_only=False)

    def echo(environ: WSGIEnvironment, _start_response: StartResponse) -> Iterable[bytes]:
        conn = upgrader.upgrade(environ)
        try:
            while True:
                kind, data = conn.read_message()
                conn.write_message(kind, data)
        except OSError:
            pass
        finally:
            conn.close()
        return []

    server = Server("127.0.0.1:0", echo, read_header_timeout=30.0)
    with running(server):
        server.start()
        print(server.addr, flush=True)
        select.select([sys.stdin], [], [])  # reading stdin would block all greenlets


@pytest.fixture
def address() -> Iterator[str]:
    """The address of an echo server in its own process, not slowed down by coverage."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", f"{patch()}\n{SERVE}"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")


def test_autobahn(address: str, record_property: Callable[[str, object], None]) -> None:
    shutil.rmtree(REPORT, ignore_errors=True)
    command: list[str | Path] = [Path(sys.executable).with_name("kosoku"), f"ws://{address}"]
    # One at a time, because some cases require an answer within a second.
    command += ["--outdir", REPORT, "--parallelism", "1"]
    for case in COMPRESSION:
        command += ["--exclude", case]
    run = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert (REPORT / "index.json").exists(), run.stdout
    agents: dict[str, dict[str, dict[str, Any]]] = json.loads((REPORT / "index.json").read_text())
    cases = {name: case for agent in agents.values() for name, case in agent.items()}
    verdicts = Counter(case["behavior"] for case in cases.values())
    failed = {
        name: f"{case['behavior']}, close {case['behaviorClose']}"
        for name, case in cases.items()
        if not {case["behavior"], case["behaviorClose"]} <= PASSED
    }
    record_property(
        "Autobahn",
        f"{len(cases) - len(failed)} of {len(cases)} cases passed,"
        f" {verdicts['NON-STRICT']} NON-STRICT, {verdicts['INFORMATIONAL']} INFORMATIONAL",
    )
    assert not failed, f"failed: {failed}; the report is in {REPORT}"
    assert len(cases) == CASES, f"not all were run; the report is in {REPORT}"
    assert run.returncode == 0, run.stdout

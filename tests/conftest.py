"""Hooks and fixtures for all tests."""

import gc
import os
import signal
from collections.abc import Generator
from contextlib import nullcontext
from typing import NoReturn

import pytest

from .http_support import logged, nothing_left  # noqa: F401 - fixtures
from .support import UNMEASURED, unmeasured

#: Environment variables with which coverage measures the processes that a test starts.
COVERAGE = dict(os.environ.items() - UNMEASURED.items())

#: Seconds for a test and its fixtures. No test needs nearly as long.
LIMIT = 600.0 + float(os.environ.get("GOCHAT_DELIVERY_SECONDS", "0"))

#: Test files that check programs, pages or files, and do not use gochat's code in this process.
#: relay_faults does, but test_relay.py covers that code.
OUTSIDE = {"delivery", "docs", "faults", "harm", "home", "layout", "relay_faults", "soak"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that hangs, with a traceback."""

    def fail(*_: object) -> NoReturn:
        pytest.fail(f"the test has not ended after {LIMIT:g} s")

    signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        with unmeasured() if item.path.stem.removeprefix("test_") in OUTSIDE else nullcontext():
            return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Measure started processes only in tests marked `measured`.

    With measuring, a process takes twice as long to start, and other tests run most of the same
    code in this process.
    """
    for name, value in COVERAGE.items():
        os.environ.pop(name, None)
        if item.get_closest_marker("measured"):
            os.environ[name] = value


def pytest_collection_finish() -> None:
    """Make Ctrl-C raise KeyboardInterrupt, and make `gc.collect` cheaper.

    A shell's background jobs and their child processes ignore SIGINT, so tests that press Ctrl-C
    would wait forever. Under tests/greenlets.py, SIGINT would end the process without an exception.

    Freezing all current objects saves 0.2 s in each of the hundreds of tests that call
    `gc.collect`.
    """
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, signal.SIG_DFL):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests have recorded with `record_property`."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, value in report.user_properties:
                    terminalreporter.write_line(f"{name}: {value}")

"""Rules and fixtures for all tests."""

import gc
import os
import signal
from collections.abc import Generator
from typing import NoReturn

import pytest

from .http_support import logged, nothing_left  # noqa: F401 - fixtures
from .support import UNMEASURED

#: The environment variables that make coverage measure a process started by a test.
COVERAGE = dict(os.environ.items() - UNMEASURED.items())

#: Time allowed for a test with its fixtures, in seconds: far longer than any test needs.
LIMIT = 600.0 + float(os.environ.get("GOCHAT_DELIVERY_SECONDS", "0"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Make a test that hangs fail, with a traceback of where it hangs."""

    def fail(*_: object) -> NoReturn:
        pytest.fail(f"the test has not ended after {LIMIT:g} s")

    signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Measure processes only in tests that are marked `measured`: it doubles their start time.

    Most of their code also runs in other tests, in this process.
    """
    for name, value in COVERAGE.items():
        os.environ.pop(name, None)
        if item.get_closest_marker("measured"):
            os.environ[name] = value


def pytest_collection_finish() -> None:
    """Make Ctrl-C raise KeyboardInterrupt, and exempt all objects so far from `gc.collect`.

    A background job of a shell ignores SIGINT, and so do its child processes: the tests that press
    Ctrl-C would wait forever. tests/greenlets.py starts processes that SIGINT ends until now.

    Fewer objects save a fifth of a second in each of the hundreds of tests that call `gc.collect`.
    """
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, signal.SIG_DFL):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tests' messages (`record_property`) at the end, whichever process ran them."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, value in report.user_properties:
                    terminalreporter.write_line(f"{name}: {value}")

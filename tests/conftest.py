"""What holds for all tests."""

import gc
import os
import signal

import pytest

from .http_support import logged, nothing_left  # noqa: F401 - fixtures
from .support import UNMEASURED

# A job that a shell has put into the background ignores SIGINT, and so would all that it starts:
# the tests that press Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: What has coverage measure a process that a test starts.
COVERAGE = dict(os.environ.items() - UNMEASURED.items())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have processes measured only by tests that are marked `measured`: it doubles their start.

    Most of what runs in them runs in other tests in this process, too.
    """
    for name, value in COVERAGE.items():
        os.environ.pop(name, None)
        if item.get_closest_marker("measured"):
            os.environ[name] = value


def pytest_collection_finish() -> None:
    """What is there before the first test is no garbage: `gc.collect` need not look at that again.

    That takes a fifth of a second of each test that collects, and hundreds do.
    """
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have to tell (`record_property`) comes at the end, whichever process ran them."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, value in report.user_properties:
                    terminalreporter.write_line(f"{name}: {value}")

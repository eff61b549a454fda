"""Tests on Pythons without a GIL, if any are installed.

On every Python, test_channel.py also runs the code that needs no GIL, and test_turns.py checks the
model in docs/turns.pml.
"""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from .support import PATIENCE, ROOT

NAME = re.compile(r"python3\.\d+(t|-nogil)")

NO_GIL = os.environ | {"PYTHON_GIL": "0"}

TESTS = ("test_channel", "test_turns", "test_hub", "test_client", "test_conn")


def works(python: str) -> bool:
    """Return whether the command is a Python that runs without a GIL."""
    program = "import sys; sys.exit(sys._is_gil_enabled())"
    try:
        done = subprocess.run(
            [python, "-c", program], env=NO_GIL, capture_output=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def interpreters() -> list[str]:
    """Return the names of free-threaded Pythons on the PATH."""
    folders = (Path(folder) for folder in os.get_exec_path())
    names = {path.name for each in folders if each.is_dir() for path in each.glob("python3.*")}
    return sorted(name for name in names if NAME.fullmatch(name) and works(name))


PYTHONS = interpreters()


@pytest.mark.skipif(not PYTHONS, reason="there is no free-threaded Python here")
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("test", TESTS)
def test_without_a_gil(test: str, python: str) -> None:
    """The tests of shared data pass without a GIL."""
    # Use this Python's packages, which work without their compiled parts.
    path = os.pathsep.join((str(ROOT / "src"), sysconfig.get_path("purelib")))
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{test}.py")
    done = subprocess.run(
        # Leave out the model, which does not depend on Python, and a test that needs the installed
        # command.
        [python, *command, "-k", "not model and not flooder"],
        cwd=ROOT,
        env=NO_GIL | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]

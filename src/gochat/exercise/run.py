"""One check, in the child process that `gochat exercise N --check` forks."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from . import checks
from .catalogue import exercises
from .learner import Learner, Refused

__all__ = ["examine", "main"]

# Resource limits for a learner's file. Every right answer needs far less.
_LIMITS: Final = {
    "RLIMIT_CPU": 60,  # seconds
    "RLIMIT_AS": 4 << 30,  # bytes
    "RLIMIT_FSIZE": 16 << 20,  # bytes
}


def main(verdict: Connection, number: int, path: Path, output: int) -> None:
    """Run the child process: check a file, and send the verdict.

    output: descriptor for everything that the file prints. The child starts a session without a
    terminal, so the file can neither read from the learner's terminal nor change the terminal's
    settings.

    Thread: the main one.
    """
    import resource  # noqa: PLC0415 - Windows does not have it

    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # Replaces the command's log, which writes to the terminal.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
    for name, value in _LIMITS.items():
        limit = getattr(resource, name)
        with suppress(ValueError):  # the system has a lower limit, or none of this kind
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    verdict.send_bytes(examine(number, path).encode())


def examine(number: int, path: Path) -> str:
    """Check a learner's file. Returns a line, which starts with `right: ` or `not yet: `."""
    sys.dont_write_bytecode = True  # keep the learner's folder clean
    exercise = exercises()[number - 1]
    check = getattr(checks, exercise.name)  # first, because the file could replace it
    learner = Learner(path, exercise.starter)
    try:
        learner.load()
        return f"right: {check(learner)}"
    except Refused as refused:
        return f"not yet: {refused}"
    except Exception as error:  # such as AttributeError for an object of the wrong type
        return f"not yet: {learner.describe(error)}"

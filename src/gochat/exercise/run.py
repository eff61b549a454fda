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

# The resources that a learner's file may use before the system stops it: enough for any right
# answer.
_LIMITS: Final = {
    "RLIMIT_CPU": 60,  # seconds
    "RLIMIT_AS": 4 << 30,  # bytes
    "RLIMIT_FSIZE": 16 << 20,  # bytes
}


def main(verdict: Connection, number: int, path: Path, output: int) -> None:
    """Run as the child: send the verdict and redirect all printed output to a descriptor.

    Thread: the main one. The child has a new session without a terminal, so that a learner's file
    can neither read from the learner's terminal nor change its settings.
    """
    import resource  # noqa: PLC0415 - only POSIX has it, and sessions

    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # Replaces the log that the command set up, which also has the terminal open.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
    for name, value in _LIMITS.items():
        limit = getattr(resource, name)
        with suppress(ValueError):  # the system allows less, or has no such limit
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    verdict.send_bytes(examine(number, path).encode())


def examine(number: int, path: Path) -> str:
    """Check a learner's file. Returns one line, which starts with `right: ` if it is right."""
    sys.dont_write_bytecode = True  # the learner's folder should have only the learner's file
    exercise = exercises()[number - 1]
    check = getattr(checks, exercise.name)  # fetched before the file can replace it
    learner = Learner(path, exercise.starter)
    try:
        learner.load()
        return f"right: {check(learner)}"
    except Refused as refused:
        return f"not yet: {refused}"
    except Exception as error:  # the file has an object of an unexpected kind
        return f"not yet: {learner.describe(error)}"

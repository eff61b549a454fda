"""`--runtime greenlets`: restarts the command in a process that gevent has patched.

gevent must patch a process before `socket` or `threading` is imported, and this command has
imported both by the time it knows its flags. So the process executes Python again, with a program
that patches first. The process keeps its id, its descriptors and its environment. A program that
calls `main` itself is not replaced: it must do the patching.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from ..golang.runtime import OLDEST, too_old

__all__ = ["check_gevent", "start_again"]

# The program that Python then executes. {}: the present sys.path, to find the same packages.
_PROGRAM = """\
import sys; sys.path[:] = {}
from gochat_command import main; sys.exit(main(greenlets=True))
"""


def check_gevent() -> None:
    """Raise ImportError if gevent is missing or too old. Thread: any."""
    least = ".".join(map(str, OLDEST))
    needed = f"--runtime greenlets needs gevent {least} or later"
    try:
        version = metadata.version("gevent")
        if not too_old(version):
            return
        needed += f", not {version}"
    except metadata.PackageNotFoundError:
        pass
    raise ImportError(f"{needed}: pip install 'gochat[greenlets]'")


def start_again(argv: Sequence[str]) -> NoReturn:
    """Execute this command again on greenlets. Thread: the main one, which must be the only one.

    argv: arguments without the program name. Ctrl-C is blocked until gochat_command runs again,
    because a starting Python prints a traceback. Raises OSError if the system cannot execute it.
    """
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    program = _PROGRAM.format(repr(sys.path))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        os.execv(sys.executable, [sys.executable, *flags, "-c", program, *argv])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

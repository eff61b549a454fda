"""`--runtime greenlets`: restarts the command in a process that gevent has patched.

gevent must patch a process before it imports `socket` or `threading`. By the time this command has
read its flags, it has imported both. So it replaces itself with a new Python interpreter, which
gevent patches first. The process id, the descriptors and the environment stay the same.

A program that calls `main` is not restarted, so it must patch its process before the call.
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

# The new program. {} stands for the current sys.path, so that the program finds the same packages.
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
    """Replace this process with the same command on greenlets.

    argv: arguments without the program name. Ctrl-C is blocked until gochat_command handles it,
    because Python would answer Ctrl-C with a traceback while it starts. Raises OSError if the
    system cannot start Python. Thread: the main one; there must be no other.
    """
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    program = _PROGRAM.format(repr(sys.path))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        os.execv(sys.executable, [sys.executable, *flags, "-c", program, *argv])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

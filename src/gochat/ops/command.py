"""The command `gochat`: reads the flags, sets up the log, and runs the subcommand.

A subcommand imports only what it needs.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

from ..golang import runtime
from ..golang.log import LogHandler
from .config import Config, ConfigError
from .flags import parse_flags
from .serve import HubError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, restart: bool = False) -> int:
    """Run the command and return its exit status.

    An error is printed in one line, and the status is then 1. Exits with status 2 if the flags are
    invalid.

    argv: arguments without the program name; None for `sys.argv[1:]`. restart: whether `--runtime
    greenlets` may replace this process; if False, gevent must already have patched the process.
    Thread: the main one.
    """
    args = parse_flags(argv)
    place = None
    try:
        if args.command == "serve" and os.name != "posix":  # the log needs POSIX, too
            raise OSError("serve needs POSIX, which Windows does not have: use WSL")
        if args.command == "serve" and args.runtime != runtime.NAME:
            change_runtime(argv, args.processes, restart=restart)
        if args.command == "serve" and args.processes > 1:
            from .processes import find_place  # noqa: PLC0415 - a single process does not need it

            place = find_place()
        line = f"%(asctime)s [{place.number}] %(message)s" if place else "%(asctime)s %(message)s"
        logging.basicConfig(
            level=logging.INFO, format=line, datefmt="%Y/%m/%d %H:%M:%S", handlers=[LogHandler()]
        )
        if args.command == "serve":
            serve(replace(args.config, place=place))
            return 0
        status: int | None = args.run(args)  # set with the command's flags
        return status or 0
    except ConfigError as error:
        refuse: Callable[[str], NoReturn] = args.error
        refuse(str(error))
    except (OSError, ValueError, ImportError, HubError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.strerror:
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        if place:
            place.failed(text)  # the parent prints it once, with this process's number
        else:
            print(f"gochat: {text}", file=sys.stderr)
        return 1


def change_runtime(argv: Sequence[str] | None, processes: int, *, restart: bool) -> None:
    """Restart the command on greenlets, if this process will serve clients itself.

    processes: the value of `--processes`. restart: see `main`. Raises ImportError if gevent is
    missing or too old, or if `restart` is False. Raises OSError if the system cannot start Python.
    """
    from .greenlets import check_gevent, start_again  # noqa: PLC0415 - threads do not need it
    from .processes import has_place  # noqa: PLC0415

    check_gevent()
    if not restart:
        raise runtime.PatchError(
            "--runtime greenlets: gevent has not patched this program: call"
            " gevent.monkey.patch_all(queue=False) in its first line"
        )
    if processes == 1 or has_place():  # a parent stays on threads; its children restart
        start_again(sys.argv[1:] if argv is None else argv)


def serve(config: Config) -> None:
    """Serve the chat, in this process or in several."""
    if config.processes > 1 and config.place is None:
        from .deploy import supervise  # noqa: PLC0415

        supervise(config)
    else:
        from ..main import main  # noqa: PLC0415

        main(config)

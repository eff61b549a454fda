"""The command `gochat`: reads the flags, sets up logging, and runs the subcommand.

Each command imports only what it needs: a server does not need a load generator.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import NoReturn

from ..golang import runtime
from ..golang.log import LogHandler
from .config import Config, ConfigError
from .flags import parse_flags
from .serve import HubError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, restart: bool = False) -> int:
    """Run the command and return its exit status. An error prints one line and returns 1.

    argv: arguments without the program name; None for `sys.argv[1:]`. restart: whether the process
    may be replaced by one that runs the same command on greenlets; if not, `--runtime greenlets`
    works only in a program that gevent has patched. Exits with 2 if the flags make no sense.
    Thread: the main one.
    """
    args = parse_flags(argv)
    if args.command == "serve" and args.runtime != runtime.NAME:
        try:
            change_runtime(argv, args.processes, restart=restart)
        except (ImportError, OSError) as error:
            print(f"gochat: {error}", file=sys.stderr)
            return 1
    config = config_of(args) if args.command == "serve" else Config()
    place = config.place
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s [{place.number}] %(message)s" if place else "%(asctime)s %(message)s",
        datefmt="%Y/%m/%d %H:%M:%S",
        handlers=[LogHandler()],
    )
    try:
        if args.command == "serve":
            serve(config)
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
            place.failed(text)  # the parent reports it, once, with this process's number
        else:
            print(f"gochat: {text}", file=sys.stderr)
        return 1


def change_runtime(argv: Sequence[str] | None, processes: int, *, restart: bool) -> None:
    """Start the command again on greenlets, if this process will serve a chat itself.

    processes: the value of `--processes`. restart: see `main`. Raises ImportError if gevent is
    missing or too old, or if the command must not start again; OSError if the system cannot start
    it.
    """
    from .greenlets import check_gevent, start_again  # noqa: PLC0415 - threads have no use for it
    from .processes import has_place  # noqa: PLC0415

    check_gevent()
    if not restart:
        raise runtime.PatchError(
            "--runtime greenlets: gevent has not patched this program: call"
            " gevent.monkey.patch_all(queue=False) in its first line"
        )
    if processes == 1 or has_place():  # otherwise this process only starts the others
        start_again(sys.argv[1:] if argv is None else argv)


def config_of(args: argparse.Namespace) -> Config:
    """Return the settings of `gochat serve` from its flags, and from the parent if there is one."""
    flags = {each.name: getattr(args, each.name) for each in fields(Config) if each.name != "place"}
    config = Config(**flags)
    if config.processes == 1:
        return config
    from .processes import find_place  # noqa: PLC0415

    return Config(**flags, place=find_place())


def serve(config: Config) -> None:
    """Serve the chat, or start the processes that do. Raises OSError on an unsupported system."""
    if os.name != "posix":
        raise OSError("serve needs POSIX, which Windows does not have: use WSL")
    if config.processes > 1 and config.place is None:
        from .deploy import supervise  # noqa: PLC0415

        supervise(config)
    else:
        from ..main import main  # noqa: PLC0415

        main(config)

"""The command line of gochat (Go: the flags of main.go)."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

from ..golang.flag import Parser
from ..golang.http.address import next_port, split_host_port
from ..golang.runtime import NAME
from ..version import __version__
from .config import Config, address, redis_url, runtime_name

__all__ = ["COMMANDS", "address", "new_parser", "parse_flags"]


#: What each command is for, as shown by --help.
COMMANDS: Final = {
    "serve": "serve the chat",
    "bench": "measure a chat server",
    "exercise": "do the exercises, and check them",
    "talk": "talk in a chat, and see the frames",
    "trace": "summarize or draw a trace",
}


def new_parser(*wanted: str) -> tuple[Parser, dict[str, Parser]]:
    """Return the parser for all commands, and the parser of each command.

    wanted: the commands whose flags are added. Only the modules of these commands are imported.
    """
    parser = Parser(
        prog="gochat", description="The chat example of gorilla/websocket, on Python threads."
    )
    parser.add_argument("--version", action="version", version=f"gochat {__version__}")
    commands = parser.add_subparsers()
    for command, text in COMMANDS.items():
        added = commands.add_parser(command, help=text)
        added.set_defaults(command=command)
        if command in wanted and command == "serve":
            added.usage = "gochat serve [FLAG ...]"
            added.add_flags(Config)
        elif command in wanted:
            import_module(f"..{command}.command", __package__).add_flags(added)
    return parser, dict(commands.choices)


def parse_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line. Exits with status 2 if the command line is invalid.

    argv: arguments without the program name; None for `sys.argv[1:]`. For `gochat serve`, the
    attribute `config` of the result is the Config.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser, commands = new_parser(*argv[:1])
    if mistake := _mistake_before_command(argv):
        parser.print_usage(sys.stderr)
        parser.error(mistake)
    if argv[0] not in commands:
        parser.parse_args(argv)  # prints the help or the version, and exits
    chosen = commands[argv[0]]
    args: argparse.Namespace = chosen.parse_args(argv[1:])
    if args.command == "serve":
        args.relay = relay_url(args, chosen)
        chosen.settle(args)
        check_serve_flags(args, chosen)
    else:
        chosen.settle(args)
    return args


def _mistake_before_command(argv: Sequence[str]) -> str:
    """Return an error message about the first word; empty if the word is a command."""
    if not argv:
        return (
            "choose a command: gochat serve to serve the chat, gochat talk URL to talk in it, or"
            " gochat bench URL to measure it"
        )
    word, commands = argv[0], list(COMMANDS)
    is_flag = word.startswith("-")
    known = ["--help", "--version"] if is_flag else commands
    if word in (*known, "-h"):
        return ""
    mistake = f"there is no {f'flag {word}' if is_flag else f'command {word!r}'}"
    if near := difflib.get_close_matches(word[:99], known, 1, 0.7):
        return f"{mistake}: did you mean gochat {near[0]}?"
    if is_flag:
        return f"a flag comes after a command: gochat serve {' '.join(argv)}"
    return f"{mistake}: there are {', '.join(commands[:-1])} and {commands[-1]}"


def check_serve_flags(args: argparse.Namespace, serve: Parser) -> None:
    """Set `args.config`. Exits with status 2 if flags do not fit together."""
    source = "--runtime " if args.runtime else "GOCHAT_RUNTIME="
    args.runtime = args.runtime or from_environ("GOCHAT_RUNTIME", runtime_name, serve)
    if args.runtime == "threads" and NAME == "greenlets":
        serve.error(f"{source}threads: gevent has patched this process, so it has no threads")
    args.runtime = args.runtime or NAME
    for flag, given in (("--gomaxprocs above 1", args.gomaxprocs > 1), ("--no-pin", not args.pin)):
        if given and args.runtime != "threads":
            serve.error(f"{flag} needs --runtime threads; see docs/run/runtimes.md")
    many = args.processes > 1
    if many and not args.relay:
        serve.error("--processes needs --relay: without it each process would be a separate room")
    if many and sys.platform != "linux":
        serve.error("--processes needs Linux, which spreads connections over the processes")
    if many and args.trace is not None:
        serve.error("--trace cannot be combined with --processes: it is the trace of one process")
    if args.relay and args.relay_maxbytes < 16 * args.max_message_size:
        serve.error(
            f"--relay-maxbytes {args.relay_maxbytes} is too small: give the stream room for 16"
            f" messages of --max-message-size {args.max_message_size}"
        )
    for name, value in (("--metrics-addr", args.metrics_addr), ("--view", args.view)):
        try:
            split_host_port(next_port(value or ":0", args.processes - 1))
        except ValueError as error:
            serve.error(f"{name}: of {args.processes} processes, the last one's {error}")
    args.config = Config(**{name: vars(args)[name] for name in vars(Config()) if name in args})
    try:
        vars(args).update(vars(args.config.settings))
    except ValueError as error:
        serve.error(f"--ping-period: {error}")


def relay_url(args: argparse.Namespace, serve: Parser) -> str | None:
    """Return the Redis URL from a flag, a file or the environment; None if there is none."""
    if args.relay_file is None:
        return args.relay or from_environ("GOCHAT_RELAY", redis_url, serve)
    if args.relay:
        serve.error("--relay and --relay-file set the same value: use only one")
    try:
        with open(args.relay_file) as file:
            return redis_url(file.read(1 << 16).strip())  # limited: a device may be endless
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        serve.error(f"--relay-file {args.relay_file[:99]!r}: {why}")


def from_environ(name: str, convert: Callable[[str], str], serve: Parser) -> str | None:
    """Return a flag's value from an environment variable; None if it is empty or not set."""
    try:
        return convert(os.environ[name]) if os.environ.get(name) else None
    except ValueError as error:
        serve.error(f"{name}: {error}")

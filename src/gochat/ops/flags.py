"""The command line of gochat (Go: the flags of main.go)."""

from __future__ import annotations

import argparse
import difflib
import ipaddress
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from importlib import import_module
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from ..client import Settings
from ..golang.flag import Flag, Parser, count, output, rate, seconds
from ..golang.http.address import next_port, split_host_port
from ..golang.runtime import NAME
from ..version import __version__
from .config import Config

__all__ = ["COMMANDS", "address", "new_parser", "parse_flags"]


# Examples of Redis URLs.
_REDIS: Final = "redis://HOST:PORT/0", "rediss://HOST/0"


class _Parser(Parser):
    """A Parser that removes Redis URLs, and logins in other URLs, from error messages."""

    def error(self, message: str) -> NoReturn:
        """Print a message in one line and exit with status 2."""
        if "://" not in message:  # searching a long message takes milliseconds
            super().error(message)
        own = rf"(?:{re.escape(_REDIS[0])} or )?{re.escape(_REDIS[1])}\Z"  # what `relay` says
        message = re.sub(rf"(?!{own})(rediss?://).*", r"\1...", message, flags=re.I | re.S)
        # These are two searches, for the first URL and for the last @. A single pattern would look
        # for an @ after each URL, which takes quadratic time.
        if url := re.search(r"\b(wss?|https?)://", message, re.I):
            _, at, rest = message[url.end() :].rpartition("@")
            message = f"{message[: url.end()]}...@{rest}" if at else message
        super().error(message)


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
    parser = _Parser(
        prog="gochat",
        description="The chat example of gorilla/websocket, on Python threads.",
    )
    parser.add_argument("--version", action="version", version=f"gochat {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text in COMMANDS.items():
        added = commands.add_parser(command, help=text)
        if command in wanted and command == "serve":
            add_serve_flags(added)
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
    args: argparse.Namespace
    args, rest = parser.parse_known_args(argv)
    if rest:
        commands[args.command].error(f"unrecognized arguments: {' '.join(rest)}")
    if args.command != "serve":
        commands[args.command].settle(args)
        return args
    serve = commands["serve"]
    args.relay = relay_url(args, serve)
    serve.settle(args)
    args.runtime = runtime_of(args, serve)
    if args.processes > 1 and not args.relay:
        serve.error("--processes needs --relay: without it each process would be a separate room")
    if args.processes > 1 and sys.platform != "linux":
        serve.error("--processes needs Linux, which spreads connections over the processes")
    if args.relay and args.relay_maxbytes < 16 * args.max_message_size:
        serve.error(
            f"--relay-maxbytes {args.relay_maxbytes} is too small: give the stream room for 16"
            f" messages of --max-message-size {args.max_message_size}"
        )
    if args.trace is not None and args.processes > 1:
        serve.error("--trace cannot be combined with --processes: it is the trace of one process")
    for name, value in (("--metrics-addr", args.metrics_addr), ("--view", args.view)):
        try:
            split_host_port(next_port(value or ":0", args.processes - 1))
        except ValueError as error:
            serve.error(f"{name}: of {args.processes} processes, the last one's {error}")
    if args.ping_period is None:
        args.ping_period = args.pong_wait * 9 / 10
    try:
        args.settings = Settings(**_values(args, Settings))
    except ValueError as error:
        serve.error(f"--ping-period: {error}")
    args.config = Config(**_values(args, Config))
    return args


def _values(args: argparse.Namespace, of: type) -> dict[str, Any]:
    """Return the values of the flags that are fields of a dataclass."""
    names = {field.name for field in fields(of)}
    return {name: value for name, value in vars(args).items() if name in names}


def _mistake_before_command(argv: Sequence[str]) -> str:
    """Return an error message about the first word; empty if the word is a command."""
    commands = list(COMMANDS)
    if not argv:
        return (
            "choose a command: gochat serve to serve the chat, gochat talk URL to talk in it, or"
            " gochat bench URL to measure it"
        )
    word = argv[0]
    if word in (*commands, "-h", "--help", "--version"):
        return ""
    if word.startswith("-"):
        if meant := difflib.get_close_matches(word[:99], ["--help", "--version"], 1, 0.7):
            return f"there is no flag {word}: did you mean gochat {meant[0]}?"
        return f"a flag comes after a command: gochat serve {' '.join(argv)}"
    (near,) = difflib.get_close_matches(word[:99], commands, 1) or [""]
    hint = (
        f"did you mean gochat {near}?"
        if near
        else f"there are {', '.join(commands[:-1])} and {commands[-1]}"
    )
    return f"there is no command {word!r}: {hint}"


def add_serve_flags(serve: Parser) -> None:
    """Add the flags of `gochat serve`. Each is a field of Config, with the same default."""
    serve.usage = "gochat serve [FLAG ...]"
    defaults = {**vars(Settings()), **vars(Config()), "ping_period": None, "runtime": None}
    serve.add_flags(SERVE_FLAGS, defaults, _NEEDS)
    serve.add_option(
        "no-pin",
        dest="pin",
        action="store_false",
        help="use any CPU; without this flag the process stays on one CPU",
    )


def runtime_of(args: argparse.Namespace, serve: Parser) -> str:
    """Return the runtime to use. Exits with status 2 if another flag does not work on it."""
    name = args.runtime or from_environ("GOCHAT_RUNTIME", runtime, serve)
    if name == "threads" and NAME == "greenlets":
        source = "--runtime " if args.runtime else "GOCHAT_RUNTIME="
        serve.error(f"{source}threads: gevent has patched this process, so it has no threads")
    if (name or NAME) == "threads":
        return "threads"
    others = {"--gomaxprocs above 1": args.gomaxprocs > 1, "--no-pin": not args.pin}
    for flag, given in others.items():
        if given:
            serve.error(f"{flag} needs --runtime threads; see docs/run/runtimes.md")
    return "greenlets"


def from_environ(name: str, kind: Callable[[str], str], serve: Parser) -> str | None:
    """Return a flag's value from an environment variable; None if it is empty or not set."""
    try:
        return kind(os.environ[name]) if os.environ.get(name) else None
    except argparse.ArgumentTypeError as error:
        serve.error(f"{name}: {error}")


def runtime(text: str) -> str:
    """Return a flag's value, the name of a runtime. Raises ArgumentTypeError."""
    if text not in ("threads", "greenlets"):
        raise argparse.ArgumentTypeError(f"{text[:99]!r} is neither threads nor greenlets")
    return text


def relay_url(args: argparse.Namespace, serve: Parser) -> str | None:
    """Return the Redis URL from a flag, a file or the environment; None if there is none."""
    if args.relay and args.relay_file is not None:
        serve.error("--relay and --relay-file set the same value: use only one")
    if args.relay_file is not None:
        try:
            with open(args.relay_file) as file:
                return relay(file.read(1 << 16).strip())  # limited: a device may be endless
        except (OSError, UnicodeDecodeError, argparse.ArgumentTypeError) as error:
            why = getattr(error, "strerror", None) or error
            serve.error(f"--relay-file {args.relay_file[:99]!r}: {why}")
    return args.relay or from_environ("GOCHAT_RELAY", relay, serve)


def relay(text: str) -> str:
    """Return a flag's value, a Redis URL. Raises ArgumentTypeError; its text omits the URL."""
    try:
        parts = urlsplit(text)
        # redis-py would ignore a path that is not a number.
        place = parts.hostname and parts.port != 0 and re.fullmatch("/?[0-9]*", parts.path)
        fits = parts.scheme in ("redis", "rediss") and place
    except ValueError:
        fits = False
    if not fits or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError(f"not a URL as in {' or '.join(_REDIS)}")
    return text


def room(text: str) -> str:
    """Return a flag's value, the name of a room. Raises ArgumentTypeError."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text[:99]!r} is not a name of letters, digits, _ . -")
    return text


def address(text: str) -> str:
    """Return a flag's value, an address in Go's notation. Raises ArgumentTypeError."""
    try:
        split_host_port(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def view_addr(text: str) -> str:
    """Return a flag's value, an address. It is on loopback unless the text names a host."""
    address(text)
    return f"127.0.0.1{text}" if text.startswith(":") else text


def origin(text: str) -> str:
    """Return a flag's value: an origin, `*`, or `null`. Raises ArgumentTypeError."""
    pattern = r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s]+"
    if not re.fullmatch(pattern, text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an origin, as in https://example.org, which has no path and no"
            " slash at its end"
        )
    return text


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return a flag's value: an IP address or a network. Raises ArgumentTypeError."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an IP address or a network, as in 127.0.0.1 or 10.0.0.0/8"
        ) from error
    if isinstance(found, ipaddress.IPv6Network) and found.network_address.ipv4_mapped:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as an IPv4 address or network")
    return found


#: The flags of `gochat serve`, grouped by purpose; the most useful groups come first.
SERVE_FLAGS: Final[dict[str, dict[str, Flag]]] = {
    "what most people need": {
        "addr ADDR": (
            address,
            "address to listen on, host:port; :port listens on every interface of this machine",
        ),
        "max-message-size N": (count, "maximum size of a message from a client, in bytes"),
        "max-clients N": (count, "maximum number of connections (default: no limit)"),
        "rate R": (
            rate,
            "maximum number of frames, of any kind, to read from a client per second"
            " (default: no limit)",
        ),
        "view ADDR": (
            view_addr,
            "address for the live view, with switches for a lesson; :port listens on 127.0.0.1",
        ),
    },
    "who may connect": {
        "burst N": (count, "frames that a client may send in a burst, above the rate"),
        "max-clients-per-address N": (
            count,
            "maximum number of requests from one address at the same time; allow three for each"
            " client, because a page that reloads needs more than one (default: no limit)",
        ),
        "allow-origin ORIGIN": (
            origin,
            "another origin whose pages may connect, such as https://example.org; * means any,"
            " null means a page without an origin, such as one opened from a file; may be repeated"
            " (default: the server's own)",
        ),
        "trust-proxy NETWORK": (
            network,
            "address or network of a proxy whose X-Forwarded-For is trusted, such as 127.0.0.1 or"
            " 10.0.0.0/8; may be repeated (default: none)",
        ),
    },
    "constants of the Go program": {
        "write-wait S": (seconds, "seconds allowed to write a message to a client"),
        "pong-wait S": (seconds, "seconds allowed until the next pong from a client"),
        "ping-period S": (
            seconds,
            "seconds between pings, less than the pong wait (default 0.9 of the pong wait)",
        ),
        "send-buffer N": (
            count,
            "messages that may wait for a client; if there are more, the client is dropped",
        ),
    },
    "requests and shutdown": {
        "read-header-timeout S": (seconds, "seconds allowed for a client to send its request"),
        "shutdown-timeout S": (
            seconds,
            "seconds allowed at shutdown for clients to receive their queued messages",
        ),
    },
    "monitoring": {
        "metrics-addr ADDR": (
            address,
            "address for /metrics and /healthz; needs pip install 'gochat[metrics]'",
        ),
        "trace FILE": (
            output,
            "file for a trace of what each thread did, written at the end; open it with Perfetto"
            " or gochat trace",
        ),
        "trace-events N": (count, "number of records in the trace; older ones are dropped"),
    },
    "many processes": {
        "relay URL": (
            relay,
            "Redis or Valkey server that connects the processes of a room, such as"
            " redis://HOST:PORT/0; can also be set with the environment variable GOCHAT_RELAY;"
            " needs pip install 'gochat[relay]'",
        ),
        "relay-file FILE": (str, "file that contains the URL for --relay"),
        "relay-timeout S": (
            seconds,
            "seconds that Redis may be unreachable or refuse commands before the program ends",
        ),
        "relay-maxlen N": (count, "approximate number of entries that the stream keeps"),
        "relay-maxbytes N": (
            count,
            "approximate size of the stream in Redis, in bytes; at least 16 times the maximum size"
            " of a message",
        ),
        "room NAME": (room, "name of the room; rooms on the same Redis are separate"),
        "processes N": (
            partial(count, most=1024),
            "number of processes that serve the room, at one address; more than one needs --relay"
            " and Linux. Limits apply to each process. The first process uses the ports of"
            " --metrics-addr and --view; the other processes use the ports after them",
        ),
    },
    "runtime and CPU": {
        "runtime NAME": (
            runtime,
            "runtime that serves the clients: threads or greenlets; can also be set with the"
            " environment variable GOCHAT_RUNTIME; greenlets need pip install 'gochat[greenlets]'"
            " (default threads)",
        ),
        "gomaxprocs N": (count, "number of write pumps that may work at the same time"),
    },
}

#: The flags that are meaningless without another flag, and the flag that each needs.
_NEEDS: Final = {
    "burst": "rate",
    "trace-events": "trace",
    **dict.fromkeys(("relay-timeout", "relay-maxlen", "relay-maxbytes", "room"), "relay"),
}

"""The command line of gochat (Go: the flags of main.go)."""

from __future__ import annotations

import argparse
import difflib
import ipaddress
import re
import sys
from collections.abc import Sequence
from typing import Final

from ..bench.command import add_bench_flags
from ..client import Settings
from ..golang.flag import Parser, count, number, seconds
from ..golang.turns import DEFAULT_GOMAXPROCS
from ..version import __version__

__all__ = ["parse_flags"]

_COMMANDS: Final = ("serve", "bench")


def parse_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags of a command line. Exits with 2 if they make no sense.

    argv: without the program's name; None for the process's own.
    """
    parser = Parser(
        prog="gochat",
        description="The chat example of gorilla/websocket, on Python threads.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gochat {__version__}")
    argv = sys.argv[1:] if argv is None else argv
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve the chat")
    add_serve_flags(serve)
    add_bench_flags(commands.add_parser("bench", help="measure a chat server"))
    if mistake := _mistake_before_command(argv):
        parser.print_usage(sys.stderr)
        parser.error(mistake)
    args = parser.parse_args(argv)
    if args.command == "bench":
        return args
    if args.ping_period is None:
        args.ping_period = args.pong_wait * 9 / 10
    if args.ping_period >= args.pong_wait:
        serve.error(
            f"the ping period ({args.ping_period:g} s) must be under"
            f" the pong wait ({args.pong_wait:g} s)"
        )
    return args


def _mistake_before_command(argv: Sequence[str]) -> str:
    """What is wrong with the first word of a command line, and what is meant; empty if nothing."""
    if not argv:
        return "say what to do: gochat serve, to serve the chat, or gochat bench URL, to measure it"
    word = argv[0]
    if word in (*_COMMANDS, "-h", "--help", "--version"):
        return ""
    if word.startswith("-"):
        return f"a flag comes after a command: gochat serve {' '.join(argv)}"
    (near,) = difflib.get_close_matches(word, _COMMANDS, 1) or [""]
    meant = f"did you mean gochat {near}?" if near else f"there are {' and '.join(_COMMANDS)}"
    return f"there is no command {word!r}: {meant}"


def add_serve_flags(serve: Parser) -> None:
    """The flags of `gochat serve`."""
    go = Settings()
    serve.add_flag("addr", str, ":8080", "address to listen on, host:port or :port", "ADDR")
    for name, value, text in (
        ("write-wait", go.write_wait, "seconds allowed to write a message to a client"),
        ("pong-wait", go.pong_wait, "seconds a client has for its next pong"),
        ("ping-period", None, "seconds between pings, under the pong wait (default 0.9 of it)"),
        ("read-header-timeout", 3.0, "seconds a client has to send its request"),
        ("shutdown-timeout", 5.0, "seconds clients have at the end for what is queued for them"),
    ):
        serve.add_flag(name, seconds, value, text, "S")
    serve.add_flag(
        "max-message-size", count, go.max_message_size, "largest message accepted, in bytes"
    )
    serve.add_flag(
        "send-buffer", count, go.send_buffer, "messages that may wait for a client, then dropped"
    )
    serve.add_flag(
        "gomaxprocs", count, DEFAULT_GOMAXPROCS, "write pumps that are at work at the same time"
    )
    serve.add_flag(
        "rate", rate, None, "messages read from a client a second (default: no limit)", "R"
    )
    serve.add_flag("burst", count, 10, "messages that may come at once, with --rate")
    serve.add_argument(
        "--no-pin",
        "-no-pin",
        dest="pin",
        action="store_false",
        help="use any CPU; without it the process stays on the one where it was started",
    )
    serve.add_flag(
        "max-clients", count, None, "connections served at the same time (default: no limit)"
    )
    serve.add_flag(
        "max-clients-per-address", count, None, "the same, of one address (default: no limit)"
    )
    serve.add_flag(
        "metrics-addr",
        str,
        None,
        "address to serve /metrics and /healthz on, as --addr (default: none)",
        "ADDR",
    )
    serve.add_argument(
        "--allow-origin",
        "-allow-origin",
        action="append",
        type=origin,
        default=[],
        metavar="ORIGIN",
        help="origin whose pages may connect too, as in https://example.org; * for any; null for"
        " any page that was opened from a file or has no origin for another reason; repeatable",
    )
    serve.add_argument(
        "--trust-proxy",
        "-trust-proxy",
        action="append",
        type=network,
        default=[],
        metavar="NETWORK",
        help="address or network of a proxy whose X-Forwarded-For is believed, as in 127.0.0.1 or"
        " 10.0.0.0/8; repeatable",
    )


def rate(text: str) -> float:
    """A flag's value: how many a second, above 0."""
    value = number(text)
    if not 1e-6 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.000001 to 1000000")
    return value


def origin(text: str) -> str:
    """A flag's value: an origin as browsers send it, `*`, or the `null` of a page from a file."""
    pattern = r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s]+"
    if not re.fullmatch(pattern, text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an origin, as in https://example.org (no path, no slash behind it)"
        )
    return text


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A flag's value: an IP address, or a network of them."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an IP address or a network, as in 127.0.0.1 or 10.0.0.0/8"
        ) from error
    if isinstance(found, ipaddress.IPv6Network) and found.network_address.ipv4_mapped:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as an IPv4 address or network")
    return found

"""The command line of gochat (Go: the flags of main.go)."""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Sequence

import gochat

from ..bench.command import add_bench_flags
from ..client import Settings
from ..golang.flag import Parser, count, number, seconds
from ..golang.turns import DEFAULT_GOMAXPROCS

__all__ = ["parse_flags"]


def parse_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags of a command line. Exits with 2 if they make no sense.

    argv: without the program's name; None for the process's own.
    """
    parser = Parser(prog="gochat", description=str(gochat.__doc__).partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"gochat {gochat.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve the chat")
    add_serve_flags(serve)
    add_bench_flags(commands.add_parser("bench", help="measure a chat server"))
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

"""The flags of the command: what Go has from its package flag, on argparse."""

from __future__ import annotations

import argparse
import ipaddress
import math
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import gochat

from .bench import add_bench_flags
from .client import Settings
from .turns import DEFAULT_GOMAXPROCS

__all__ = ["Parser", "count", "parse_flags", "seconds"]


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the flags in one line, and knows each in Go's form (`-addr`) too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {one_line(message)}\n")

    def add_flag(
        self, name: str, kind: Callable[[str], Any], default: Any, text: str, metavar: str = "N"
    ) -> None:
        """Add a flag that has a value; its help ends with the default, if that is not None."""
        if default is not None:
            shown = default if isinstance(default, str) else f"{default:g}"
            text += f" (default {shown})"
        self.add_argument(
            f"--{name}", f"-{name}", type=kind, default=default, metavar=metavar, help=text
        )


def one_line(text: str) -> str:
    """The text with what does not print, line ends among it, written as in Python."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


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
        help="origin whose pages may connect too, as in https://example.org; * for any; repeatable",
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


def number(text: str) -> float:
    """A number in digits, as 2.5 or 1e-3; NaN if it is none."""
    # float takes spaces, underscores and the digits of all languages, too.
    return float(text) if re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", text, re.I) else math.nan


def seconds(text: str) -> float:
    """A flag's value: a time above 0, in seconds."""
    value = number(text)
    if not 0 < value < threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def rate(text: str) -> float:
    """A flag's value: a number a second, above 0."""
    value = number(text)
    if not 1e-6 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.000001 to 1000000")
    return value


def count(text: str) -> int:
    """A flag's value: a whole number from 1."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text[:99]!r} is not a whole number from 1 to 999999999")
    return int(text)


def origin(text: str) -> str:
    """A flag's value: an origin as browsers send it, or `*`."""
    if text != "*" and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s]+", text):
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

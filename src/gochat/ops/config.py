"""The settings of `gochat serve`: what they are, and their flags."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ..client import Settings
from ..golang.flag import count, flag, output, seconds
from ..golang.flag import rate as frame_rate
from ..golang.http.address import split_host_port
from ..golang.runtime import default_gomaxprocs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network
    from pathlib import Path

    from .processes import Place

__all__ = ["Config", "ConfigError", "address", "redis_url", "runtime_name"]


class ConfigError(ValueError):
    """Raised if a setting turns out to be invalid when it is used."""


def address(text: str) -> str:
    """Return a flag's value, an address in Go's notation. Raises ValueError."""
    split_host_port(text)
    return text


def view_addr(text: str) -> str:
    """Return a flag's value, an address. It is on loopback unless the text names a host."""
    address(text)
    return f"127.0.0.1{text}" if text.startswith(":") else text


def redis_url(text: str) -> str:
    """Return a flag's value, a Redis URL. Raises ValueError; its text omits the URL."""
    try:
        parts = urlsplit(text)
        # redis-py would ignore a path that is not a number.
        place = parts.hostname and parts.port != 0 and re.fullmatch("/?[0-9]*", parts.path)
        fits = parts.scheme in ("redis", "rediss") and place
    except ValueError:
        fits = False
    if not fits or not text.isprintable() or " " in text:
        raise ValueError("not a URL as in redis://HOST:PORT/0 or rediss://HOST/0")
    return text


def _match(pattern: str, otherwise: str, text: str) -> str:
    """Return a flag's value if it matches a pattern. Raises ValueError that says otherwise."""
    if not re.fullmatch(pattern, text):
        raise ValueError(f"{text[:99]!r} is {otherwise}")
    return text


#: Returns a flag's value, the name of a runtime. Raises ValueError.
runtime_name: Final = partial(_match, "threads|greenlets", "neither threads nor greenlets")
_room: Final = partial(_match, "[A-Za-z0-9_.-]{1,64}", "not a name of letters, digits, _ . -")
_origin: Final = partial(
    _match,
    r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s]+",
    "not an origin, as in https://example.org, which has no path and no slash at its end",
)


def network(text: str) -> IPv4Network | IPv6Network:
    """Return a flag's value: an IP address or a network. Raises ValueError."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError as error:
        what = "an IP address or a network, as in 127.0.0.1 or 10.0.0.0/8"
        raise ValueError(f"{text!r} is not {what}") from error
    if isinstance(found, ipaddress.IPv6Network) and found.network_address.ipv4_mapped:
        raise ValueError(f"{text!r}: write it as an IPv4 address or network")
    return found


@dataclass(frozen=True)
class Config:
    """Settings for serving a chat. Times are in seconds. None means no limit, or off.

    The fields have the order of the flags in `gochat serve --help`: the most useful groups come
    first. The help text of a flag describes the field.
    """

    addr: str = flag(
        (":8080", address, "ADDR"),
        "address to listen on, host:port; :port listens on every interface of this machine",
        group="what most people need",
    )
    max_message_size: int = flag(
        Settings.max_message_size, "maximum size of a message from a client, in bytes"
    )
    max_clients: int | None = flag(None, "maximum number of connections (default: no limit)")
    rate: float | None = flag(
        (None, frame_rate, "R"),
        "maximum number of frames, of any kind, to read from a client per second"
        " (default: no limit)",
    )
    view: str | None = flag(
        (None, view_addr, "ADDR"),
        "address for the live view, with switches for a lesson; :port listens on 127.0.0.1",
    )

    burst: int = flag(
        10,
        "frames that a client may send in a burst, above the rate",
        needs="rate",
        group="who may connect",
    )
    max_clients_per_address: int | None = flag(
        None,
        "maximum number of requests from one address at the same time; allow three for each"
        " client, because a page that reloads needs more than one (default: no limit)",
    )
    allow_origin: Sequence[str] = flag(
        ((), _origin, "ORIGIN"),
        "another origin whose pages may connect, such as https://example.org; * means any, null"
        " means a page without an origin, such as one opened from a file; may be repeated"
        " (default: the server's own)",
    )
    trust_proxy: Sequence[IPv4Network | IPv6Network] = flag(
        ((), network, "NETWORK"),
        "address or network of a proxy whose X-Forwarded-For is trusted, such as 127.0.0.1 or"
        " 10.0.0.0/8; may be repeated (default: none)",
    )

    write_wait: float = flag(
        Settings.write_wait,
        "seconds allowed to write a message to a client",
        group="constants of the Go program",
    )
    pong_wait: float = flag(Settings.pong_wait, "seconds allowed until the next pong from a client")
    ping_period: float | None = flag(
        (None, seconds, "S"),
        "seconds between pings, less than the pong wait (default 0.9 of the pong wait)",
    )
    send_buffer: int = flag(
        Settings.send_buffer,
        "messages that may wait for a client; if there are more, the client is dropped",
    )

    read_header_timeout: float = flag(
        3.0, "seconds allowed for a client to send its request", group="requests and shutdown"
    )
    shutdown_timeout: float = flag(
        5.0, "seconds allowed at shutdown for clients to receive their queued messages"
    )

    metrics_addr: str | None = flag(
        (None, address, "ADDR"),
        "address for /metrics and /healthz; needs pip install 'gochat[metrics]'",
        group="monitoring",
    )
    trace: Path | None = flag(
        (None, output, "FILE"),
        "file for a trace of what each thread did, written at the end; open it with Perfetto or"
        " gochat trace",
    )
    trace_events: int = flag(
        200_000, "number of records in the trace; older ones are dropped", needs="trace"
    )

    relay: str | None = flag(
        (None, redis_url, "URL"),
        "Redis or Valkey server that connects the processes of a room, such as"
        " redis://HOST:PORT/0; can also be set with the environment variable GOCHAT_RELAY; needs"
        " pip install 'gochat[relay]'",
        group="many processes",
    )
    # Only a flag: flags.py reads the file and sets `relay`.
    relay_file: str | None = flag((None, str, "FILE"), "file that contains the URL for --relay")
    relay_timeout: float = flag(
        30.0,
        "seconds that Redis may be unreachable or refuse commands before the program ends",
        needs="relay",
    )
    relay_maxlen: int = flag(
        100_000, "approximate number of entries that the stream keeps", needs="relay"
    )
    relay_maxbytes: int = flag(
        16 << 20,
        "approximate size of the stream in Redis, in bytes; at least 16 times the maximum size of"
        " a message",
        needs="relay",
    )
    room: str = flag(
        ("main", _room, "NAME"),
        "name of the room; rooms on the same Redis are separate",
        needs="relay",
    )
    processes: int = flag(
        (1, partial(count, most=1024), "N"),
        "number of processes that serve the room, at one address; more than one needs --relay and"
        " Linux. Limits apply to each process. The first process uses the ports of --metrics-addr"
        " and --view; the other processes use the ports after them",
    )

    runtime: str | None = flag(
        (None, runtime_name, "NAME"),
        "runtime that serves the clients: threads or greenlets; can also be set with the"
        " environment variable GOCHAT_RUNTIME; greenlets need pip install 'gochat[greenlets]'"
        " (default threads)",
        group="runtime and CPU",
    )
    gomaxprocs: int = flag(
        default_gomaxprocs, "number of write pumps that may work at the same time"
    )
    pin: bool = flag(True, "use any CPU; without this flag the process stays on one CPU")

    #: The place of a child of `--processes`, set by its parent.
    place: Place | None = None

    @property
    def settings(self) -> Settings:
        """The constants of client.go. Raises ValueError if they contradict each other."""
        ping_period = self.pong_wait * 9 / 10 if self.ping_period is None else self.ping_period
        return Settings(
            *(self.write_wait, self.pong_wait, ping_period),
            *(self.max_message_size, self.send_buffer),
        )

"""The settings of `gochat serve`, in one object. The command makes it from the flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..client import Settings
from ..golang.runtime import NAME, default_gomaxprocs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network
    from pathlib import Path

    from .processes import Place

__all__ = ["Config", "ConfigError"]


class ConfigError(ValueError):
    """Raised if a setting turns out to be invalid when it is used."""


@dataclass(frozen=True)
class Config:
    """How to serve a chat. Times are in seconds.

    Each field has a flag; docs/run/flags.md lists them. An address is host:port or :port.
    """

    # Where to listen.
    addr: str = ":8080"

    # The constants of client.go.
    settings: Settings = field(default_factory=Settings)

    # How long a client may take to send its request.
    read_header_timeout: float = 3.0

    # How long clients may take, at shutdown, to receive their queued messages.
    shutdown_timeout: float = 5.0

    # How many write pumps may work at the same time.
    gomaxprocs: int = default_gomaxprocs

    # What the goroutines are: `threads` or `greenlets`.
    runtime: str = NAME

    # How many frames per second are read from each client, and how many in a burst. A rate of None
    # means no limit.
    rate: float | None = None
    burst: int = 10

    # Whether the process stays on one CPU.
    pin: bool = True

    # How many connections are served at the same time, in total and per address; None for no limit.
    max_clients: int | None = None
    max_clients_per_address: int | None = None

    # The URL of the Redis that connects several processes; None for a single process.
    relay: str | None = None

    # How long Redis may be unreachable or refuse commands.
    relay_timeout: float = 30.0

    # About how many entries the stream keeps, and about how many bytes they take.
    relay_maxlen: int = 100_000
    relay_maxbytes: int = 16 << 20

    # The name of the room. Rooms on the same Redis are separate.
    room: str = "main"

    # How many processes share the address and the room.
    processes: int = 1

    # Where to serve the metrics and the view; None to serve none.
    metrics_addr: str | None = None
    view: str | None = None

    # The file to write a trace to, and how many records it keeps; None for no trace.
    trace: Path | None = None
    trace_events: int = 200_000

    # Origins whose pages may connect, in addition to the server's own.
    allow_origin: Sequence[str] = ()

    # Networks of proxies that may set X-Forwarded-For.
    trust_proxy: Sequence[IPv4Network | IPv6Network] = ()

    # The place of a child of `--processes`, set by its parent; None otherwise. Not a flag.
    place: Place | None = None

"""The settings of `gochat serve`: one object, made by the command from its flags."""

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
    """A setting that turned out to be invalid when it was used."""


@dataclass(frozen=True)
class Config:
    """How to serve a chat. Times are in seconds. Each field has a flag, see docs/run/flags.md.

    An address is host:port or :port.
    """

    # The address to listen on.
    addr: str = ":8080"

    # The constants of client.go.
    settings: Settings = field(default_factory=Settings)

    # Time allowed for a client to send its request.
    read_header_timeout: float = 3.0

    # Time allowed at shutdown for clients to receive their queued messages.
    shutdown_timeout: float = 5.0

    # How many write pumps work at the same time.
    gomaxprocs: int = default_gomaxprocs

    # The runtime of the goroutines: `threads` or `greenlets`.
    runtime: str = NAME

    # How many frames per second are read from a client, and how many in one burst. A rate of None
    # is no limit.
    rate: float | None = None
    burst: int = 10

    # Whether the process stays on one CPU.
    pin: bool = True

    # How many connections are served at the same time, in total and from one address. None for no
    # limit.
    max_clients: int | None = None
    max_clients_per_address: int | None = None

    # The URL of the Redis through which processes share the room; None for a room of one process.
    relay: str | None = None

    # Time that Redis may be unreachable or refuse commands.
    relay_timeout: float = 30.0

    # How many entries the stream keeps, and how many bytes these take in Redis, approximately.
    relay_maxlen: int = 100_000
    relay_maxbytes: int = 16 << 20

    # The room's name on that Redis.
    room: str = "main"

    # How many processes share the address and the room.
    processes: int = 1

    # The addresses of the metrics and of the live view; None for neither.
    metrics_addr: str | None = None
    view: str | None = None

    # The file for a trace, and how many records it keeps; None for no trace.
    trace: Path | None = None
    trace_events: int = 200_000

    # The origins whose pages may connect, besides the server's own.
    allow_origin: Sequence[str] = ()

    # The networks of proxies whose X-Forwarded-For is believed.
    trust_proxy: Sequence[IPv4Network | IPv6Network] = ()

    # This process's place among several; None if it is alone. The parent sets this, not a flag.
    place: Place | None = None

"""The settings of `gochat serve`, in one object. The command makes the object from the flags."""

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
    """Settings for serving a chat. Times are in seconds. None means no limit, or off.

    Each field except `settings` and `place` has a flag, whose help text describes the field.
    """

    addr: str = ":8080"
    # The constants of client.go. Each has a flag.
    settings: Settings = field(default_factory=Settings)
    read_header_timeout: float = 3.0
    shutdown_timeout: float = 5.0
    gomaxprocs: int = default_gomaxprocs
    runtime: str = NAME
    rate: float | None = None
    burst: int = 10
    # Whether the process stays on one CPU.
    pin: bool = True
    max_clients: int | None = None
    max_clients_per_address: int | None = None

    relay: str | None = None
    relay_timeout: float = 30.0
    relay_maxlen: int = 100_000
    relay_maxbytes: int = 16 << 20
    room: str = "main"
    processes: int = 1

    metrics_addr: str | None = None
    view: str | None = None
    trace: Path | None = None
    trace_events: int = 200_000

    allow_origin: Sequence[str] = ()
    trust_proxy: Sequence[IPv4Network | IPv6Network] = ()

    # The place of a child of `--processes`, set by its parent.
    place: Place | None = None

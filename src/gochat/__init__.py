"""gochat: the chat example of gorilla/websocket, on Python threads.

One thread runs the hub, two threads serve each client, and they communicate over channels:

    hub.py      Hub: the clients in the room              hub.go
    client.py   Client, serve_ws: the two pumps           client.go
    main.py     serve_home, make_app, main: the server    main.go

    anyhub.py   AnyHub: the part of a hub that a client uses, for type checkers

Everything else is in these packages:

    golang/     what Go provides: channels, the scheduler, net/http, gorilla/websocket
    ops/        production: the command, signals, shutdown, processes, metrics, systemd
    relay/      `--relay`: one room on several processes and machines, through Redis or Valkey
    trace/      `--trace` records what each thread does; `gochat trace` shows it
    bench/      `gochat bench`: a load generator
    exercise/   `gochat exercise`: exercises, and a checker for solutions
    talk/       `gochat talk`: a client for the terminal
"""

import warnings
from collections.abc import Callable
from typing import ParamSpec

from .anyhub import AnyHub
from .client import Client, Settings, serve_ws
from .golang.channel import Channel, ClosedChannelError, select
from .golang.goroutine import Observer
from .golang.http import Server
from .golang.websocket import (
    CLOSE_GOING_AWAY,
    CloseError,
    Conn,
    HandshakeError,
    ProtocolError,
    Upgrader,
    format_close_message,
)
from .hub import Hub
from .main import make_app, serve_home
from .ops.serve import HubError, running
from .version import __version__

__all__ = [
    "CLOSE_GOING_AWAY",
    "AnyHub",
    "Channel",
    "Client",
    "CloseError",
    "ClosedChannelError",
    "Conn",
    "HandshakeError",
    "Hub",
    "HubError",
    "Observer",
    "ProtocolError",
    "Server",
    "Settings",
    "Upgrader",
    "__version__",
    "format_close_message",
    "make_app",
    "make_upgrader",
    "running",
    "select",
    "serve_home",
    "serve_ws",
]

_Options = ParamSpec("_Options")


def make_upgrader(
    kind: Callable[_Options, Upgrader] = Upgrader,  # type: ignore[assignment]
    *args: _Options.args,
    **options: _Options.kwargs,
) -> Upgrader:
    """Return `kind(*args, **options)`. Deprecated: call the class directly."""
    warnings.warn("use gochat.Upgrader in place of make_upgrader", DeprecationWarning, stacklevel=2)
    return kind(*args, **options)

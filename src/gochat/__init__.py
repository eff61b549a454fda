"""gochat: the chat example of gorilla/websocket, on Python threads.

One thread runs the hub, two serve each client, and they talk over channels:

    hub.py      Hub: who is in the room                   hub.go
    client.py   Client, serve_ws: the two pumps           client.go
    main.py     serve_home, make_app, main: the command   main.go
    channel.py  Channel, select                           the language
    turns.py    Turns: few pumps at work at a time        the scheduler
    conn.py     Upgrader, Conn                            gorilla/websocket
    server.py   Server                                    net/http
    flags.py    the flags                                 flag
    log.py      the log, and what threads are at          log
    systemd.py  what systemd is told, and gives
    metrics.py  what --metrics-addr serves
    bench.py    `gochat bench`: a load generator

The first three are the chat. Channel, turns, conn and server know nothing of one.
"""

from .channel import Channel, ClosedChannelError, select
from .client import Client, Settings, serve_ws
from .conn import CloseError, Conn, HandshakeError, Upgrader
from .hub import Hub
from .main import main, make_app, serve_home
from .server import Server

__all__ = [
    "Channel",
    "Client",
    "CloseError",
    "ClosedChannelError",
    "Conn",
    "HandshakeError",
    "Hub",
    "Server",
    "Settings",
    "Upgrader",
    "main",
    "make_app",
    "select",
    "serve_home",
    "serve_ws",
]

__version__ = "0.1.0"

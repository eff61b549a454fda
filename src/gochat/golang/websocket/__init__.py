"""WebSocket connections (Go: gorilla/websocket), on simple-websocket.

    upgrader.py  Upgrader: the handshake                          server.go
    conn.py      Conn: reading, writing, deadlines and closing    conn.go
    library.py   simple-websocket, without its own thread and socket
    protocol.py  message types, close codes, errors               RFC 6455

The rules: nothing here knows about a chat. Only library.py uses simple-websocket. A module
imports only modules below it in the list. In addition, `upgrader` imports the package `http`, and
both `upgrader` and `conn` import `frames`, `runtime` and `clock`.
"""

from . import protocol
from .conn import Conn, ConnOptions, ConnStatistics
from .protocol import *  # noqa: F403
from .upgrader import REFUSALS, HandshakeError, Upgrader, UpgraderStatistics

__all__ = [
    "REFUSALS",
    "Conn",
    "ConnOptions",
    "ConnStatistics",
    "HandshakeError",
    "Upgrader",
    "UpgraderStatistics",
]
__all__ += protocol.__all__

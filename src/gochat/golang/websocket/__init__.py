"""WebSocket connections (Go: gorilla/websocket), on simple-websocket.

    upgrader.py  Upgrader: the handshake                       its server.go
    conn.py      Conn: reading, writing, deadlines, the end    its conn.go
    library.py   simple-websocket, without its own thread and socket
    protocol.py  message types, close codes, errors            RFC 6455

The rules: nothing here knows about a chat, and only library.py uses simple-websocket. Imports go
down the list above. Also, `upgrader` imports the package `http`, `conn` imports `runtime` and
`clock`, and both import `frames`.
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

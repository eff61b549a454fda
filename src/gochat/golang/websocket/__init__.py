"""WebSocket connections: what Go has from gorilla/websocket, on simple-websocket.

    upgrader.py  Upgrader: the handshake                       its server.go
    conn.py      Conn: reading, writing, deadlines, the end    its conn.go
    library.py   simple-websocket, without its thread and its socket
    protocol.py  message types, close codes, errors            RFC 6455

The rules: nothing in here knows of a chat, and library.py alone knows simple-websocket. Imports go
down the list above; besides, `upgrader` imports the package `http`, as gorilla's imports net/http,
`conn` imports `runtime`, to give a turn up and to wait, and `clock`, for its deadlines, and both
import `frames`.
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

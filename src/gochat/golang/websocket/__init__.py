"""WebSocket connections: what Go has from gorilla/websocket, on simple-websocket.

    upgrader.py  Upgrader: the handshake                       its server.go
    conn.py      Conn: reading, writing, deadlines, the end    its conn.go
    library.py   simple-websocket, without its thread and its socket
    protocol.py  message types, close codes, errors            RFC 6455

The rules: nothing in here knows of a chat, and library.py alone knows simple-websocket. Imports go
down the list above; besides, `upgrader` imports the package `http`, as gorilla's imports net/http,
and `conn` imports `runtime`, to give a turn up and to wait, `clock`, for its deadlines, and
`frames`.
"""

from .conn import Conn, ConnOptions, ConnStatistics
from .protocol import (
    BINARY_MESSAGE,
    CLOSE_ABNORMAL_CLOSURE,
    CLOSE_GOING_AWAY,
    CLOSE_INTERNAL_SERVER_ERR,
    CLOSE_INVALID_FRAME_PAYLOAD_DATA,
    CLOSE_MESSAGE,
    CLOSE_MESSAGE_TOO_BIG,
    CLOSE_NO_STATUS_RECEIVED,
    CLOSE_NORMAL_CLOSURE,
    CLOSE_POLICY_VIOLATION,
    CLOSE_TRY_AGAIN_LATER,
    PING_MESSAGE,
    PONG_MESSAGE,
    TEXT_MESSAGE,
    CloseError,
    ProtocolError,
    ReadLimitError,
    format_close_message,
    is_unexpected_close_error,
)
from .upgrader import REFUSALS, HandshakeError, Upgrader, UpgraderStatistics

__all__ = [
    "BINARY_MESSAGE",
    "CLOSE_ABNORMAL_CLOSURE",
    "CLOSE_GOING_AWAY",
    "CLOSE_INTERNAL_SERVER_ERR",
    "CLOSE_INVALID_FRAME_PAYLOAD_DATA",
    "CLOSE_MESSAGE",
    "CLOSE_MESSAGE_TOO_BIG",
    "CLOSE_NORMAL_CLOSURE",
    "CLOSE_NO_STATUS_RECEIVED",
    "CLOSE_POLICY_VIOLATION",
    "CLOSE_TRY_AGAIN_LATER",
    "PING_MESSAGE",
    "PONG_MESSAGE",
    "REFUSALS",
    "TEXT_MESSAGE",
    "CloseError",
    "Conn",
    "ConnOptions",
    "ConnStatistics",
    "HandshakeError",
    "ProtocolError",
    "ReadLimitError",
    "Upgrader",
    "UpgraderStatistics",
    "format_close_message",
    "is_unexpected_close_error",
]

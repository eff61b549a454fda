"""Message types, close codes and errors (RFC 6455)."""

from __future__ import annotations

import struct

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
    "TEXT_MESSAGE",
    "CloseError",
    "ProtocolError",
    "ReadLimitError",
    "format_close_message",
    "is_unexpected_close_error",
]

# Message types: the opcodes of RFC 6455, section 11.8.
TEXT_MESSAGE = 1
BINARY_MESSAGE = 2
CLOSE_MESSAGE = 8
PING_MESSAGE = 9
PONG_MESSAGE = 10

# Close codes: RFC 6455, section 7.4.1.
CLOSE_NORMAL_CLOSURE = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_PROTOCOL_ERROR = 1002
CLOSE_NO_STATUS_RECEIVED = 1005
CLOSE_ABNORMAL_CLOSURE = 1006
CLOSE_INVALID_FRAME_PAYLOAD_DATA = 1007
CLOSE_POLICY_VIOLATION = 1008
CLOSE_MESSAGE_TOO_BIG = 1009
CLOSE_INTERNAL_SERVER_ERR = 1011
CLOSE_TRY_AGAIN_LATER = 1013

_CLOSE_TEXT = {
    1000: "normal",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1005: "no status",
    1006: "abnormal closure",
    1007: "invalid payload data",
    1008: "policy violation",
    1009: "message too big",
    1010: "mandatory extension missing",
    1011: "internal server error",
    1013: "try again later",
}


class CloseError(ConnectionError):
    """Raised when the peer has closed the connection.

    code: the close code (RFC 6455, section 7.4.1); 1005 if the close frame had no code, and 1006 if
    there was no close frame. text: the reason in the close frame, usually empty.
    """

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        known = f" ({_CLOSE_TEXT[self.code]})" if self.code in _CLOSE_TEXT else ""
        return f"websocket: close {self.code}{known}" + (f": {self.text!r}" if self.text else "")


class ProtocolError(ConnectionError):
    """Raised if the peer has broken the protocol or a rule of the application.

    code: the close code sent to the peer: 1002, 1007, or one that the application chooses.
    """

    def __init__(self, text: str, code: int = CLOSE_PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


class ReadLimitError(ConnectionError):
    """Raised if a message exceeds a limit.

    The peer gets the close code 1009 for a message that is too long, and 1008 for too many frames.
    """


def is_unexpected_close_error(error: BaseException, *expected: int) -> bool:
    """Return whether the error is a CloseError with a code that is not in `expected`."""
    return isinstance(error, CloseError) and error.code not in expected


def format_close_message(code: int, text: str = "") -> bytes:
    """Return the payload of a close frame (RFC 6455, section 5.5.1).

    text: the reason, which is truncated to 123 bytes.
    """
    return struct.pack("!H", code) + text.encode()[:123].decode(errors="ignore").encode()


def is_utf8(data: bytes) -> bool:
    """Return whether the bytes are valid UTF-8."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    return True

"""WebSocket frames (RFC 6455, section 5.2), and the key in the answer to a handshake.

The server, `gochat talk` and `gochat bench` use this module. It is separate from the server so that
the clients need not import the server.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Final

__all__ = ["accept_key", "client_frame", "frame", "mask", "read_header"]

# Pack a header without a mask: two bytes and, if needed, a length of 16 or 64 bits.
_SHORT_HEADER: Final = struct.Struct("!BB").pack
_HEADER: Final = struct.Struct("!BBH").pack
_LONG_HEADER: Final = struct.Struct("!BBQ").pack

# Appended to the client's key before hashing (RFC 6455, section 1.3).
_KEY_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_key(key: str) -> bytes:
    """Return the value of Sec-WebSocket-Accept (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _KEY_GUID).digest())


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a complete unmasked frame, as a server sends it (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        return _SHORT_HEADER(0x80 | opcode, length) + payload
    if length < 65536:
        return _HEADER(0x80 | opcode, 126, length) + payload
    return _LONG_HEADER(0x80 | opcode, 127, length) + payload


def client_frame(opcode: int, payload: bytes, key: bytes) -> bytes:
    """Return a complete frame, masked with a 4-byte key, as a client sends it."""
    bare = frame(opcode, payload)
    head = bytearray(bare[: len(bare) - len(payload)])
    head[1] |= 0x80
    return bytes(head) + key + mask(payload, key)


def mask(data: bytes | bytearray, key: bytes | bytearray) -> bytes:
    """Mask or unmask a payload with a 4-byte key (RFC 6455, section 5.3)."""
    # XOR on two large integers is faster than a loop over the bytes.
    length = len(data)
    keys = (key * (length // 4 + 1))[:length]
    return (int.from_bytes(data, "big") ^ int.from_bytes(keys, "big")).to_bytes(length, "big")


def read_header(data: bytes | bytearray, start: int = 0) -> tuple[int, int] | None:
    """Return the sizes of a frame's header and payload, in bytes, without validating the frame.

    The header begins at `start` and includes the mask, if any. Returns None if the length field is
    incomplete; the mask need not be complete.
    """
    there = len(data) - start
    if there < 2:
        return None
    length = data[start + 1]
    size = 6 if length & 0x80 else 2
    length &= 0x7F
    if length < 126:
        return size, length
    width = 2 if length == 126 else 8
    if there < 2 + width:
        return None
    return size + width, int.from_bytes(data[start + 2 : start + 2 + width], "big")

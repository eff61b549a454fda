"""Frames on the wire (RFC 6455, section 5.2), and the proof of a handshake.

The server, `gochat talk` and `gochat bench` use this. It is a separate module so that the clients
do not import the server. All functions are pure.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Final

__all__ = ["accept_key", "client_frame", "frame", "mask", "read_header"]

# Headers without a key: two bytes, then a length of 16 or 64 bits if needed.
_SHORT_HEADER: Final = struct.Struct("!BB").pack
_HEADER: Final = struct.Struct("!BBH").pack
_LONG_HEADER: Final = struct.Struct("!BBQ").pack

# The suffix that a server appends to a client's key before it hashes both: RFC 6455, section 1.3.
_KEY_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_key(key: str) -> bytes:
    """Return the proof that the client's handshake was read: RFC 6455, section 4.2.2."""
    return base64.b64encode(hashlib.sha1(key.encode() + _KEY_GUID).digest())


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a whole frame from a server, which does not mask (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        return _SHORT_HEADER(0x80 | opcode, length) + payload
    if length < 65536:
        return _HEADER(0x80 | opcode, 126, length) + payload
    return _LONG_HEADER(0x80 | opcode, 127, length) + payload


def client_frame(opcode: int, payload: bytes, key: bytes) -> bytes:
    """Return a whole frame from a client, which masks its payload with a key of 4 bytes."""
    bare = frame(opcode, payload)
    head = bytearray(bare[: len(bare) - len(payload)])
    head[1] |= 0x80
    return bytes(head) + key + mask(payload, key)


def mask(data: bytes | bytearray, key: bytes | bytearray) -> bytes:
    """Mask or unmask a payload with a key of 4 bytes (RFC 6455, section 5.3).

    Works on one large integer, not byte by byte.
    """
    length = len(data)
    keys = (key * (length // 4 + 1))[:length]
    return (int.from_bytes(data, "big") ^ int.from_bytes(keys, "big")).to_bytes(length, "big")


def read_header(
    data: bytes | bytearray, start: int = 0, end: int | None = None
) -> tuple[int, int] | None:
    """Return the sizes of the header that begins at `start`, and of its payload, in bytes.

    The header includes the key of a masked frame. Returns None if the length field is incomplete;
    the key may be missing. Checks nothing. end: where the data ends; None for `len(data)`.
    """
    there = (len(data) if end is None else end) - start
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

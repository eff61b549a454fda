"""Splits a stream into frames (RFC 6455, section 5.2) and describes them."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from ..golang.frames import mask, read_header

__all__ = ["Describer", "Frame", "cut_frame"]

# The opcodes: RFC 6455, section 11.8.
_NAMES: Final = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}


class Frame(NamedTuple):
    """A complete frame."""

    fin: bool
    opcode: int
    #: The masking key; None if the frame is not masked.
    mask: bytes | None
    #: The payload, unmasked.
    payload: bytes
    #: The whole frame, as it is on the wire.
    data: bytes


def cut_frame(stream: bytearray, largest: int) -> Frame | None:
    """Remove the first frame from a stream and return it, or return None if it is incomplete.

    largest: the maximum length of the payload, in bytes. Raises ValueError if the payload is
    longer. Nothing else is checked.
    """
    header = read_header(stream)
    if header is None:
        return None
    start, length = header
    if length > largest:
        raise ValueError(f"a frame of {length} bytes")
    if len(stream) < start + length:
        return None
    data = bytes(stream[: start + length])
    del stream[: start + length]
    payload = data[start:]
    key = data[start - 4 : start] if data[1] & 0x80 else None
    if key:
        payload = mask(payload, key)
    return Frame(bool(data[0] & 0x80), data[0] & 0x0F, key, payload, data)


class Describer:
    """Describes the frames of one direction, in order.

    arrow: `<` for frames from the server, `>` for frames to the server.
    """

    def __init__(self, arrow: str) -> None:
        self.arrow = arrow
        # Whether the message in progress is text.
        self._is_text = False
        # The number of newlines in that message so far.
        self._newlines = 0

    def line(self, frame: Frame) -> str:
        """Return a line about a frame: time, direction, opcode, FIN, length, mask, and contents."""
        clock = datetime.now().time().isoformat("milliseconds")
        name = _NAMES.get(frame.opcode, "unknown")
        fin = "FIN" if frame.fin else "   "
        size = f"{len(frame.payload)} byte{'s' * (len(frame.payload) != 1)}"
        mask = f"mask {frame.mask.hex()}" if frame.mask else "no mask"
        text = f"{clock} {self.arrow} 0x{frame.opcode:x} {name:12} {fin} {size:>11}  {mask:13}"
        return f"{text}  {self._inside(name, frame)}".rstrip()

    def _inside(self, name: str, frame: Frame) -> str:
        if name == "close":
            return f"code {int.from_bytes(frame.payload[:2], 'big')}" if frame.payload else ""
        if name in ("text", "binary"):
            self._is_text = name == "text"
            self._newlines = 0
        elif name != "continuation":
            return ""
        if not self._is_text:
            return ""
        self._newlines += frame.payload.count(b"\n")
        if not frame.fin:
            return "to be continued"
        # The chat's write pump joins waiting messages with newlines.
        return f"{self._newlines + 1} messages joined" if self._newlines else "1 message"

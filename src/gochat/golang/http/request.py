"""Reading a request: within a deadline, and refusing what net/http refuses."""

from __future__ import annotations

import io
import re
import socket
import time
from typing import TYPE_CHECKING, Final

from .address import is_ipv6

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["CONTROL", "HOST", "LENGTH", "LineReader", "RequestReader", "is_target"]

# What is requested: a path, or a whole address of http (RFC 9112, section 3.2). This is how it
# begins, and what may not be in it: a "%" in the path is followed by two digits. One pattern for
# all of it would take time and memory for a step back from each character.
_TARGET: Final = re.compile(
    r"/|https?://([^][/?#@%]+|\[(?P<literal>[0-9a-f:.]+)\](:\d+)?)(?![^/?#])", re.I
)
_NO_TARGET: Final = re.compile(r"[\0-\x20\x7f]")
_NO_PATH: Final = re.compile(r"%(?![0-9a-f]{2})", re.I)

#: What a Host header may consist of: net/http's list. A Content-Length is a number (RFC 9110, 8.6).
HOST: Final = re.compile(r"[A-Za-z0-9!$%&'()*+,\-.:;=\[\]_~]*")
LENGTH: Final = re.compile(r"[0-9]{1,18}")

#: What no header's value may have in it (RFC 9110, section 5.5).
CONTROL: Final = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")

# How long to wait for more of a request that has been answered, in seconds.
_REST_WAIT: Final = 0.01

# The longest time to wait for at once, in seconds: the system cannot count to any.
_DAY: Final = 86400.0


def is_target(target: str) -> bool:
    """Whether the text can be taken apart as the target of a request."""
    found = _TARGET.match(target)
    if not found or _NO_TARGET.search(target) or _NO_PATH.search(target.partition("?")[0]):
        return False
    # From 3.11.4 on Python's parser raises ValueError for anything else between the brackets.
    literal = found["literal"]
    return literal is None or is_ipv6(literal)


class LineReader(io.BufferedReader):
    """Notices a CR that is not at the end of a line.

    The parser of the headers takes such a CR for the end of a line all the same, and what follows
    it for a header, which to a proxy was part of a value.
    """

    raw: RequestReader
    stray_cr = False

    def take(self) -> bytes:
        """What was read behind the request. Nothing more is read after that."""
        self.raw.ended = True
        return self.read()

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if b"\r" in line[:-2]:
            self.stray_cr = True
        return line


class RequestReader(io.RawIOBase):
    """What the client sends, until a deadline for all of it, in seconds of the monotonic clock.

    A timeout of the socket alone would be moved on by every byte.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        #: Set when there is nothing more to be read here.
        self.ended = False
        #: Set when the answer begins: what is left of the request is thrown away, and not awaited.
        self.answered = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read what is there. Raises TimeoutError at the deadline, or the system's OSError."""
        timeout = self._deadline - time.monotonic()
        if self.ended or (self.answered and timeout <= 0):
            return 0
        if timeout <= 0:
            raise TimeoutError("the request took too long")
        self._sock.settimeout(min(timeout, _REST_WAIT if self.answered else _DAY))
        try:
            return self._sock.recv_into(buffer)
        except OSError:  # also a reset: Werkzeug would lose its selector
            if not self.answered:
                raise
            return 0

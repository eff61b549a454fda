"""Reading from a client: under a deadline, and line by line within a bound (Go: bufio.Reader)."""

from __future__ import annotations

import io
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["MAX_HEADER_BYTES", "RequestReader"]

#: The longest request line and header together, in bytes. net/http's DefaultMaxHeaderBytes, and
#: what it allows beyond that.
MAX_HEADER_BYTES: Final = (1 << 20) + 4096

# How long to wait for more of a request that has been answered, in seconds.
_REST_WAIT: Final = 0.01

# How much of it to read at once, in bytes: Werkzeug asks for 10 MB.
_REST_SIZE: Final = 1 << 20

# The longest single wait, in seconds: the system's timeouts have an upper limit.
_DAY: Final = 86400.0


class _SocketReader(io.RawIOBase):
    """The bytes that a client sends until a deadline, in seconds of the monotonic clock.

    The deadline is for all of them together: a timeout of the socket would start again with every
    byte.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self.ended = False
        self.answered = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        timeout = self._deadline - time.monotonic()
        if self.ended or (self.answered and timeout <= 0):
            return 0
        if timeout <= 0:
            raise TimeoutError("the request took too long")
        self._sock.settimeout(min(timeout, _REST_WAIT if self.answered else _DAY))
        try:
            return self._sock.recv_into(buffer)
        except OSError:  # even a reset: Werkzeug would not close its selector
            if not self.answered:
                raise
            return 0


class RequestReader(io.BufferedReader):
    """Reads a request from a socket. For the thread of the request.

    deadline: for the whole request, on the monotonic clock. After it, reading raises TimeoutError.
    Reading also raises the system's OSError. Once `answered` was called, it does neither.
    """

    raw: _SocketReader

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        super().__init__(_SocketReader(sock, deadline))
        #: How many more bytes `read_line` may read.
        self.left = MAX_HEADER_BYTES

    def read_line(self) -> bytearray:
        """Read a line, with its LF. Without an LF, the client has ended, or `left` is 0.

        BufferedReader.readline would keep an object for every packet until the line is complete.
        """
        line = bytearray()
        while self.left and not line.endswith(b"\n"):
            there = self.peek()[: self.left]
            piece = self.read(there.find(b"\n") + 1 or len(there))
            if not piece:
                break
            line += piece
            self.left -= len(piece)
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        if self.raw.answered and size is not None:
            size = min(size, _REST_SIZE)
        return super().read(size)

    def answered(self) -> None:
        """Note that the answer begins: the rest of the request is not worth waiting for."""
        self.raw.answered = True

    def take(self) -> bytes:
        """Return what was read from the socket and not from here. From then on, nothing is read."""
        self.raw.ended = True
        return self.read()

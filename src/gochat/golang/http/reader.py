"""Reads a request from a socket, with a deadline and a size limit (Go: connReader)."""

from __future__ import annotations

import io
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from .. import clock
from ..runtime import nonblocking

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["MAX_HEADER_BYTES", "RequestReader"]

#: The maximum size of the request line and the header together, in bytes (Go:
#: DefaultMaxHeaderBytes, and the 4096 bytes that net/http adds).
MAX_HEADER_BYTES: Final = (1 << 20) + 4096

# How long to wait for the rest of a request that is already being answered, in seconds.
_REST_WAIT: Final = 0.01

# How much of that rest to read at once, in bytes. Werkzeug asks for 10 MB.
_REST_SIZE: Final = 1 << 20

# The longest single wait, in seconds, because the system's timeouts have an upper limit.
_DAY: Final = 86400.0


class _SocketReader(io.RawIOBase):
    """Reads from a socket until a deadline, in seconds of the monotonic clock.

    The socket's own timeout would restart with each received byte. A pause of the process extends
    the deadline, see clock.py.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = clock.since(deadline)
        self._patience = min(max(self._deadline - clock.now(), _REST_WAIT), _DAY)
        self._late = False
        self.ended = False
        self.answered = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        timeout = self._deadline - clock.now()
        if self.ended or (self.answered and timeout <= 0):
            return 0
        if timeout <= 0:
            return self._look_late(buffer)
        try:
            # Usually the whole request has arrived, and a single system call is enough.
            if self._sock.gettimeout() is None:
                with suppress(BlockingIOError):
                    return self._read_arrived(buffer)
            while True:
                self._sock.settimeout(min(timeout, _REST_WAIT if self.answered else _DAY))
                try:
                    return self._sock.recv_into(buffer)
                except TimeoutError:
                    timeout = self._deadline - clock.now()
                    if self.answered or timeout <= 0:
                        raise
        except OSError:  # after an exception, Werkzeug would leave its selector open
            if not self.answered:
                raise
            return 0
        finally:
            if self.answered:
                with suppress(OSError):  # the socket was closed meanwhile
                    self.limit_writes()

    def _look_late(self, buffer: WriteableBuffer) -> int:
        """After the deadline, read what has arrived, but only once.

        On a busy machine this thread might not run before the deadline, which is not the client's
        fault. A client that sends byte by byte gains only one more read.
        """
        if not self._late:
            self._late = True
            self._sock.settimeout(None)
            with suppress(BlockingIOError):
                return self._read_arrived(buffer)
        raise TimeoutError("the request took too long")

    def _read_arrived(self, buffer: WriteableBuffer) -> int:
        """Read without waiting; the socket must have no timeout. Raises BlockingIOError."""
        return nonblocking(self._sock).recv_into(buffer, 0, socket.MSG_DONTWAIT)

    def limit_writes(self) -> None:
        """Give the client as much time for each piece of the response as it had for the request."""
        self._sock.settimeout(self._patience)


class RequestReader(io.BufferedReader):
    """Reads a request. Thread: the request's.

    deadline: for the whole request, in seconds of the monotonic clock.

    Reading raises TimeoutError at the deadline, and OSError as the socket does. After `answered`,
    reading returns end of file instead.
    """

    raw: _SocketReader

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        super().__init__(_SocketReader(sock, deadline))
        #: How many bytes `read_line` may still read.
        self.left = MAX_HEADER_BYTES

    def read_line(self) -> bytearray:
        """Read a line, including its LF. The LF is missing at the end of file, or if `left` is 0.

        BufferedReader.readline would keep an object for each packet until the line is complete.
        """
        line = bytearray()
        while self.left and not line.endswith(b"\n"):
            there = self.peek()[: self.left]
            piece = super().read(there.find(b"\n") + 1 or len(there))
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
        """Note that the response begins: from now on, reads wait only briefly for the client.

        Each piece of the response may take as long to write as the client had for its request.
        """
        self.raw.answered = True
        self.raw.limit_writes()

    def take(self) -> bytes:
        """Return the bytes in the buffer, without reading from the socket."""
        self.raw.ended = True
        return self.read()

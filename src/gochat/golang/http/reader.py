"""Reads a request from a socket, with a deadline and a size limit (Go: connReader)."""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING, Final

from .. import clock
from ..runtime import nonblocking, readable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["MAX_HEADER_BYTES", "RequestReader"]

#: The maximum size of the request line and the header together, in bytes (Go:
#: DefaultMaxHeaderBytes, and the 4096 bytes that net/http adds).
MAX_HEADER_BYTES: Final = (1 << 20) + 4096

# After the response has begun, the server still reads the rest of the request. Each read then waits
# at most _REST_WAIT seconds, and returns at most _REST_SIZE bytes. (Werkzeug asks for 10 MB.)
_REST_WAIT: Final = 0.01
_REST_SIZE: Final = 1 << 20

_TOO_LONG: Final = "the request took too long"

# The longest timeout that is passed to the system, in seconds.
_DAY: Final = 86400.0


class _SocketReader(io.RawIOBase):
    """Reads from a socket until a deadline, a `time.monotonic()` time.

    The socket's own timeout would restart with each byte. If the process is paused, the deadline is
    extended: see clock.py.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._poll = readable(sock)
        self._deadline = clock.since(deadline)
        # The longest wait for input, and the timeout of a write, in seconds.
        self._wait = _DAY
        self._patience = min(max(self._deadline - clock.now(), _REST_WAIT), _DAY)
        self._late = False
        self.ended = False
        self.answered = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        timeout = self._deadline - clock.now()
        late = timeout <= 0
        if self.ended or (self.answered and late):
            return 0
        # On a busy machine, this thread may run late although the client was in time. So after the
        # deadline, it reads once more, but does not wait for more input.
        if late and self._late:
            raise TimeoutError(_TOO_LONG)
        self._late = late
        while not self._poll.poll(1000 * min(max(timeout, 0), self._wait)):
            if self.answered:
                return 0
            timeout = self._deadline - clock.now()
            if timeout <= 0:
                raise TimeoutError(_TOO_LONG)
        try:
            return nonblocking(self._sock).recv_into(buffer, 0, socket.MSG_DONTWAIT)
        except OSError:
            if not self.answered:
                raise
            return 0  # after an exception, Werkzeug would leave its selector open

    def answer(self) -> None:
        """See RequestReader.answered."""
        self.answered = True
        self._wait = _REST_WAIT
        self._sock.settimeout(self._patience)


class RequestReader(io.BufferedReader):
    """Reads a request. Thread: the connection's own.

    deadline: the `time.monotonic()` time by which the request must be complete.

    A read raises TimeoutError after the deadline, or the socket's OSError. After `answered`, it
    reports the end of file instead.
    """

    raw: _SocketReader

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        super().__init__(_SocketReader(sock, deadline))
        #: How many more bytes `read_line` may read.
        self.left = MAX_HEADER_BYTES

    def read_line(self) -> bytearray:
        """Read a line, including its LF. The LF is missing if the input ends or `left` reaches 0.

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
        """Record that the response begins. Later reads wait at most _REST_WAIT.

        Each write of the response may take as long as the whole request.
        """
        self.raw.answer()

    def take(self) -> bytes:
        """Return the bytes in the buffer. Later reads report the end of file."""
        self.raw.ended = True
        return self.read()

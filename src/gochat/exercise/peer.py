"""The client's side of a connection, which sends and reads only what a check asks for."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from ..golang.frames import client_frame, read_header
from .learner import WAIT

__all__ = ["Peer"]


class Peer:
    """A client on a connected socket.

    The methods raise EOFError if the connection has ended, and TimeoutError if they wait for data
    for longer than WAIT.

    Thread: one at a time.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(WAIT)
        self._sock = sock
        self._input = sock.makefile("rb")

    def handshake(self) -> None:
        """Request a WebSocket at /ws and read the answer (RFC 6455, section 1.3)."""
        self._sock.sendall(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        while self._input.readline().strip():
            pass

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a frame. Its mask is all zeros, so its payload stays readable."""
        self._sock.sendall(client_frame(opcode, payload, bytes(4)))

    def send_texts(self, texts: Iterable[bytes]) -> None:
        """Send each text in a frame of its own, but write all frames at once."""
        self._sock.sendall(b"".join(client_frame(1, text, bytes(4)) for text in texts))

    def read_frame(self) -> tuple[int, bytes]:
        """Return the opcode and the payload of the next frame."""
        head = self.read(2)
        while (header := read_header(head)) is None:
            head += self.read(1)
        return head[0] & 0x0F, self.read(header[1])

    def read(self, size: int) -> bytes:
        """Wait for the next `size` bytes, and return them."""
        data = self._input.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def close(self) -> None:
        """End the connection."""
        self._input.close()
        self._sock.close()

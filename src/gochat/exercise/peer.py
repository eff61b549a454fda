"""The client's side of a connection, which sends and reads only what a check asks for."""

from __future__ import annotations

import socket

from ..golang.frames import client_frame, read_header
from .learner import WAIT

__all__ = ["Peer"]


class Peer:
    """A client on a connected socket.

    The methods raise EOFError if the connection has ended, and TimeoutError if nothing arrives
    within WAIT.

    Thread: one at a time.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._input = b""
        sock.settimeout(WAIT)

    def handshake(self) -> None:
        """Request a WebSocket at /ws and read the answer (RFC 6455, section 1.3)."""
        self._sock.sendall(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        while b"\r\n\r\n" not in self._input:
            self._fill()
        _, _, self._input = self._input.partition(b"\r\n\r\n")

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a frame. Its mask is all zeros, so its payload stays readable."""
        self._sock.sendall(client_frame(opcode, payload, bytes(4)))

    def read_frame(self) -> tuple[int, bytes]:
        """Return the opcode and the payload of the next frame."""
        while (header := read_header(self._input)) is None:
            self._fill()
        frame = self.read(sum(header))
        return frame[0] & 0x0F, frame[header[0] :]

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, and wait until they have arrived."""
        while len(self._input) < size:
            self._fill()
        data, self._input = self._input[:size], self._input[size:]
        return data

    def close(self) -> None:
        """End the connection."""
        self._sock.close()

    def _fill(self) -> None:
        data = self._sock.recv(4096)
        if not data:
            raise EOFError
        self._input += data

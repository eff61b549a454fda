"""The far end of a connection: as a browser, but it sends and reads exactly what it is told to."""

from __future__ import annotations

import socket

from .learner import WAIT

__all__ = ["Peer"]


class Peer:
    """A client on a socket, or on one end of a pair of sockets. For the check's thread.

    Its methods raise EOFError when the connection has ended, TimeoutError when nothing comes.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._input = b""
        sock.settimeout(WAIT)

    def handshake(self) -> None:
        """Ask for a WebSocket at /ws, and read the answer (RFC 6455, section 1.3)."""
        self._sock.sendall(
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        while b"\r\n\r\n" not in self._input:
            self._fill()
        _, _, self._input = self._input.partition(b"\r\n\r\n")

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a frame of at most 125 bytes, masked with zeros, which change nothing."""
        self._sock.sendall(bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    def read_frame(self) -> tuple[int, bytes]:
        """The next frame, of at most 125 bytes: its opcode and its payload."""
        opcode, length = self.read(2)
        return opcode & 0x0F, self.read(length)

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
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

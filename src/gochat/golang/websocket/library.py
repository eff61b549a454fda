"""simple-websocket, without its own thread and socket. Only this module imports that library.

The library parses frames, assembles messages, and answers pings and close frames. It expects to own
a socket and a reader thread. Here, it gets replacements for both:

- The socket is a `_Wire`. It passes the library's output to a function. The library's input is the
  argument of `Library.feed`.
- The reader thread is a `_Loop`, which never starts. `Library.feed` runs the reader's loop on the
  calling thread, for one piece of input.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress

import simple_websocket

__all__ = ["Library"]


class _DrainedError(Exception):
    """Ends a run of the library's loop when it asks for more input."""


class _Loop:
    """Replaces the library's reader thread."""

    name = ""

    def __init__(self, target: Callable[[], None]) -> None:
        self.run = target

    def start(self) -> None:
        """Do nothing when the library starts its thread."""


class _Wire:
    """Replaces the library's socket.

    output: a function that is called with the library's output.
    """

    def __init__(self, output: Callable[[bytes], None]) -> None:
        self.output = output
        self.input: bytes | None = None

    def recv(self, _size: int) -> bytes:
        """Return the argument of `Library.feed`, once."""
        if self.input is None:
            raise _DrainedError
        data, self.input = self.input, None
        return data

    def send(self, data: bytes) -> int:
        """Send a pong or a close frame."""
        self.output(bytes(data))
        return len(data)

    def close(self) -> None:
        """Do nothing: the socket is closed elsewhere."""


class Library:
    """A connection of the library, after the handshake. Thread: the reader.

    send: a function that is called with each frame that the library sends: a pong or a close frame.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        # The library needs a handshake, so it gets a made-up one. Its answer is discarded.
        self._wire = _Wire(lambda _: None)
        self._server = simple_websocket.Server(
            {
                "werkzeug.socket": self._wire,
                "HTTP_HOST": "gochat",
                "HTTP_CONNECTION": "Upgrade",
                "HTTP_UPGRADE": "websocket",
                "HTTP_SEC_WEBSOCKET_VERSION": "13",
                "HTTP_SEC_WEBSOCKET_KEY": base64.b64encode(bytes(16)).decode(),
            },
            thread_class=_Loop,
        )
        self._wire.output = send
        self._server.pong_received = False

    def feed(self, data: bytes) -> None:
        """Let the library process a frame or a piece of one."""
        self._wire.input = data
        with suppress(_DrainedError):
            self._server.thread.run()

    def take_pong(self) -> bool:
        """Return whether a pong has arrived since the last call."""
        pong: bool = self._server.pong_received
        self._server.pong_received = False
        return pong

    def take_message(self) -> str | bytes | None:
        """Return the next complete message, or None."""
        messages: list[str | bytes] = self._server.input_buffer
        return messages.pop(0) if messages else None

    @property
    def inside_message(self) -> bool:
        """Return whether a message has begun but is not complete."""
        return self._server.incoming_message is not None

    @property
    def open(self) -> bool:
        """Return whether the library has seen no close frame and no protocol error."""
        return bool(self._server.connected)

    @property
    def closed_by_peer(self) -> bool:
        """Return whether the peer has sent a valid close frame. Meaningful only if not `open`."""
        state: str = self._server.ws.state.name
        return state == "CLOSED"

    @property
    def close_code(self) -> int:
        """Return the close code (RFC 6455, section 7.4.1). Meaningful only if not `open`."""
        return int(self._server.close_reason)

    @property
    def close_text(self) -> str:
        """Return the reason in the peer's close frame, or the protocol error.

        Meaningful only if not `open`.
        """
        return self._server.close_message or ""

    def forget(self) -> None:
        """Break all reference cycles, so that the objects are freed. Must be the last call."""
        vars(self._server).clear()
        vars(self._wire).clear()

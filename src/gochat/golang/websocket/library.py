"""simple-websocket, without its own thread and socket. Nothing else imports that library.

The library parses frames, answers pings and closes, and puts messages together. It expects to own
a socket and a reader thread. It gets neither:

- Its socket is a `_Wire`. Data that the library sends goes to the function passed to Library; data
  that it receives is the argument of `Library.feed`.
- Its reader thread is a `_Loop`, which never starts. `Library.feed` runs that loop on the calling
  thread, for one piece of input. So the library needs no thread, and nothing is read until the
  reader asks for the next message.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress

import simple_websocket

__all__ = ["Library"]


class _DrainedError(Exception):
    """Ends a run of the library's loop, which has used up its input and asks for more."""


class _Loop:
    """Replaces the library's reader thread: keeps the loop and starts nothing."""

    name = ""

    def __init__(self, target: Callable[[], None]) -> None:
        self.run = target

    def start(self) -> None:
        """Do nothing: the library starts its thread here."""


class _Wire:
    """Replaces the library's socket.

    output: called with the data that the library sends.
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
        """Send a pong, or a close."""
        self.output(bytes(data))
        return len(data)

    def close(self) -> None:
        """Do nothing: the socket is closed elsewhere."""


class Library:
    """The library's view of one connection, after its handshake. Thread: the reader.

    send: called with each frame that the library sends: a pong, or a close.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        # The library gets a made-up handshake, and its answer is discarded.
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
        """Run the library's read loop on a frame, or on a piece of one."""
        self._wire.input = data
        with suppress(_DrainedError):
            self._server.thread.run()

    def take_pong(self) -> bool:
        """Return whether a pong has arrived since the last call."""
        pong: bool = self._server.pong_received
        self._server.pong_received = False
        return pong

    def take_message(self) -> str | bytes | None:
        """Return the next whole message, or None."""
        messages: list[str | bytes] = self._server.input_buffer
        return messages.pop(0) if messages else None

    @property
    def inside_message(self) -> bool:
        """Return whether part of a message has arrived, but not the rest."""
        return self._server.incoming_message is not None

    @property
    def open(self) -> bool:
        """Return whether neither side has closed, as far as the library knows."""
        return bool(self._server.connected)

    @property
    def closed_by_peer(self) -> bool:
        """Return whether the peer has closed without a protocol error. Valid only if not `open`."""
        state: str = self._server.ws.state.name
        return state == "CLOSED"

    @property
    def close_code(self) -> int:
        """Return the close code (RFC 6455, section 7.4.1). Valid only if not `open`."""
        return int(self._server.close_reason)

    @property
    def close_text(self) -> str:
        """Return the peer's reason, or what the peer did wrong. Valid only if not `open`."""
        return self._server.close_message or ""

    def forget(self) -> None:
        """Break all reference cycles, to free the objects immediately. Must be the last call."""
        vars(self._server).clear()
        vars(self._wire).clear()

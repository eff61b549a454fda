"""simple-websocket, without its thread and without its socket. Nothing else knows that library.

The library parses frames, answers pings and closes, and puts messages together. It is made to own
a socket and a reader thread. It gets neither:

- Its socket is a `_Wire`. What the library sends goes to the function that a Library was given;
  what the library receives is what `Library.feed` was given.
- Its reader thread is a `_Loop`, which never starts. `Library.feed` runs that loop on the calling
  thread, for one piece of input. So a connection costs no thread of its own, and a reader that does
  not ask for the next message reads nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress

import simple_websocket

__all__ = ["Library"]


class _DrainedError(Exception):
    """Ends a run of the library's loop: the loop has digested its input and asks for more."""


class _Loop:
    """In place of the library's reader thread: keeps the loop to be run, and starts nothing."""

    name = ""

    def __init__(self, target: Callable[[], None]) -> None:
        self.run = target

    def start(self) -> None:
        """The library starts its thread here."""


class _Event:
    """In place of the event that wakes the library's reader: here no reader sleeps."""

    def set(self) -> None:
        """The library has put something into its input buffer, or has closed."""


class _Wire:
    """In place of the library's socket.

    output: what to do with what the library sends.
    """

    def __init__(self, output: Callable[[bytes], None]) -> None:
        self.output = output
        self.input: bytes | None = None

    def recv(self, _size: int) -> bytes:
        """What `Library.feed` was given, once."""
        if self.input is None:
            raise _DrainedError
        data, self.input = self.input, None
        return data

    def send(self, data: bytes) -> int:
        """A pong, or a close."""
        self.output(bytes(data))
        return len(data)

    def close(self) -> None:
        """The library believes that the connection is over; the socket is closed elsewhere."""


class Library:
    """The library's view of one connection, behind its handshake. The reading thread's alone.

    send: takes a frame that the library wants to send by itself: a pong, or a close.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        # The library is shown a handshake of its own, whose answer goes nowhere.
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
            event_class=_Event,
        )
        self._wire.output = send
        self._server.pong_received = False

    def feed(self, data: bytes) -> None:
        """Run the library's read loop on a piece of a frame, or on a whole one."""
        self._wire.input = data
        with suppress(_DrainedError):
            self._server.thread.run()

    def take_pong(self) -> bool:
        """Whether a pong has come since this was last called."""
        pong: bool = self._server.pong_received
        self._server.pong_received = False
        return pong

    def take_message(self) -> str | bytes | None:
        """The next whole message, if there is one."""
        messages: list[str | bytes] = self._server.input_buffer
        return messages.pop(0) if messages else None

    @property
    def inside_message(self) -> bool:
        """Whether a part of a message has come and the rest has not."""
        return self._server.incoming_message is not None

    @property
    def open(self) -> bool:
        """Whether neither side has closed, as far as the library knows."""
        return bool(self._server.connected)

    @property
    def closed_by_peer(self) -> bool:
        """Whether the peer has closed; if not, it has broken the protocol. Only if not `open`."""
        state: str = self._server.ws.state.name
        return state == "CLOSED"

    @property
    def close_code(self) -> int:
        """The close code, of RFC 6455, section 7.4.1. Only if not `open`."""
        return int(self._server.close_reason)

    @property
    def close_text(self) -> str:
        """The peer's reason, or what it has done wrong. Only if not `open`."""
        return self._server.close_message or ""

    def forget(self) -> None:
        """Break the cycles, so that all objects are freed at once. Ends the use of this object."""
        vars(self._server).clear()
        vars(self._wire).clear()

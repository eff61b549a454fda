"""WebSocket connections: what Go has from gorilla/websocket, on `simple_websocket.Server`.

Strategy: the library does the parsing, the answers to pings and closes, and puts messages together.
It believes that it owns a socket and a reader thread. It gets neither:

- Its socket is a `_Wire`. What it sends goes through the one write lock of the connection; what it
  receives is what `Conn.read_message` has taken off the real socket.
- Its reader thread is a `_Loop`, which is never started. `Conn.read_message` runs that loop on its
  own thread, for one piece of input at a time. So a connection costs no thread of its own, and a
  reader that does not ask for the next message reads nothing: TCP holds the peer back.

A connection has one reading thread and one writing thread; any thread may close it. The socket
stays in blocking mode and has no timeout: a timeout makes `send` give up in the middle of a frame,
and is for both directions at once. Reading and writing wait in `poll` instead, each for its own
deadline.

Deadlines are in seconds of `time.monotonic()`. All failures to read or write are OSError: a
CloseError, ProtocolError or ReadLimitError of this module, TimeoutError for a deadline, or what
the system said. After one, the connection is of no more use.
"""

from __future__ import annotations

import base64
import binascii
import copy
import math
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import simple_websocket
from wsproto.connection import ConnectionState
from wsproto.utilities import generate_accept_token

from .turns import turns

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = [
    "BINARY_MESSAGE",
    "CLOSE_ABNORMAL_CLOSURE",
    "CLOSE_GOING_AWAY",
    "CLOSE_INVALID_FRAME_PAYLOAD_DATA",
    "CLOSE_MESSAGE",
    "CLOSE_MESSAGE_TOO_BIG",
    "CLOSE_NORMAL_CLOSURE",
    "CLOSE_NO_STATUS_RECEIVED",
    "CLOSE_TRY_AGAIN_LATER",
    "PING_MESSAGE",
    "PONG_MESSAGE",
    "REFUSALS",
    "TEXT_MESSAGE",
    "CloseError",
    "Conn",
    "HandshakeError",
    "ProtocolError",
    "ReadLimitError",
    "Upgrader",
    "format_close_message",
    "is_unexpected_close_error",
]

# Message types: the opcodes of RFC 6455, section 11.8.
TEXT_MESSAGE = 1
BINARY_MESSAGE = 2
CLOSE_MESSAGE = 8
PING_MESSAGE = 9
PONG_MESSAGE = 10

# Close codes: RFC 6455, section 7.4.1.
CLOSE_NORMAL_CLOSURE = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_NO_STATUS_RECEIVED = 1005
CLOSE_ABNORMAL_CLOSURE = 1006
CLOSE_INVALID_FRAME_PAYLOAD_DATA = 1007
CLOSE_MESSAGE_TOO_BIG = 1009
CLOSE_TRY_AGAIN_LATER = 1013

_CLOSE_TEXT = {
    1000: "normal",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1005: "no status",
    1006: "abnormal closure",
    1007: "invalid payload data",
    1008: "policy violation",
    1009: "message too big",
    1010: "mandatory extension missing",
    1011: "internal server error",
    1013: "try again later",
}

#: Why a handshake is refused, and the HTTP status that the Go library answers then.
REFUSALS: Final = {
    "connection": HTTPStatus.BAD_REQUEST,
    "upgrade": HTTPStatus.UPGRADE_REQUIRED,
    "method": HTTPStatus.METHOD_NOT_ALLOWED,
    "version": HTTPStatus.BAD_REQUEST,
    "origin": HTTPStatus.FORBIDDEN,
    "key": HTTPStatus.BAD_REQUEST,
    "body": HTTPStatus.BAD_REQUEST,
    "hijack": HTTPStatus.INTERNAL_SERVER_ERROR,
}

# How long what the library sends by itself (a pong, a close) may wait for its turn and be written,
# in seconds. gorilla/websocket's writeWait.
_CONTROL_WAIT: Final = 1.0

# How long a peer that was sent a close frame may take to answer before it is cut, in seconds.
_CLOSE_WAIT: Final = 1.0

# The answer to a handshake (RFC 6455, section 4.2.2), but for the token. No extension is accepted:
# what is offered, permessage-deflate, costs far more than it saves here.
_ANSWER: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n"
    b"\r\n"
)

# The scheme of an origin, in lower case (RFC 3986, section 3.1).
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")

# An empty close frame, masked with zeros.
_EMPTY_CLOSE: Final = b"\x88\x80\0\0\0\0"


class CloseError(ConnectionError):
    """The peer has closed the connection: with a close frame, or (1006) without one.

    code: of RFC 6455, section 7.4.1; 1005 if its close frame had none.
    text: its reason, mostly empty.
    """

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        known = f" ({_CLOSE_TEXT[self.code]})" if self.code in _CLOSE_TEXT else ""
        return f"websocket: close {self.code}{known}" + (f": {self.text!r}" if self.text else "")


class ProtocolError(ConnectionError):
    """The peer has broken the protocol, and was told so with the close code 1002 or 1007."""


class ReadLimitError(ConnectionError):
    """The peer's message was over the read limit, and it was told so with the close code 1009."""


class HandshakeError(Exception):
    """The request is no handshake that is accepted here.

    reason: what is wrong, a key of REFUSALS.
    status: the HTTP status to answer with.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = REFUSALS[reason]

    def response(self, start_response: StartResponse) -> Iterable[bytes]:
        """The answer to the request, as a WSGI response: the one that the Go library gives."""
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("X-Content-Type-Options", "nosniff"),
            ("Sec-WebSocket-Version", "13"),
        ]
        if self.status == HTTPStatus.UPGRADE_REQUIRED:
            headers.append(("Upgrade", "websocket"))
        body = f"{self.status.phrase}\n".encode()
        headers.append(("Content-Length", str(len(body))))
        start_response(f"{self.status.value} {self.status.phrase}", headers)
        return [body]


def is_unexpected_close_error(error: BaseException, *expected: int) -> bool:
    """Whether the peer has closed, and with a code that is not among the expected ones."""
    return isinstance(error, CloseError) and error.code not in expected


def format_close_message(code: int, text: str = "") -> bytes:
    """The payload of a close frame: RFC 6455, section 5.5.1. The text is cut to fit."""
    return struct.pack("!H", code) + text.encode()[:123].decode(errors="ignore").encode()


class Upgrader:
    """Upgrades HTTP requests to WebSocket connections. Any thread may use it.

    allowed_origins: origins (`https://example.org:8443`) whose pages may connect, or `*` for all.
        A page of the server's own origin, and a client that names none, always may.
    utf8_only: binary messages must be UTF-8 too. For who passes them on as text.
    read_buffer_size: how much is read from the socket at once, in bytes.
    read_rate, read_burst: how many messages a connection reads a second, and how many at once; None
        for as many as come. Beyond that it reads nothing for a while, so that TCP holds the peer
        back: pings, pongs and closes wait behind its messages, and the read deadline waits, too.
        If the connection ends meanwhile, what waits is not read any more.
    """

    def __init__(
        self,
        *,
        allowed_origins: Sequence[str] = (),
        utf8_only: bool = False,
        read_buffer_size: int = 4096,
        read_rate: float | None = None,
        read_burst: int = 1,
    ) -> None:
        self.allowed_origins = frozenset(map(_fold, allowed_origins))
        self.utf8_only = utf8_only
        self.read_buffer_size = read_buffer_size
        self.read_rate = read_rate
        self.read_burst = read_burst

    def upgrade(self, environ: WSGIEnvironment) -> Conn:
        """Answer the handshake with 101, and take the connection over from the HTTP server.

        environ is the request's, with one key more: `gochat.hijack`, called once, gives the socket,
        in blocking mode, and the bytes that the server has read from it behind the request. (In Go:
        `http.Hijacker`.) The socket remains the server's to close, when the request's handler has
        returned; so that must not be before the last use of the Conn.

        Raises HandshakeError, with the status that the Go library answers; OSError if the answer
        could not be sent.
        """
        self._check(environ)
        hijack: Callable[[], tuple[socket.socket, bytes]] | None = environ.get("gochat.hijack")
        if hijack is None:
            raise HandshakeError("hijack", "websocket: the server does not let its connections go")
        key = environ["HTTP_SEC_WEBSOCKET_KEY"]
        addr, port = environ.get("REMOTE_ADDR", ""), environ.get("REMOTE_PORT", "")
        remote_addr = f"[{addr}]:{port}" if ":" in addr else f"{addr}:{port}"
        sock, buffered = hijack()
        return self.new_conn(sock, buffered, key, remote_addr)

    def new_conn(self, sock: socket.socket, buffered: bytes, key: str, remote_addr: str) -> Conn:
        """Make the Conn that `upgrade` returns: for a subclass that has a Conn of its own."""
        return Conn(sock, buffered, key, remote_addr, self)

    def _check(self, environ: WSGIEnvironment) -> None:
        """What the Go library checks, in its order. RFC 6455, section 4.2.1."""
        bad = "websocket: not a handshake: "
        if not _has_token(environ, "HTTP_CONNECTION", "upgrade"):
            raise HandshakeError("connection", bad + "'Connection' does not say upgrade")
        if not _has_token(environ, "HTTP_UPGRADE", "websocket"):
            raise HandshakeError("upgrade", bad + "'Upgrade' does not say websocket")
        if environ["REQUEST_METHOD"] != "GET":
            raise HandshakeError("method", bad + "the method is not GET")
        if not _has_token(environ, "HTTP_SEC_WEBSOCKET_VERSION", "13"):
            raise HandshakeError("version", bad + "'Sec-WebSocket-Version' is not 13")
        if not self._check_origin(environ):
            origin = environ["HTTP_ORIGIN"]
            raise HandshakeError("origin", f"websocket: origin {origin[:100]!r} may not connect")
        if not _is_challenge_key(environ.get("HTTP_SEC_WEBSOCKET_KEY", "")):
            raise HandshakeError("key", bad + "'Sec-WebSocket-Key' is not 16 bytes in base64")
        # Not in Go: what comes next would be the body to a proxy, and frames here.
        if (
            environ.get("CONTENT_LENGTH") not in (None, "", "0")
            or "HTTP_TRANSFER_ENCODING" in environ
        ):
            raise HandshakeError("body", bad + "there is a body")

    def _check_origin(self, environ: WSGIEnvironment) -> bool:
        """Whether the page that connects is one of this server, or of an origin that may.

        An origin is nothing but `scheme://host[:port]` (RFC 6454, section 6.2), so it is compared
        as a whole and never parsed: what another parser might make of it does not matter.
        """
        if "HTTP_ORIGIN" not in environ:  # not a browser
            return True
        origin = _fold(environ["HTTP_ORIGIN"])
        scheme, _, host = origin.partition("://")
        # Two headers come as one, and what is before the comma is no scheme.
        is_origin = bool(_SCHEME.fullmatch(scheme) and host)
        same = is_origin and host == _fold(environ.get("HTTP_HOST", ""))
        return same or origin in self.allowed_origins or "*" in self.allowed_origins


def _fold(header: str) -> str:
    """Lower case, of ASCII letters alone. WSGI gives headers as Latin-1, which has others."""
    return header.encode("utf-8", "surrogateescape").lower().decode("utf-8", "surrogateescape")


def _has_token(environ: WSGIEnvironment, header: str, token: str) -> bool:
    """Whether a header that is a list of tokens has this one, in any case."""
    return token in (part.strip(" \t") for part in _fold(environ.get(header, "")).split(","))


def _is_challenge_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


class _DrainedError(Exception):
    """Ends a run of the library's loop: it has digested its input and asks for more."""


class _Loop:
    """In place of the library's reader thread: keeps its loop to be run, and starts nothing."""

    name = ""

    def __init__(self, target: Callable[[], None]) -> None:
        self.run = target

    def start(self) -> None:
        """The library starts its thread here."""


class _Event:
    """In place of what the library wakes its reader with: here the reader is not asleep."""

    def set(self) -> None:
        """The library has laid something into its input buffer, or has closed."""


class _Wire:
    """In place of the library's socket.

    send: what to do with what the library sends.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.output = send
        self.input: bytes | None = None

    def recv(self, _size: int) -> bytes:
        """What `Conn._digest` has laid here, once."""
        if self.input is None:
            raise _DrainedError
        data, self.input = self.input, None
        return data

    def send(self, data: bytes) -> int:
        """A pong, or a close."""
        self.output(bytes(data))
        return len(data)

    def close(self) -> None:
        """The library thinks that it is through; the socket is closed elsewhere."""


def _new_library(wire: _Wire) -> simple_websocket.Server:
    """The library behind a handshake. It is shown one whose answer goes nowhere."""
    output, wire.output = wire.output, lambda _: None
    library = simple_websocket.Server(
        {
            "werkzeug.socket": wire,
            "HTTP_HOST": "gochat",
            "HTTP_CONNECTION": "Upgrade",
            "HTTP_UPGRADE": "websocket",
            "HTTP_SEC_WEBSOCKET_VERSION": "13",
            "HTTP_SEC_WEBSOCKET_KEY": base64.b64encode(bytes(16)).decode(),
        },
        thread_class=_Loop,
        event_class=_Event,
    )
    wire.output = output
    library.pong_received = False
    return library


class Conn:
    """A WebSocket connection, on the server's side. Made by `Upgrader.upgrade`.

    remote_addr: the peer's address and port, as in `127.0.0.1:5000` or `[::1]:5000`, by REMOTE_ADDR
        and REMOTE_PORT of the environ.
    """

    def __init__(
        self, sock: socket.socket, buffered: bytes, key: str, remote_addr: str, upgrader: Upgrader
    ) -> None:
        self.remote_addr: Final = remote_addr
        self._sock = sock

        # The reading thread's alone.
        self._input = bytearray(buffered)
        self._read_buffer_size = upgrader.read_buffer_size
        self._utf8_only = upgrader.utf8_only
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        self._read_deadline: float | None = None
        self._read_limit = 0
        self._message_size = 0  # of the message being read, as its frames' headers say
        self._payload_left = 0  # of the frame being read
        # At the read rate, how long a message takes, in seconds; 0 for no time.
        self._message_time = 1 / upgrader.read_rate if upgrader.read_rate else 0.0
        self._ahead = self._message_time * upgrader.read_burst  # by how much they may come early
        self._read_until = 0.0  # the end of the time that all messages so far take
        self._pong_handler: Callable[[], None] = _no_pong_handler
        self._read_error: OSError | None = None
        # Held until reading has ended; `close` waits for it.
        self._reading = threading.Lock()
        self._reading.acquire()

        # Guards the stream of bytes to the peer, so that a frame is whole and behind the one
        # before it; and with it the two fields below.
        self._write_lock = threading.Lock()
        self._write_error: OSError | None = None
        self._close_sent = False
        # The writing thread's alone.
        self._write_deadline: float | None = None

        # Made for the first frame that is not a common one: for most connections that is the close.
        self._library: simple_websocket.Server | None = None

        answer = _ANSWER % generate_accept_token(key.encode())
        self._write(answer, _after(_CONTROL_WAIT), closing=False)

    # Reading: one thread.

    def set_read_limit(self, limit: int) -> None:
        """The largest message to accept, in bytes; 0 for no limit. The reading thread."""
        self._read_limit = limit

    def set_read_deadline(self, deadline: float | None) -> None:
        """When to give up reading, on the monotonic clock; None for never. The reading thread."""
        self._read_deadline = deadline

    def set_pong_handler(self, handler: Callable[[], None]) -> None:
        """What to call, on the reading thread, when a pong has come."""
        self._pong_handler = handler

    def read_message(self) -> tuple[int, bytes]:
        """Wait for the next message: `(TEXT_MESSAGE or BINARY_MESSAGE, payload)`.

        Text is valid UTF-8. Pings and closes are answered, and pongs reported, while it waits.
        After a close frame was written, messages are dropped: it waits for the peer's answer
        alone. The reading thread.

        Raises CloseError if the peer has closed, ProtocolError or ReadLimitError if it was at fault
        and has been told so, TimeoutError at the read deadline, ConnectionAbortedError if this side
        has closed or the connection ends over the read rate, or the system's OSError; and the same
        again when called again.
        """
        if self._read_error is not None:
            raise _bare(self._read_error)
        try:
            while True:
                text = self._take_plain_text()
                if text is not None:
                    message_type, message = TEXT_MESSAGE, text
                else:
                    digested = self._read_frame()
                    if digested is None:
                        continue
                    message_type, message = digested
                if not self._close_sent:
                    if self._message_time:
                        self._keep_rate()
                    return message_type, message
        except OSError as error:
            self._read_error = _bare(error)
            self._forget()
            self._reading.release()
            raise

    def _forget(self) -> None:
        """Let go of what refers back here or to itself, so that all of it goes at once.

        A garbage collector that finds it when thousands have gone stops all threads for a second.
        """
        self._pong_handler = _no_pong_handler
        if self._library:
            vars(self._library).clear()
            self._library = None

    def _keep_rate(self) -> None:
        """Wait until the message just read may have been.

        Raises ConnectionAbortedError if the connection ends before: what is over the rate is not
        read any faster because its sender has gone, however much of it the system still holds.
        """
        now = time.monotonic()
        self._read_until = max(self._read_until, now) + self._message_time
        if self._read_until - self._ahead > now:
            ended = select.poll()
            ended.register(self._sock, 0)
            if _wait(ended, self._read_until - self._ahead):
                raise ConnectionAbortedError("websocket: ended over the read rate")
            if self._read_deadline is not None:
                # The pong that is due may be there, behind what is not read: this side is late.
                self._read_deadline += time.monotonic() - now

    def _take_plain_text(self) -> bytes | None:
        """The next message, if it is the common one: text, in one frame, masked, short, all there.

        It is not worth the library's tens of microseconds. Nor is the pong that answers a ping of
        ours, which is taken on the way. None for anything else, which is left where it is: it goes
        through the library, and so does what is wrong in any way.
        """
        if self._payload_left or (self._library and self._library.incoming_message is not None):
            return None
        data = self._input
        while True:
            if not data:
                data += self._receive()
            if len(data) < 6 or not data.startswith(b"\x8a\x80"):
                break
            del data[:6]
            self._pong_handler()
        if len(data) < 8 or data[0] != 0x81 or not 0x80 <= data[1] <= 0xFE:
            return None
        short = data[1] - 0x80
        length, start = (short, 6) if short < 126 else (data[2] << 8 | data[3], 8)
        end = start + length
        if (short == 126) != (length >= 126) or end > len(data) or 0 < self._read_limit < length:
            return None
        mask = data[start - 4 : start] * (length // 4 + 1)
        number = int.from_bytes(data[start:end], "big") ^ int.from_bytes(mask[:length], "big")
        text = number.to_bytes(length, "big")
        if not _is_utf8(text):
            return None
        del data[:end]
        return text

    def _read_frame(self) -> tuple[int, bytes] | None:
        """Take a frame, or a piece of its payload, to the library. The message, if it is whole."""
        if self._payload_left == 0:
            header = self._read_header()
        else:
            header = b""
            self._need(1)
        piece = self._input[: self._payload_left]
        del self._input[: len(piece)]
        self._payload_left -= len(piece)
        return self._digest(header + bytes(piece))

    def _read_header(self) -> bytes:
        """Take a frame's header (RFC 6455, section 5.2), and refuse a message that is too long.

        What else is wrong with the header is for the library to say.
        """
        self._need(2)
        opcode, length = self._input[0] & 0x0F, self._input[1] & 0x7F
        size = 2 + (4 if self._input[1] & 0x80 else 0)
        if opcode < CLOSE_MESSAGE:
            if length == 126:
                size += 2
                self._need(4)
                (length,) = struct.unpack_from("!H", self._input, 2)
            elif length == 127:
                size += 8
                self._need(10)
                (length,) = struct.unpack_from("!Q", self._input, 2)
            size_so_far = length + (0 if opcode else self._message_size)
            # A frame that is wrong in another way is that first.
            plain = self._input[0] & 0x7F <= BINARY_MESSAGE and self._input[1] & 0x80
            if plain and 0 < self._read_limit < size_so_far:
                self._fail(CLOSE_MESSAGE_TOO_BIG)
                raise ReadLimitError("websocket: read limit exceeded")
            self._message_size = 0 if self._input[0] & 0x80 else size_so_far
        elif self._input.startswith(b"\x88\x81"):
            # Half a close code: none, says the Go library; a breach of protocol, says this one.
            return _EMPTY_CLOSE
        self._need(size)
        header = bytes(self._input[:size])
        del self._input[:size]
        self._payload_left = length
        return header

    def _need(self, size: int) -> None:
        """Read until that many bytes are there."""
        while len(self._input) < size:
            self._input += self._receive()

    def _receive(self) -> bytes:
        # A deadline that has passed is the end even if there is input: a peer that sends and sends,
        # but no pong, is not waited for either.
        if _seconds_until(self._read_deadline) == 0 or not _wait(
            self._readable, self._read_deadline
        ):
            raise TimeoutError("websocket: read deadline exceeded")
        data = self._sock.recv(self._read_buffer_size)
        if not data:
            raise CloseError(CLOSE_ABNORMAL_CLOSURE, "unexpected EOF")
        return data

    def _digest(self, data: bytes) -> tuple[int, bytes] | None:
        """Run the library's read loop on a piece of input, and look at what has become of it."""
        if self._library is None:
            self._library = _new_library(_Wire(self._send_for_library))
        library = self._library
        is_answer = self._close_sent
        library.sock.input = data
        with suppress(_DrainedError):
            library.thread.run()
        if library.pong_received:
            library.pong_received = False
            self._pong_handler()
        if library.connected:
            if not library.input_buffer:
                return None
            message: str | bytes = library.input_buffer.pop(0)
            if isinstance(message, str):
                return TEXT_MESSAGE, message.encode()
            if self._utf8_only:
                self._check_utf8(message)
            return BINARY_MESSAGE, message
        if self._write_error is not None:
            raise _bare(self._write_error)
        if is_answer:
            raise ConnectionAbortedError("websocket: closed by this side")
        code, text = int(library.close_reason), library.close_message or ""
        if library.ws.state is not ConnectionState.CLOSED:
            # It was the library that closed: the peer has broken the protocol.
            self._linger()
            raise ProtocolError(f"websocket: {text}")
        raise CloseError(code, text)

    def _check_utf8(self, message: bytes) -> None:
        if not _is_utf8(message):
            self._fail(CLOSE_INVALID_FRAME_PAYLOAD_DATA)
            raise ProtocolError("websocket: invalid UTF-8 in a binary message")

    def _fail(self, code: int) -> None:
        """Tell the peer that it was at fault, before that is raised. RFC 6455, section 7.1.7."""
        with suppress(OSError):
            close = _frame(CLOSE_MESSAGE, format_close_message(code))
            self._write(close, _after(_CONTROL_WAIT), closing=True)
        self._linger()

    def _linger(self) -> None:
        """Send no more, and wait for the peer to close, but not long.

        To close a socket that still has input is to reset the connection, and a reset may overtake
        the close frame: the peer would never learn why.
        """
        self._shutdown(socket.SHUT_WR)
        self._read_deadline = _after(_CLOSE_WAIT)
        with suppress(OSError):
            while True:
                self._receive()

    # Writing: any thread, but data messages from one.

    def set_write_deadline(self, deadline: float | None) -> None:
        """When to give up writing, on the monotonic clock; None for never. The writing thread."""
        self._write_deadline = deadline

    def write_message(self, message_type: int, data: bytes) -> None:
        """Write a message, or a control frame, as one whole frame. The writing thread.

        Text must be UTF-8; a control frame's payload is at most 125 bytes (ValueError). The payload
        of a close frame is made by `format_close_message`, or empty.

        Raises TimeoutError at the write deadline, ConnectionAbortedError if a close frame was
        written before, or the system's OSError. If the peer may have got half a frame, the
        connection is ended.
        """
        if message_type >= CLOSE_MESSAGE and len(data) > 125:
            raise ValueError(f"control frame of {len(data)} bytes")
        closing = message_type == CLOSE_MESSAGE
        self._write(_frame(message_type, data), self._write_deadline, closing=closing)

    def _send_for_library(self, data: bytes) -> None:
        """Write a frame of the library's own. The reading thread."""
        closing = data[0] & 0x0F == CLOSE_MESSAGE
        with suppress(_WriteLockTimeoutError, ConnectionAbortedError):
            self._write(data, _after(_CONTROL_WAIT), closing=closing)

    def _write(self, data: bytes, deadline: float | None, *, closing: bool) -> None:
        """Write a whole frame (or the handshake's answer), behind what others are writing."""
        if not self._write_lock.acquire(False):
            turns.give_up()
            timeout = _seconds_until(deadline)
            if not self._write_lock.acquire(timeout=-1 if timeout is None else timeout):
                raise _WriteLockTimeoutError("websocket: write deadline exceeded")
        try:
            if self._write_error is not None:
                raise _bare(self._write_error)
            if self._close_sent:
                raise ConnectionAbortedError("websocket: close sent")
            self._close_sent = closing
            try:
                self._send_all(data, deadline)
            except OSError as error:
                self._write_error = _bare(error)
                self._shutdown(socket.SHUT_RDWR)
                raise
        finally:
            self._write_lock.release()

    def _send_all(self, data: bytes, deadline: float | None) -> None:
        rest: bytes | memoryview = data
        while True:
            try:
                sent = self._sock.send(rest, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._await_room(deadline)
                continue
            if sent == len(rest):
                return
            rest = memoryview(rest)[sent:]

    def _await_room(self, deadline: float | None) -> None:
        """Wait until the system takes more of a frame. With the write lock held."""
        turns.give_up()
        writable = select.poll()
        writable.register(self._sock, select.POLLOUT)
        if not _wait(writable, deadline):
            raise TimeoutError("websocket: write deadline exceeded") from None

    # The end.

    def close(self) -> None:
        """End the connection, so that a thread that waits to read or write comes back. Any thread.

        Sends no close frame. If one was sent, the peer first has a second to answer it, provided
        that the reading thread still reads. The descriptor is closed by the HTTP server, whose it
        is: no thread can be left to use a number that is somebody else's by then.
        """
        turns.give_up()
        if self._close_sent and self._read_error is None:
            self._shutdown(socket.SHUT_WR)
            if self._reading.acquire(timeout=_CLOSE_WAIT):
                self._reading.release()
        self._shutdown(socket.SHUT_RDWR)

    def _shutdown(self, how: int) -> None:
        with suppress(OSError):  # the peer was faster
            self._sock.shutdown(how)


class _WriteLockTimeoutError(TimeoutError):
    """Another thread was writing all the time; nothing of this frame was."""


def _frame(opcode: int, payload: bytes) -> bytes:
    """RFC 6455, section 5.2; a server does not mask."""
    length = len(payload)
    if length < 126:
        return struct.pack("!BB", 0x80 | opcode, length) + payload
    if length < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, length) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, length) + payload


def _no_pong_handler() -> None:
    """What a pong means when nobody has asked."""


def _bare(error: OSError) -> OSError:
    """The same error, without the traceback: that refers to all who were in it.

    What is kept is one, and what is raised another: a traceback is of the one that was raised.
    """
    return copy.copy(error)


def _is_utf8(data: bytes) -> bool:
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    return True


def _after(seconds: float) -> float:
    return time.monotonic() + seconds


def _seconds_until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _wait(socket_poll: select.poll, deadline: float | None) -> bool:
    """Wait until the socket is ready; False at the deadline."""
    while True:
        timeout = _seconds_until(deadline)
        # In whole milliseconds, and not more than the system can count.
        if socket_poll.poll(None if timeout is None else min(math.ceil(timeout * 1000), 2**31 - 1)):
            return True
        if timeout == 0:
            return False

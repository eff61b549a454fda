"""The WebSocket handshake (gorilla/websocket: server.go)."""

from __future__ import annotations

import base64
import logging
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

from .. import clock, http
from ..frames import accept_key
from ..runtime import Lock, nonblocking
from .conn import CONTROL_WAIT, Conn, ConnOptions, await_room, send_all
from .protocol import (
    CLOSE_INTERNAL_SERVER_ERR,
    CLOSE_MESSAGE,
    CLOSE_TRY_AGAIN_LATER,
    format_close_message,
)

__all__ = ["REFUSALS", "HandshakeError", "Upgrader", "UpgraderStatistics"]

#: Reasons for refusing a handshake, with the HTTP status of the answer, as in gorilla/websocket.
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

# The answer to a handshake, without the key (RFC 6455, section 4.2.2). It accepts no extension.
# Browsers offer permessage-deflate, which costs far more here than it saves.
_ANSWER: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n"
    b"\r\n"
)

# The message if the request is from another server, whose environ has no Hijacker.
_NO_HIJACKER: Final = "websocket: this needs gochat.Server; other servers keep the connection"

# The maximum length of an Origin, in characters. A longer one is refused, to save memory.
_LONGEST_ORIGIN: Final = 2000

# The scheme of an origin, in lower case (RFC 3986, section 3.1).
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")


@dataclass(frozen=True)
class UpgraderStatistics:
    """Counters of an Upgrader."""

    #: Handshakes that were answered with 101.
    upgraded: int
    #: Refused handshakes, by reason. Every key of REFUSALS is present.
    refused: Mapping[str, int]


class HandshakeError(Exception):
    """Raised if a request is not an acceptable handshake.

    reason: a key of REFUSALS.
    status: the HTTP status of the answer.
    level: the log level, INFO for a mistake by the client and ERROR for a mistake on this side.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = REFUSALS[reason]
        self.level: Final = logging.INFO if self.status < 500 else logging.ERROR

    def response(self, start_response: http.StartResponse) -> Iterable[bytes]:
        """Return the answer to the request as a WSGI response.

        The answer is the same as gorilla/websocket's, except that it says what to do if the server
        does not support hijacking.
        """
        headers = [("Sec-WebSocket-Version", "13")]
        if self.status == HTTPStatus.UPGRADE_REQUIRED:
            headers.append(("Upgrade", "websocket"))
        text = self.status.phrase if self.status < 500 else str(self)
        return http.error(start_response, text, self.status, headers)


class Upgrader:
    """Upgrades HTTP requests to WebSocket connections. Thread: any.

    allowed_origins: origins whose pages may connect, such as `https://example.org:8443`; `*` allows
        all. Pages of the server's own origin, and clients that send no origin, are always allowed.
    handshake_timeout: how long sending the answer may take, in seconds. `serve_ws` also gives the
        hub this long to accept the client.
    utf8_only, read_buffer_size, read_rate, read_burst, on_message: see `ConnOptions`.
    """

    def __init__(
        self,
        *,
        allowed_origins: Sequence[str] = (),
        handshake_timeout: float = 10.0,
        utf8_only: bool = True,
        read_buffer_size: int = 1024,
        read_rate: float | None = None,
        read_burst: int = 1,
        on_message: Callable[[Conn, bytes], bytes | None] | None = None,
    ) -> None:
        self.allowed_origins: Final = frozenset(map(_fold, allowed_origins))
        self.handshake_timeout: Final = handshake_timeout
        self.options: Final = ConnOptions(
            utf8_only=utf8_only,
            read_buffer_size=read_buffer_size,
            read_rate=read_rate,
            read_burst=read_burst,
            on_message=on_message,
        )
        # Guards the two fields below.
        self._lock = Lock()
        self._upgraded = 0
        self._refused = dict.fromkeys(REFUSALS, 0)

    def statistics(self) -> UpgraderStatistics:
        """Return the counters. Thread: any."""
        with self._lock:
            return UpgraderStatistics(self._upgraded, self._refused.copy())

    def upgrade(self, environ: http.Environ) -> Conn:
        """Answer the handshake with 101 and take the connection over from the HTTP server.

        environ: the environ of a request to an `http.Server`.

        The server still closes the socket: see `http.Hijacker`. So use the Conn only in the
        application and in functions that the application passes to the Hijacker. This method
        reserves the second thread, so `Hijacker.go` does not fail. If the application or one of
        these functions later raises an exception, the peer gets the close code 1013 for an
        `http.UnavailableError`, and 1011 for any other exception.

        Raises HandshakeError if the request is not an acceptable handshake, http.UnavailableError
        if there is no second thread (the server then answers 503), and OSError if the answer cannot
        be sent.
        """
        try:
            hijacker = http.hijacker(environ)
            if hijacker is None:
                raise HandshakeError("hijack", _NO_HIJACKER)
            self._check(environ)
        except HandshakeError as error:
            with self._lock:
                self._refused[error.reason] += 1
            raise
        hijacker.reserve()
        addr, port = environ.get("REMOTE_ADDR", ""), environ.get("REMOTE_PORT", "")
        remote_addr = f"[{addr}]:{port}" if ":" in addr else f"{addr}:{port}"
        sock, buffered = hijacker.hijack()
        answer = _ANSWER % accept_key(environ["HTTP_SEC_WEBSOCKET_KEY"])
        deadline = clock.after(self.handshake_timeout)
        send_all(nonblocking(sock), answer, deadline, lambda deadline: await_room(sock, deadline))
        with self._lock:
            self._upgraded += 1
        conn = self.new_conn(environ, sock, buffered, remote_addr)
        conn.user = environ.get("REMOTE_USER", "")
        hijacker.on_failure.append(partial(_turn_away, conn))
        return conn

    def new_conn(
        self, environ: http.Environ, sock: socket.socket, buffered: bytes, remote_addr: str
    ) -> Conn:
        """Create the Conn for `upgrade`. Override this to use a subclass of Conn.

        environ: the environ of the request; REMOTE_USER may name the user. Other arguments: see
        `Conn`.
        """
        del environ  # only for subclasses
        return Conn(sock, buffered, remote_addr, self.options)

    def _check(self, environ: http.Environ) -> None:
        """Check the handshake in the same order as gorilla/websocket (RFC 6455, section 4.2.1)."""
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
        # Not in Go. A proxy would forward the body, and this side would read it as frames.
        if (
            environ.get("CONTENT_LENGTH") not in (None, "", "0")
            or "HTTP_TRANSFER_ENCODING" in environ
        ):
            raise HandshakeError("body", bad + "there is a body")

    def _check_origin(self, environ: http.Environ) -> bool:
        """Return whether the page has the server's own origin or an allowed one.

        An origin is `scheme://host[:port]` (RFC 6454, section 6.2). Origins are compared as
        strings, so that nobody can exploit differences between URL parsers.
        """
        if "HTTP_ORIGIN" not in environ:  # not a browser
            return True
        if len(environ["HTTP_ORIGIN"]) > _LONGEST_ORIGIN:
            return False
        origin = _fold(environ["HTTP_ORIGIN"])
        scheme, _, host = origin.partition("://")
        # The part before `://` might not be a scheme: the server joins several Origin headers with
        # a comma.
        is_origin = bool(_SCHEME.fullmatch(scheme) and host)
        same = is_origin and host == _fold(environ.get("HTTP_HOST", ""))
        return same or origin in self.allowed_origins or "*" in self.allowed_origins


def _turn_away(conn: Conn, error: BaseException) -> None:
    """Send a close frame to a peer whose connection has failed, and end the connection."""
    later = isinstance(error, http.UnavailableError)
    code = CLOSE_TRY_AGAIN_LATER if later else CLOSE_INTERNAL_SERVER_ERR
    with suppress(OSError):
        deadline = time.monotonic() + CONTROL_WAIT
        conn.write_control(CLOSE_MESSAGE, format_close_message(code), deadline)
    conn.close()


def _fold(header: str) -> str:
    """Lower-case only ASCII letters. (WSGI decodes headers as Latin-1, which has other letters.)"""
    return header.encode("utf-8", "surrogateescape").lower().decode("utf-8", "surrogateescape")


def _has_token(environ: http.Environ, header: str, token: str) -> bool:
    """Return whether a header, which is a list of tokens, contains a token. Ignores case."""
    value: str = environ.get(header, "")
    if value.lower() == token:  # the usual case
        return True
    # `split` could create half a million objects from a one-megabyte header.
    pattern = rf"(?:^|,)[ \t]*{token}[ \t]*(?:,|$)"
    return bool(re.search(pattern, value, re.IGNORECASE | re.ASCII))


def _is_challenge_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        return False

"""The handshake: from a request to a Conn (gorilla/websocket: server.go)."""

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

#: The reasons for refusing a handshake, each with the HTTP status of the Go library's answer.
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

# The answer to a handshake (RFC 6455, section 4.2.2), without the key. It accepts no extension:
# permessage-deflate, which browsers offer, costs far more here than it saves.
_ANSWER: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n"
    b"\r\n"
)

# The text for a server whose environ has no Hijacker.
_NO_HIJACKER: Final = "websocket: this needs gochat.Server; other servers keep the connection"

# The longest Origin to compare, in characters. A longer one is refused, to save memory.
_LONGEST_ORIGIN: Final = 2000

# The scheme of an origin, in lower case (RFC 3986, section 3.1).
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")


@dataclass(frozen=True)
class UpgraderStatistics:
    """Counters of an Upgrader."""

    #: Handshakes that were answered with 101.
    upgraded: int
    #: Refused handshakes by reason: all keys of REFUSALS, with 0 for none.
    refused: Mapping[str, int]


class HandshakeError(Exception):
    """The request is not an acceptable handshake.

    reason: what is wrong, a key of REFUSALS.
    status: the HTTP status to answer with.
    level: the log level: logging.INFO for a client's mistake, ERROR for a mistake on this side.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = REFUSALS[reason]
        self.level: Final = logging.INFO if self.status < 500 else logging.ERROR

    def response(self, start_response: http.StartResponse) -> Iterable[bytes]:
        """Return the answer to the request as a WSGI response.

        The answer is the same as the Go library's, but if the server does not support hijacking,
        its text says what to do.
        """
        headers = [("Sec-WebSocket-Version", "13")]
        if self.status == HTTPStatus.UPGRADE_REQUIRED:
            headers.append(("Upgrade", "websocket"))
        text = self.status.phrase if self.status < 500 else str(self)
        return http.error(start_response, text, self.status, headers)


class Upgrader:
    """Upgrades HTTP requests to WebSocket connections. Thread: any.

    allowed_origins: origins (`https://example.org:8443`) whose pages may connect, or `*` for all.
        Pages of the server's own origin, and clients that send no origin, always may.
    handshake_timeout: time allowed to send the answer, in seconds. `serve_ws` gives the hub the
        same time to accept the client.
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
        # Guards the two fields below. A thread that holds it waits for no other lock.
        self._lock = Lock()
        self._upgraded = 0
        self._refused = dict.fromkeys(REFUSALS, 0)

    def statistics(self) -> UpgraderStatistics:
        """Return what the Upgrader has done so far. Thread: any."""
        with self._lock:
            return UpgraderStatistics(self._upgraded, self._refused.copy())

    def upgrade(self, environ: http.Environ) -> Conn:
        """Answer the handshake with 101 and take the connection over from the HTTP server.

        environ: the environ of a request to an `http.Server`. The server still closes the socket,
        see `http.Hijacker`, so use the Conn only inside functions that the server calls. A second
        thread is reserved for the connection, so `Hijacker.go` does not fail. If the application,
        or a function that it has passed to the Hijacker, fails afterward, the peer gets the close
        code 1013 for an `http.UnavailableError` and 1011 for any other exception.

        Raises HandshakeError, with the status of the Go library's answer; http.UnavailableError if
        there is no second thread, which the server answers with 503; OSError if the answer cannot
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
        """Return the Conn for `upgrade`. Override this to use a subclass of Conn.

        environ: of the request, in which a login may have named the user. The rest: see `Conn`.
        """
        del environ  # for a subclass
        return Conn(sock, buffered, remote_addr, self.options)

    def _check(self, environ: http.Environ) -> None:
        """Check what the Go library checks, in the same order (RFC 6455, section 4.2.1)."""
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
        # Not in Go. A proxy would take the bytes that follow for the body, and this side would take
        # them for frames.
        if (
            environ.get("CONTENT_LENGTH") not in (None, "", "0")
            or "HTTP_TRANSFER_ENCODING" in environ
        ):
            raise HandshakeError("body", bad + "there is a body")

    def _check_origin(self, environ: http.Environ) -> bool:
        """Return whether the connecting page has the server's origin, or an allowed one.

        An origin is only `scheme://host[:port]` (RFC 6454, section 6.2). It is compared as a whole
        and never parsed, so differences between parsers do not matter.
        """
        if "HTTP_ORIGIN" not in environ:  # not a browser
            return True
        if len(environ["HTTP_ORIGIN"]) > _LONGEST_ORIGIN:
            return False
        origin = _fold(environ["HTTP_ORIGIN"])
        scheme, _, host = origin.partition("://")
        # Two Origin headers arrive joined by a comma; then the text before `://` might not be a
        # scheme.
        is_origin = bool(_SCHEME.fullmatch(scheme) and host)
        same = is_origin and host == _fold(environ.get("HTTP_HOST", ""))
        return same or origin in self.allowed_origins or "*" in self.allowed_origins


def _turn_away(conn: Conn, error: BaseException) -> None:
    """Tell the peer that its connection will not be served, and end the connection."""
    later = isinstance(error, http.UnavailableError)
    code = CLOSE_TRY_AGAIN_LATER if later else CLOSE_INTERNAL_SERVER_ERR
    with suppress(OSError):
        deadline = time.monotonic() + CONTROL_WAIT
        conn.write_control(CLOSE_MESSAGE, format_close_message(code), deadline)
    conn.close()


def _fold(header: str) -> str:
    """Lower-case only ASCII letters. WSGI decodes headers as Latin-1, which has more letters."""
    return header.encode("utf-8", "surrogateescape").lower().decode("utf-8", "surrogateescape")


def _has_token(environ: http.Environ, header: str, token: str) -> bool:
    """Return whether a header that is a list of tokens has this one, in any case."""
    value: str = environ.get(header, "")
    if value.lower() == token:  # the most common header
        return True
    # Does not use split, which could make half a million objects from a header of a megabyte.
    pattern = rf"(?:^|,)[ \t]*{token}[ \t]*(?:,|$)"
    return bool(re.search(pattern, value, re.IGNORECASE | re.ASCII))


def _is_challenge_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        return False

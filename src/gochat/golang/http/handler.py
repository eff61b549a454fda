"""One connection, on its own thread: a request, its answer, and what goes on behind it.

A handler may take its connection over from the server, and go on with it when the request is done
and forgotten, on this thread and on others. That is what `http.Hijacker` and the go statement do in
Go; here it is the `Hijacker` in the WSGI environ.
"""

from __future__ import annotations

import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.client import HTTPMessage
from typing import TYPE_CHECKING, Any, Final

from werkzeug.serving import DechunkedInput, WSGIRequestHandler

from .address import join_host_port, unmapped
from .reader import RequestReader
from .request import (
    Header,
    RequestError,
    check_header,
    parse_target,
    read_header,
    read_request_line,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .server import Server

__all__ = ["Handler", "Hijacker", "hijackable", "hijacker"]

log = logging.getLogger("gochat")

_KEY: Final = "gochat.hijacker"

# Whether a Transfer-Encoding, a list of tokens, has this one.
_CHUNKED: Final = re.compile(r"(?:^|,)[ \t]*chunked[ \t]*(?:,|$)", re.I)


class Hijacker:
    """Lets the handler of a request take the connection over (Go: http.Hijacker).

    Made by the server, one for each connection. For the thread of the request.

    take: gives what was read from the socket behind the request, and reads no more.
    """

    def __init__(self, sock: socket.socket, take: Callable[[], bytes]) -> None:
        self._sock = sock
        self._take: Callable[[], bytes] | None = take
        #: Whether the connection was taken over: then the server writes no answer.
        self.hijacked = False
        #: The threads that `go` has started.
        self.threads: list[threading.Thread] = []
        #: What to do on this thread when the request is over.
        self.then: Callable[[], object] = lambda: None

    def hijack(self) -> tuple[socket.socket, bytes]:
        """Take the connection over: the socket, in blocking mode, and what was read from it.

        The socket remains the server's to close. The server does that when the handler has returned
        and all that `go` and `go_on` were given has returned too. Raises RuntimeError the second
        time.
        """
        if self._take is None:
            raise RuntimeError("the connection was taken over before")
        self.hijacked = True
        buffered = self._take()
        self._take = None  # and the reader behind it, with a buffer of 8 KiB
        self._sock.settimeout(None)
        return self._sock, buffered

    def go(self, function: Callable[[], object], name: str) -> None:
        """Call the function on a new thread of this name (Go: the go statement).

        The connection is not closed before the function has returned. Raises RuntimeError if the
        system has no more threads.
        """
        thread = threading.Thread(target=function, name=name, daemon=True)
        thread.start()
        self.threads.append(thread)

    def go_on(self, function: Callable[[], object], name: str) -> None:
        """Call the function on this thread, which gets the name, when the request is over."""

        def then() -> None:
            threading.current_thread().name = name
            function()

        self.then = then


def hijacker(environ: WSGIEnvironment) -> Hijacker | None:
    """The Hijacker of a request; None if it came from a server that has none."""
    found: Hijacker | None = environ.get(_KEY)
    return found


class Handler(WSGIRequestHandler):
    """Reads and answers the one request of a connection. On the connection's thread."""

    disable_nagle_algorithm = True
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    command = ""  # until the client's is known, and so the next
    request_version = "HTTP/1.1"
    server: Server

    # Werkzeug looks here for Expect alone: it would answer "100 Continue", and ask for a body that
    # no handler reads.
    headers = HTTPMessage()

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        deadline = time.monotonic() + self.server.read_header_timeout
        self.rfile = self._reader = RequestReader(self.connection, deadline)
        self.hijacker = Hijacker(self.connection, self._reader.take)
        self._header: Header = {}

    def handle_one_request(self) -> None:
        """Read the request, and have the application answer it, or refuse it."""
        try:
            if self._read_request() and self._identify():
                self.run_wsgi()
        except RequestError as error:
            self._refuse(error.status, error.reason)

    def _read_request(self) -> bool:
        """Read the request. False if there is none. Raises RequestError."""
        line = read_request_line(self._reader)
        if line is None:
            return False
        self.command, self.path, self.request_version = line
        self._header = read_header(self._reader)
        check_header(self._header, self.request_version)
        return True

    def _refuse(self, status: int, reason: str = "") -> None:
        phrase = HTTPStatus(status).phrase
        self.send_error(status, f"{phrase}: {reason}" if reason else phrase)
        if status == 431:
            # Closing a socket with input unread resets the connection, and a reset may overtake
            # the answer. In all other cases most clients have sent everything.
            while self._reader.read1():
                pass

    def _identify(self) -> bool:
        """Go by the client's address, and not by its proxy's; False if it has been refused."""
        peer, port = self.client_address[:2]
        admission = self.server.admission
        if not admission.trusts(unmapped(peer)):
            return True
        client = admission.forwarded_for(self._header.get("x-forwarded-for", []))
        if not client:
            return True
        self.client_address = (client, port)
        threading.current_thread().name = f"serve {join_host_port(client, port)}"
        refusal = admission.count(self.connection, client)
        if refusal is not None:
            admission.refused(refusal)
            self._refuse(503)
        return refusal is None

    def make_environ(self) -> WSGIEnvironment:
        """The request as WSGI has it, PEP 3333, with Werkzeug's additions.

        Werkzeug's own version takes time that is quadratic in the number of headers of one name,
        and keeps the last targets in a cache.
        """
        host, path, query = parse_target(self.path)
        # As Werkzeug encodes it. Most are ASCII: no copy of what may be a megabyte.
        raw = self.path if self.path.isascii() else self.path.encode().decode("latin-1")
        environ: WSGIEnvironment = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": self._reader,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "werkzeug.socket": self.connection,
            "SERVER_SOFTWARE": self.version_string(),
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_URI": raw,
            "RAW_URI": raw,
            "REMOTE_ADDR": unmapped(self.client_address[0]),
            "REMOTE_PORT": self.client_address[1],
            "SERVER_NAME": self.server.server_address[0],
            "SERVER_PORT": str(self.server.server_address[1]),
            "SERVER_PROTOCOL": self.request_version,
            _KEY: self.hijacker,
        }
        for name, values in self._header.items():
            if "_" in name:
                continue  # its key would be that of the header with "-"
            key = name.upper().replace("-", "_")
            if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                environ[key] = values[-1]
            else:
                environ[f"HTTP_{key}"] = ",".join(values)
        if host:  # the target's goes before the header's (RFC 9112, section 3.2.2)
            environ["HTTP_HOST"] = host
        if _CHUNKED.search(environ.get("HTTP_TRANSFER_ENCODING", "")):
            environ["wsgi.input_terminated"] = True
            environ["wsgi.input"] = DechunkedInput(self._reader)
        return environ

    def left(self) -> Hijacker:
        """What is not over when the request is. The handler is of no more use after this."""
        self.environ = {}  # it refers back here, and would keep all of this from going at once
        return self.hijacker

    def version_string(self) -> str:
        return "gochat"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002
        """No access lines. It is called when the answer begins."""
        self._reader.answered()

    def log_error(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """No line for a request that could not be read: its sender has been told."""


def hijackable(application: WSGIApplication) -> WSGIApplication:
    """Keep Werkzeug from writing what net/http does not write either, whatever a handler returns:

    a response into a connection that was taken over, and the body of an answer to HEAD.
    """

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        connection: Hijacker = environ[_KEY]
        try:
            response = application(environ, start_response)
        except Exception as error:
            if not connection.hijacked:
                raise
            if isinstance(error, OSError):
                log.info("http: %s: %s", threading.current_thread().name, error)
            else:
                log.exception("http: %s failed", threading.current_thread().name)
        if connection.hijacked:
            raise ConnectionAbortedError("hijacked")  # Werkzeug's quiet way out
        if environ["REQUEST_METHOD"] == "HEAD":
            getattr(response, "close", lambda: None)()
            return []
        return response

    return app

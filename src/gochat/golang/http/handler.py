"""One connection, on its own thread: its request, its response, and its hijacker (Go: conn.serve).

A WSGI application can take a connection over from the server, and use it after the request, on this
thread and on others. In Go, it would use `http.Hijacker` and the go statement; here, it uses the
`Hijacker` in the WSGI environ.
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

from ..thread import Thread
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

# The token `chunked` in a Transfer-Encoding, which is a list of tokens.
_CHUNKED: Final = re.compile(r"(?:^|,)[ \t]*chunked[ \t]*(?:,|$)", re.I)


class Hijacker:
    """Lets the application take over the connection of a request (Go: http.Hijacker).

    The server makes one for each connection. Only the thread of the request may use it.

    take: returns the bytes that were read from the socket after the request, and ends reading.
    """

    def __init__(self, sock: socket.socket, take: Callable[[], bytes]) -> None:
        self._sock = sock
        self._take: Callable[[], bytes] | None = take
        #: Whether the connection was taken over, so that the server sends no response.
        self.hijacked = False
        #: The threads that `go` has started.
        self.threads: list[threading.Thread] = []
        #: What the thread of the request calls after the request.
        self.then: Callable[[], object] = lambda: None

    def hijack(self) -> tuple[socket.socket, bytes]:
        """Take the connection over: returns its socket, and the bytes that were read ahead.

        The socket is in blocking mode. The server closes the socket, once the application and all
        functions that were passed to `go` and `go_on` have returned. Raises RuntimeError if the
        connection was taken over before.
        """
        if self._take is None:
            raise RuntimeError("the connection was taken over before")
        self.hijacked = True
        buffered = self._take()
        self._take = None  # frees the reader, with its buffer of 8 KiB
        if self._sock.gettimeout() is not None:
            self._sock.settimeout(None)
        return self._sock, buffered

    def go(self, function: Callable[[], object], name: str) -> None:
        """Call a function on a new thread with this name (Go: the go statement).

        The server does not close the connection before the function has returned. Raises
        RuntimeError if no thread can be started.
        """
        thread = Thread(target=function, name=name, daemon=True)
        thread.start()
        self.threads.append(thread)

    def go_on(self, function: Callable[[], object], name: str) -> None:
        """Call a function on this thread after the request; the thread then gets this name."""

        def then() -> None:
            threading.current_thread().name = name
            function()

        self.then = then


def hijacker(environ: WSGIEnvironment) -> Hijacker | None:
    """The Hijacker of a request, or None if another server made the environ."""
    found: Hijacker | None = environ.get(_KEY)
    return found


class Handler(WSGIRequestHandler):
    """Reads and answers the only request of a connection, on the connection's thread."""

    disable_nagle_algorithm = True
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    server: Server

    # What http.server's send_error looks at, before the request line has been read.
    command = ""
    request_version = "HTTP/1.1"

    # Always empty. Werkzeug looks up Expect in it, and would send "100 Continue": the client would
    # then send a body that no application here reads.
    headers = HTTPMessage()

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        deadline = time.monotonic() + self.server.read_header_timeout
        self.rfile = self._reader = RequestReader(self.connection, deadline)
        self.hijacker = Hijacker(self.connection, self._reader.take)
        self._header: Header = {}

    def handle_one_request(self) -> None:
        """Read the request, and let the application answer it, or refuse it.

        Nothing is done for a client that sends nothing at all. Raises what reading from a socket
        raises.
        """
        try:
            line = read_request_line(self._reader)
            if line is None:
                return
            self.command, self.path, self.request_version = line
            self._header = read_header(self._reader)
            check_header(self._header, self.request_version)
            if self._identify():
                self.run_wsgi()
        except RequestError as error:
            self._refuse(error.status, error.reason)

    def _refuse(self, status: int, reason: str = "") -> None:
        phrase = HTTPStatus(status).phrase
        self.send_error(status, f"{phrase}: {reason}" if reason else phrase)
        if status == 431:
            # This client is probably still sending. If the socket were closed with unread input,
            # the system would reset the connection, and the client might lose the answer.
            while self._reader.read1():
                pass

    def _identify(self) -> bool:
        """Replace a trusted proxy's address by its client's; False if the client was refused."""
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
        """The environ of the request (PEP 3333), with the keys that Werkzeug adds.

        Werkzeug's own method needs time that is quadratic in the number of headers with the same
        name, and urlsplit keeps the last targets in a cache.
        """
        host, path, query = parse_target(self.path)
        # In Werkzeug's encoding. For ASCII that is the same, and a copy could be a megabyte.
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
                continue  # it would have the key of the header with "-"
            key = name.upper().replace("-", "_")
            if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                environ[key] = values[-1]
            else:
                environ[f"HTTP_{key}"] = ",".join(values)
        if host:  # it replaces the Host header (RFC 9112, section 3.2.2)
            environ["HTTP_HOST"] = host
        if _CHUNKED.search(environ.get("HTTP_TRANSFER_ENCODING", "")):
            environ["wsgi.input_terminated"] = True
            environ["wsgi.input"] = DechunkedInput(self._reader)
        return environ

    def left(self) -> Hijacker:
        """The Hijacker, with what is to be done after the request. Ends the use of the handler."""
        # After an exception in the application the handler is in a cycle, and stays for a while.
        self.environ = {}
        self._header = {}
        return self.hijacker

    def version_string(self) -> str:
        return "gochat"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002
        """Log nothing. http.server calls this when the response begins."""
        self._reader.answered()

    def log_error(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Log nothing: the client of a malformed request gets an answer, and that is enough."""


def hijackable(application: WSGIApplication) -> WSGIApplication:
    """Wrap an application so that Werkzeug writes no more than net/http does.

    Werkzeug would write a response to a connection that was taken over, and the body of a response
    to HEAD.
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
            raise ConnectionAbortedError("hijacked")  # Werkzeug ends without a word
        if environ["REQUEST_METHOD"] == "HEAD":
            getattr(response, "close", lambda: None)()
            return []
        return response

    return app

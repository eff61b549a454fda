"""One connection, on its own thread: its request and its response (Go: conn.serve)."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from http.client import HTTPMessage
from itertools import chain, islice
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final

from werkzeug.serving import DechunkedInput, WSGIRequestHandler, connection_dropped_errors
from werkzeug.wsgi import ClosingIterator

from . import request
from .address import join_host_port, unmapped
from .connection import KEY, Hijacker, ServerConn, UnavailableError
from .reader import RequestReader
from .response import error

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .server import Server

__all__ = ["Handler", "hijackable"]

# The modules that read from a client's connection and write to it.
_READS_AND_WRITES: Final = (RequestReader.__module__, WSGIRequestHandler.__module__)

# The text of the exception that replaces one that Werkzeug would not log: see `_is_own`.
_OWN: Final = "the application's own connection has failed"

# The token `chunked` in a Transfer-Encoding, which is a list of tokens.
_CHUNKED: Final = re.compile(r"(?:^|,)[ \t]*chunked[ \t]*(?:,|$)", re.I)


class Handler(WSGIRequestHandler):
    """Reads and answers the only request of a connection, on the connection's thread."""

    disable_nagle_algorithm = True
    rbufsize = 0  # `setup` replaces the file for reading, so it needs no buffer
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    server: Server

    # The attributes that http.server's send_error needs, before the request line has been read.
    command = ""
    request_version = "HTTP/1.1"

    # Always empty. Werkzeug looks for Expect in it and would send "100 Continue"; the client would
    # then send a body that no application here reads.
    headers = HTTPMessage()

    def __init__(self, accepted: ServerConn, server: Server) -> None:
        self._accepted = accepted
        super().__init__(accepted.sock, accepted.address, server)

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        deadline = time.monotonic() + self.server.read_header_timeout
        self.rfile = self._reader = RequestReader(self.connection, deadline)
        self._header: request.Header = {}

    def handle_one_request(self) -> None:
        """Read the request, and let the application answer it, or refuse the request.

        Does nothing for a client that sends nothing at all. Raises what reading from a socket
        raises.
        """
        try:
            line = request.read_request_line(self._reader)
            if line is None:
                return
            self.command, self.path, self.request_version = line
            if self.request_version == "HTTP/1.0":
                # As in net/http, the answer is in HTTP/1.0. It must not be chunked (RFC 9112,
                # section 6.1), so it ends when the connection is closed.
                self.protocol_version = "HTTP/1.0"
            self._header = request.read_header(self._reader)
            request.check_header(self._header, self.request_version)
            if self._identify():
                self.run_wsgi()
        except request.RequestError as error:
            self._refuse(error.status, error.reason)

    def _refuse(self, status: int, reason: str = "") -> None:
        phrase = HTTPStatus(status).phrase
        self.send_error(status, f"{phrase}: {reason}" if reason else phrase)
        if status == 431:
            # The client is probably still sending. If the socket were closed with unread input, the
            # system would reset the connection, and the client might not get the answer.
            while self._reader.read1():
                pass

    def _identify(self) -> bool:
        """Find out who the client is, and count the request; return False if it was refused.

        A trusted proxy's address is replaced by the address of the proxy's client.
        """
        peer, port = self.client_address[:2]
        admission = self.server.admission
        client = unmapped(peer)
        if admission.trusts(client):
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
        """Return the environ of the request (PEP 3333), with the keys that Werkzeug adds.

        Werkzeug's own method takes quadratic time if many headers have the same name, and urlsplit
        keeps recent targets in a cache.
        """
        host, path, query = request.parse_target(self.path)
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
            "REQUEST_URI": self.path,
            "RAW_URI": self.path,
            "REMOTE_ADDR": unmapped(self.client_address[0]),
            "REMOTE_PORT": self.client_address[1],
            "SERVER_NAME": self.server.server_address[0],
            "SERVER_PORT": str(self.server.server_address[1]),
            "SERVER_PROTOCOL": self.request_version,
            KEY: self._hijacker(),
        }
        for name, values in self._header.items():
            if "_" in name:
                continue  # it would get the same key as the header with "-"
            key = name.upper().replace("-", "_")
            if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                environ[key] = values[-1]
            else:
                environ[f"HTTP_{key}"] = ",".join(values)
        if host:  # the target's host replaces the Host header (RFC 9112, section 3.2.2)
            environ["HTTP_HOST"] = host
        if _CHUNKED.search(environ.get("HTTP_TRANSFER_ENCODING", "")):
            environ["wsgi.input_terminated"] = True
            environ["wsgi.input"] = DechunkedInput(self._reader)
        return environ

    def _hijacker(self) -> Hijacker:
        made = self._accepted.hijacker = Hijacker(
            self.connection, self._reader.take, self.server.hire, self.server.failed
        )
        return made

    def clear(self) -> None:
        """Drop the request, because after an exception the handler may be in a reference cycle."""
        self.environ = {}
        self._header = {}

    def version_string(self) -> str:
        return "gochat"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002
        """Tell the reader that the response begins, and log nothing."""
        self._reader.answered()

    def log_error(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Log nothing, because the answer tells the client what is malformed."""


def hijackable(application: WSGIApplication) -> WSGIApplication:
    """Wrap an application so that Werkzeug writes no more than net/http does.

    Werkzeug would write a response to a connection that was taken over, and the body of a response
    to HEAD. An application such as a generator does its work only when its response is iterated, so
    the first piece is taken here. If Werkzeug got a response to iterate, it would also read from
    the connection at the end, which takes a descriptor.
    """

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        connection: Hijacker = environ[KEY]
        head = environ["REQUEST_METHOD"] == "HEAD"

        def start(*args: Any) -> Callable[[bytes], object]:
            write = start_response(*args)
            return (lambda _: write(b"")) if head else write

        try:
            response = application(environ, start)
            close: Callable[[], None] = getattr(response, "close", _do_nothing)
            try:
                pieces = _pieces(response)
                first = tuple(islice(pieces, 1))
                if not connection.hijacked and not head:
                    closing, close = close, _do_nothing
                    return ClosingIterator(chain(first, pieces), [closing])
            finally:
                close()
        except BaseException as failure:  # SystemExit would end this thread silently
            if connection.hijacked:
                connection.fail(failure)
            elif isinstance(failure, UnavailableError):
                # Passes the exception, because the application may have begun a response. If that
                # response has been sent, this raises the exception again.
                def replace(status: str, headers: Any, _: object = None) -> Any:
                    return start_response(status, headers, sys.exc_info())

                body = error(replace, "Service Unavailable", 503)
                return () if head else body
            elif _is_own(failure):
                raise RuntimeError(_OWN) from failure
            else:
                raise
        if connection.hijacked:
            raise ConnectionAbortedError("hijacked")  # Werkzeug ends silently
        return ()

    return app


def _do_nothing() -> None:
    pass


def _pieces(response: Iterable[bytes]) -> Iterator[bytes]:
    try:
        for piece in response:  # noqa: UP028 - `yield from` would close the response twice
            yield piece
    except Exception as failure:
        if _is_own(failure):
            raise RuntimeError(_OWN) from failure
        raise


def _is_own(failure: BaseException) -> bool:
    """Return whether the application's own connection, such as one to a database, has failed.

    Werkzeug attributes every ConnectionError and TimeoutError to the client and drops the error.
    """
    return isinstance(failure, connection_dropped_errors) and not any(
        frame.f_globals["__name__"] in _READS_AND_WRITES
        for frame, _ in walk_tb(failure.__traceback__)
    )

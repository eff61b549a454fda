"""Handles a connection's request (Go: conn.serve)."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from functools import partial
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

# The modules that read from and write to a client's connection; see `_is_own`.
_READS_AND_WRITES: Final = (RequestReader.__module__, WSGIRequestHandler.__module__)

# Follows the last piece of a response; see `_pieces`.
_END: Final = object()

# Matches the token `chunked` in a Transfer-Encoding header, which is a list of tokens.
_CHUNKED: Final = re.compile(r"(?:^|,)[ \t]*chunked[ \t]*(?:,|$)", re.I)


class Handler(WSGIRequestHandler):
    """Reads and answers a connection's only request, on the connection's thread."""

    disable_nagle_algorithm = True
    rbufsize = 0  # no buffer, because `setup` replaces rfile
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    server: Server

    # http.server's send_error needs these even if the request line could not be read.
    command = ""
    request_version = "HTTP/1.1"

    # Always empty, to hide an Expect header from Werkzeug. Werkzeug would answer "100 Continue",
    # and the client would send a body that no application here reads.
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
        """Read the request, and either refuse it or let the application answer it.

        Does nothing if the client closes the connection without sending a request. Raises the
        exceptions of the reader.
        """
        try:
            line = request.read_request_line(self._reader)
            if line is None:
                return
            self.command, self.path, self.request_version = line
            if self.request_version == "HTTP/1.0":
                # Answer with HTTP/1.0, as net/http does. The answer must not be chunked (RFC 9112,
                # section 6.1).
                self.protocol_version = "HTTP/1.0"
            self._header = request.read_header(self._reader)
            request.check_header(self._header, self.request_version)
            self._identify()
            self.run_wsgi()
        except request.RequestError as error:
            phrase = HTTPStatus(error.status).phrase
            self.send_error(error.status, f"{phrase}: {error.reason}" if error.reason else phrase)
            if error.status == 431:
                # If the rest of the header were left unread, closing the socket could reset the
                # connection before the client gets the answer.
                while self._reader.read1():
                    pass

    def _identify(self) -> None:
        """Determine the client's address and count the request.

        For a request from a trusted proxy, `client_address` becomes that of the proxy's client.
        Raises RequestError if the request is refused.
        """
        peer, port = self.client_address[:2]
        admission = self.server.admission
        client = unmapped(peer)
        if admission.trusts(client):
            client = admission.forwarded_for(self._header.get("x-forwarded-for", []))
            if not client:
                return
            self.client_address = (client, port)
            threading.current_thread().name = f"serve {join_host_port(client, port)}"
        refusal = admission.count(self.connection, client)
        if refusal is not None:
            admission.refused(refusal)
            raise request.RequestError(503)

    def make_environ(self) -> WSGIEnvironment:
        """Return the environ of the request (PEP 3333), with Werkzeug's additional keys.

        Replaces Werkzeug's method, which takes quadratic time if many headers have the same name,
        and which keeps recent targets in urlsplit's cache.
        """
        host, path, query = request.parse_target(self.path)
        self._accepted.hijacker = Hijacker(
            self.connection, self._reader.take, self.server.hire, self.server.failed
        )
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
            KEY: self._accepted.hijacker,
        }
        for name, values in self._header.items():
            if "_" in name:
                continue  # its key would be the same as that of a header with "-"
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

    def clear(self) -> None:
        """Drop the request, in case an exception has left the handler in a reference cycle."""
        self.environ = {}
        self._header = {}

    def version_string(self) -> str:
        return "gochat"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002
        """Tell the reader that the response begins. Log nothing."""
        self._reader.answered()

    def log_error(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Log nothing. The answer already says what is wrong with the request."""


def hijackable(application: WSGIApplication) -> WSGIApplication:
    """Wrap an application so that Werkzeug writes nothing that net/http would not write.

    Werkzeug would write a response to a connection that was taken over, and would then read from
    the connection through another descriptor. It would also write the body of a response to HEAD.

    The wrapper takes the first piece of the response immediately. If the application is a
    generator, it runs, and may take the connection over, only when its response is iterated.
    """

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        generator = _pieces(application, environ, start_response)
        pieces = iter(partial(next, generator), _END)
        first = tuple(islice(pieces, 1))
        return ClosingIterator(chain(first, pieces), [generator.close])

    return app


def _pieces(
    application: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
) -> Generator[Any, None, None]:
    """Yield the pieces of a response, then `_END`. After that, `close` closes the response.

    Raises only exceptions that Werkzeug handles correctly.
    """
    connection: Hijacker = environ[KEY]
    head = environ["REQUEST_METHOD"] == "HEAD"

    def start(*args: Any) -> Callable[[bytes], object]:
        write = start_response(*args)
        return (lambda _: write(b"")) if head else write

    try:
        response = application(environ, start)
        try:
            for piece in response:
                if connection.hijacked or head:
                    break
                yield piece
            if not (connection.hijacked or head):
                # Closing the response may take long or fail, so Werkzeug first sends its end.
                yield _END
        finally:
            if hasattr(response, "close"):
                response.close()
    except BaseException as failure:  # SystemExit would end this thread silently
        if connection.hijacked:
            connection.fail(failure)
        elif isinstance(failure, UnavailableError):
            # The application may already have begun a response. If start_response gets the
            # exception, it replaces that response, or raises the exception if the response was
            # already sent.
            def replace(status: str, headers: Any, _: object = None) -> Any:
                return start_response(status, headers, sys.exc_info())

            body = error(replace, "Service Unavailable", 503)
            yield from () if head else body
        elif _is_own(failure):
            raise RuntimeError("the application's own connection has failed") from failure
        else:
            raise
    if connection.hijacked:
        raise ConnectionAbortedError("hijacked")  # Werkzeug ignores it, and writes nothing


def _is_own(failure: BaseException) -> bool:
    """Return whether an error comes from a connection of the application, such as to a database.

    Werkzeug would not log such an error. It takes every ConnectionError or TimeoutError as a sign
    that the client has disconnected.
    """
    return isinstance(failure, connection_dropped_errors) and not any(
        frame.f_globals["__name__"] in _READS_AND_WRITES
        for frame, _ in walk_tb(failure.__traceback__)
    )

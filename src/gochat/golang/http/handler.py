"""One connection, on its own thread: a request, its answer, and what goes on behind it.

A handler may take its connection over from the server, and go on with it when the request is done
and forgotten, on this thread and on others. That is what `http.Hijacker` and the go statement do in
Go; here it is the `Hijacker` in the WSGI environ.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from werkzeug.serving import WSGIRequestHandler

from .address import join_host_port, unmapped
from .request import CONTROL, HOST, LENGTH, LineReader, RequestReader, is_target

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .server import Server

__all__ = ["Handler", "Hijacker", "hijackable", "hijacker"]

log = logging.getLogger("gochat")

_KEY: Final = "gochat.hijacker"


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
    default_request_version = "HTTP/1.1"  # of a request line without: not HTTP/0.9, with no status
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        deadline = time.monotonic() + self.server.read_header_timeout
        self._request = RequestReader(self.connection, deadline)
        self.rfile = self._lines = LineReader(self._request)
        self.hijacker = Hijacker(self.connection, self._lines.take)

    def parse_request(self) -> bool:
        """Refuse what net/http refuses, too, and http.server takes."""
        if not super().parse_request():
            if not self._request.answered:  # a blank line, which http.server just leaves
                self.send_error(400)
            return False
        hosts = self.headers.get_all("Host", [])
        lengths = self.headers.get_all("Content-Length", [])
        if self.request_version not in ("HTTP/1.0", "HTTP/1.1"):
            self.send_error(505)
        elif len(hosts) > 1 or (not hosts and self.request_version == "HTTP/1.1"):
            self._bad_request("not one Host header")
        elif not all(map(HOST.fullmatch, hosts)):
            self._bad_request("malformed Host header")
        elif not all(map(LENGTH.fullmatch, lengths)) or len(set(lengths)) > 1:
            self._bad_request("malformed Content-Length header")
        elif (
            self.headers.defects
            or self._lines.stray_cr
            or any(map(CONTROL.search, self.headers.values()))
        ):
            self._bad_request("malformed header")
        elif not is_target(self.path):
            self._bad_request("malformed target")
        else:
            del self.headers["Expect"]  # Werkzeug would say "100 Continue", to a body unread
            return self._identify()
        return False

    def _bad_request(self, why: str) -> None:
        super().send_error(400, f"Bad Request: {why}")

    def send_error(
        self,
        code: int,
        message: str | None = None,  # noqa: ARG002
        explain: str | None = None,  # noqa: ARG002
    ) -> None:
        """Say no more than the code does: http.server's own messages have the request in them."""
        self.request_version = self.default_request_version  # HTTP/0.9 would get no status
        super().send_error(code)

    def _identify(self) -> bool:
        """Go by the client's address, and not by its proxy's; False if it has been refused."""
        peer, port = self.client_address[:2]
        admission = self.server.admission
        if not admission.trusts(unmapped(peer)):
            return True
        client = admission.forwarded_for(self.headers.get_all("X-Forwarded-For", []))
        if not client:
            return True
        self.client_address = (client, port)
        threading.current_thread().name = f"serve {join_host_port(client, port)}"
        refusal = admission.count(self.connection, client)
        if refusal is not None:
            admission.refused(refusal)
            self.send_error(503)
        return refusal is None

    def handle_expect_100(self) -> bool:
        """Nobody here reads a body, so nobody is asked for it."""
        return True

    def make_environ(self) -> WSGIEnvironment:
        environ = super().make_environ()
        environ["REMOTE_ADDR"] = unmapped(environ["REMOTE_ADDR"])
        # "#" is a character of the path, as in net/http: no client sends a fragment.
        _, sharp, fragment = self.path.partition("?")[0].partition("#")
        environ["PATH_INFO"] += sharp + unquote(fragment, "latin-1")
        environ[_KEY] = self.hijacker
        return environ

    def left(self) -> Hijacker:
        """What is not over when the request is. The handler is of no more use after this."""
        self.environ = {}  # it refers back here, and would keep all of this from going at once
        return self.hijacker

    def version_string(self) -> str:
        return "gochat"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002
        """No access lines. It is called when the answer begins."""
        self._request.answered = True

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

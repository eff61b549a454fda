"""The HTTP server: what Go has from net/http, on Werkzeug's threaded server.

Strategy: Werkzeug accepts, parses and answers, with a thread for each connection. This module adds
what a server needs that is open to the world, and that net/http has:

- It listens on what Go's addresses mean: `:8080` is every interface, IPv4 and IPv6.
- A request has to be there whole by a deadline, however slowly its bytes drip in.
- A handler may take its connection over from the server, and go on with it when the request is done
  and forgotten, on this thread and on others: `http.Hijacker` and the go statement, here the keys
  `gochat.hijack`, `gochat.go_on` and `gochat.go` of the WSGI environ.
- It can be told to stop, and then waits for what it serves, but not for ever.
- Behind a proxy that it trusts, a client goes by the address that the proxy gives. net/http leaves
  that to the handler.

Werkzeug's own words (its banner, its access lines) are not in the log.
"""

from __future__ import annotations

import errno
import io
import ipaddress
import logging
import math
import os
import re
import select
import selectors
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["Server", "listen"]

log = logging.getLogger("gochat")

# Connections that the system completes before they are accepted. It cuts this to its own limit.
_BACKLOG: Final = 4096

# How long to accept nothing when there is no descriptor for it, in seconds.
_ACCEPT_PAUSE: Final = 0.1

# What is requested: a path, or a whole address of http (RFC 9112, section 3.2). This is how it
# begins, and what may not be in it: a "%" in the path is followed by two digits. One pattern for
# all of it would take the time and the memory for a step back from each character.
_TARGET: Final = re.compile(
    r"/|https?://([^][/?#@%]+|\[(?P<literal>[0-9a-f:.]+)\](:\d+)?)(?![^/?#])", re.I
)
_NO_TARGET: Final = re.compile(r"[\0-\x20\x7f]")
_NO_PATH: Final = re.compile(r"%(?![0-9a-f]{2})", re.I)

# What a Host header may consist of: net/http's list. A Content-Length is a number (RFC 9110, 8.6).
_HOST: Final = re.compile(r"[A-Za-z0-9!$%&'()*+,\-.:;=\[\]_~]*")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")

# What no header's value may have in it (RFC 9110, section 5.5).
_CONTROL: Final = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")

# The answer to a connection that cannot be served.
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 20\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"Service Unavailable\n"
)

# Why a connection is not served: the keys of `Server.refusals`.
_REFUSAL_REASONS: Final = (
    "max_connections",
    "max_connections_per_address",
    "threads",
    "descriptors",
)

# How long to wait for more of a request that has been answered, in seconds.
_REST_WAIT: Final = 0.01

# The longest time to wait for at once, in seconds: the system cannot count to any.
_DAY: Final = 86400.0

# How long a thread whose socket was cut may take to come back, in seconds.
_CUT_WAIT: Final = 5.0


def listen(addr: str) -> socket.socket:
    """Open a listening TCP socket for an address as Go has it: `host:port`, `:port`, `[::1]:port`.

    An empty host is every interface, by IPv6 and IPv4 in one socket where the system has both. Port
    0, or none behind the colon, is a free one. A port is a number; Go knows names of services, too.
    A name that has several addresses is listened on at one, preferably IPv4.

    Raises ValueError for what is no address, OSError if it cannot be listened on; both with a text
    that names it.
    """
    host, port = _split_host_port(addr)
    try:
        if host:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
            return socket.create_server(address, family=family, backlog=_BACKLOG)
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        return socket.create_server(("", port), backlog=_BACKLOG)  # pragma: no cover - no IPv6
    except UnicodeError as error:
        raise ValueError(f"listen tcp {addr}: no such host") from error
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise OSError(error.errno, f"listen tcp {addr}: {reason}") from error


def _split_host_port(addr: str) -> tuple[str, int]:
    host, colon, port = addr.rpartition(":")
    port = port or "0"
    if not colon or not (port.isascii() and port.isdigit()) or not addr.isprintable():
        raise ValueError(f"address {addr!r} is not host:port, as in :8080 or localhost:8080")
    if len(port) > 5 or int(port) > 65535:
        raise ValueError(f"address {addr!r}: the port is over 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif _is_ipv6(host):
        raise ValueError(f"address {addr!r}: an IPv6 address is written [{host}]:{port}")
    if any(char in host for char in "[]") or (":" in host and not _is_ipv6(host)):
        raise ValueError(f"address {addr!r} is not host:port, as in :8080 or [::1]:8080")
    return host, int(port)


def _is_ipv6(host: str) -> bool:
    with suppress(ValueError):
        return bool(ipaddress.IPv6Address(host))
    return False


class Server(ThreadedWSGIServer):
    """Serves a WSGI application at an address, one thread for each connection.

    addr: where to listen, see `listen`; or a socket that listens, which is closed here.
    read_header_timeout: how long a client may take over its request, in seconds, from the moment
        that it was accepted. net/http's ReadHeaderTimeout.

    max_connections: how many it serves at the same time; what comes beyond gets 503. None for no
        limit but that of the system: out of threads it answers 503 as well, out of descriptors too.
    max_connections_per_address: the same, of those from one IP address.
    trusted_proxies: networks of proxies. For a request from there the client's address is the last
        in X-Forwarded-For that is in none of them, and connections count for that one, as soon as
        the request is read. If there is none, or the header is malformed, it is the proxy's, and
        does not count.
    on_close: what to call with the socket of each connection that has ended, refused ones too, on
        the thread that has served it, when no other uses it any more, before it is closed.

    Raises what `listen` raises.
    """

    daemon_threads = True  # the process does not wait for them at its end; `shutdown` has

    def __init__(
        self,
        addr: str | socket.socket,
        application: WSGIApplication,
        *,
        read_header_timeout: float,
        max_connections: int | None = None,
        max_connections_per_address: int | None = None,
        trusted_proxies: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = (),
        on_close: Callable[[socket.socket], object] | None = None,
    ) -> None:
        self.read_header_timeout: Final = read_header_timeout
        self.max_connections: Final = max_connections
        self.max_connections_per_address: Final = max_connections_per_address
        self.trusted_proxies: Final = tuple(trusted_proxies)
        self._on_close: Final = on_close
        #: How many connections it has refused with 503, by reason. Written under _lock; any
        #: thread may read it, as no key comes or goes.
        self.refusals: Final = dict.fromkeys(_REFUSAL_REASONS, 0)
        # A descriptor to give away when there is no other, so that a connection can be refused.
        self._spare: IO[bytes] = open(os.devnull, "rb")  # noqa: SIM115
        # When a refusal was last logged, on the monotonic clock. Two threads at once log two lines.
        self._refused_at = -math.inf
        # Guards _serving, _addresses and refusals.
        self._lock = threading.Lock()
        # The accepted connections, and the thread that serves each, from accept to close.
        self._serving: dict[socket.socket, threading.Thread] = {}
        # How many of them each address has, if that is limited; and which one is whose.
        self._addresses: Counter[str] = Counter()
        self._address_of: dict[socket.socket, str] = {}
        # A byte written to the one end wakes serve_forever at the other, which then looks whether
        # it is to end. Writing never blocks, as a signal may be what writes.
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._ending = False

        try:
            with listen(addr) if isinstance(addr, str) else addr as listener:
                host = listener.getsockname()[0]
                super().__init__(
                    host, 0, _hijackable(application), handler=_Handler, fd=listener.fileno()
                )
        except BaseException:
            self._close_own()
            raise

    @property
    def addr(self) -> str:
        """The address in use, as `host:port`."""
        host, port = self.server_address[:2]
        return _join_host_port(str(host), port)

    @property
    def url(self) -> str:
        """Where to point a browser that runs on this machine."""
        host, port = self.server_address[:2]
        return f"http://localhost:{port}/" if host in ("::", "0.0.0.0") else f"http://{self.addr}/"

    def serve_forever(self, poll_interval: float = 0.5) -> None:  # noqa: ARG002 - nothing is polled
        """Accept connections until `stop` is called, then listen no more. One thread, once."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._ending:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._woken in ready:
                    self._woken.recv(4096)
                if self.socket in ready and not self._ending:
                    self._handle_request_noblock()  # type: ignore[attr-defined]
        self.server_close()

    @property
    def wakeup_fd(self) -> int:
        """For `signal.set_wakeup_fd`, until `shutdown`.

        Python runs a signal's handler on the main thread when that comes back from what it waits
        for. A signal that comes just before it waits, or to another thread, does not make it.
        """
        return self._wake.fileno()

    def stop(self) -> None:
        """Make `serve_forever` return. Any thread, or a signal handler; more than once is once."""
        self._ending = True
        with suppress(OSError):  # so full of signals that it wakes anyway
            self._wake.send(b"\0")

    def shutdown(self, timeout: float = 0.0) -> None:
        """Wait until all that is being served has ended, and cut what has not by the timeout.

        After `serve_forever` has returned. timeout: in seconds.
        """
        self._join(time.monotonic() + timeout)
        with self._lock:
            serving = list(self._serving)
        for request in serving:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        self._join(time.monotonic() + _CUT_WAIT)
        self._close_own()

    def _close_own(self) -> None:
        self._woken.close()
        self._wake.close()
        self._spare.close()

    def _join(self, deadline: float) -> None:
        with self._lock:
            threads = list(self._serving.values())
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # What socketserver and Werkzeug call.

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Raises OSError if there is none to be served."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._refuse_with_spare(str(error.strerror))
            elif error.errno in (errno.ENOBUFS, errno.ENOMEM):
                self._pause()
            raise

    def _refuse_with_spare(self, reason: str) -> None:
        """Out of descriptors: refuse the next in the queue, who would wait in it for ever."""
        self._spare.close()
        try:
            request, _ = self.socket.accept()
        except OSError:
            self._log_now_and_then("http: no connection can be accepted: %s", reason)
        else:
            self._refuse(request)
            request.close()
            self.log_refusal("descriptors", reason)
        with suppress(OSError):
            self._spare = open(os.devnull, "rb")  # noqa: SIM115
        if self._spare.closed:  # somebody else took it
            self._pause()

    def _pause(self) -> None:
        """Let some connections end before the next one is accepted."""
        select.select([self._woken], [], [], _ACCEPT_PAUSE)

    def _refuse(self, request: socket.socket) -> None:
        """Answer 503 to a connection that is not served."""
        with suppress(OSError):
            request.send(_REFUSAL, socket.MSG_DONTWAIT)
            request.shutdown(socket.SHUT_WR)
            # To close with input unread is a reset, which may overtake the answer.
            request.recv(65536, socket.MSG_DONTWAIT)

    def log_refusal(self, reason: str, text: str) -> None:
        """Count a connection that was refused, and say why; not for every one of many.

        reason: a key of `refusals`. Any thread.
        """
        with self._lock:
            self.refusals[reason] += 1
        self._log_now_and_then("http: refused a connection (503): %s", text)

    def _log_now_and_then(self, message: str, text: str) -> None:
        if time.monotonic() - self._refused_at >= 1.0:
            self._refused_at = time.monotonic()
            log.info(message, text)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread of its own; the thread ends when it has been served."""
        excess = self._excess(request, _unmapped(client_address[0]))
        if excess:
            reason, text = excess
            self._refuse(request)
            self.shutdown_request(request)
            self.log_refusal(reason, text)
            return
        name = f"serve {_join_host_port(*client_address[:2])}"
        args = (request, client_address)
        thread = threading.Thread(
            target=self.process_request_thread, args=args, name=name, daemon=True
        )
        with self._lock:
            self._serving[request] = thread
        try:
            thread.start()
        except RuntimeError as error:
            self._refuse(request)
            self.shutdown_request(request)
            self.log_refusal("threads", str(error))

    def _excess(self, request: socket.socket, address: str) -> tuple[str, str] | None:
        """Why the connection is one too many, if it is: the reason, and a text that says so.

        Otherwise it is counted.
        """
        with self._lock:
            if self.max_connections is not None and len(self._serving) >= self.max_connections:
                return "max_connections", f"{self.max_connections} are being served"
        # Whom a proxy stands for is known when the request is read.
        return None if self.trusts(address) else self.count(request, address)

    def count(self, request: socket.socket, address: str) -> tuple[str, str] | None:
        """Count a connection for its address, or say why it is one too many, as `_excess` does."""
        limit = self.max_connections_per_address
        if limit is not None:
            with self._lock:
                if self._addresses[address] >= limit:
                    text = f"{limit} of {address} are being served"
                    return "max_connections_per_address", text
                self._addresses[address] += 1
                self._address_of[request] = address
        return None

    def trusts(self, address: str) -> bool:
        """Whether this is the address of a proxy that is believed."""
        ip = ipaddress.ip_address(address.partition("%")[0])
        return any(ip in network for network in self.trusted_proxies)

    def forwarded_for(self, headers: Iterable[str]) -> str:
        """The client's address in X-Forwarded-For of a trusted proxy; empty if there is none.

        Each proxy adds the address of its own client at the end. What is before the first address
        that is no proxy's was sent by that client, who may write what he likes.
        """
        for entry in reversed(",".join(headers).split(",")):
            try:
                # A zone may be any text, and means nothing on another machine.
                address = _unmapped(str(ipaddress.ip_address(entry.partition("%")[0].strip(" \t"))))
            except ValueError:
                break
            if not self.trusts(address):
                return address
        return ""

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection: its request, and then what the handler has left to be done."""
        # The handler, with all that is known of the request, is gone before that.
        threads, go_on = _Handler(request, client_address, self).left()
        try:
            go_on()
        finally:
            for thread in threads:
                thread.join()

    def close_request(self, request: Any) -> None:
        """Close a connection: the only place where its descriptor is given back."""
        if self._on_close is not None:
            self._on_close(request)
        with self._lock:
            self._serving.pop(request, None)
            address = self._address_of.pop(request, None)
            if address is not None:
                self._addresses[address] -= 1
                if self._addresses[address] == 0:
                    del self._addresses[address]
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """An exception that no handler has caught."""
        if not self._is_short_of_descriptors():
            log.exception("http: %s failed", threading.current_thread().name)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - Werkzeug's name
        """What Werkzeug has to say: "error" is an exception in the application, or its own."""
        if not self._is_short_of_descriptors():
            log.log(logging.ERROR if type == "error" else logging.DEBUG, message, *args)

    def _is_short_of_descriptors(self) -> bool:
        """Whether that is what the current exception says; then it is worth a line."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            name = threading.current_thread().name
            self._log_now_and_then("http: %s", f"{name}: {error.strerror}")
            return True
        return False


class _Handler(WSGIRequestHandler):
    """One connection, on its own thread: one request, and its answer."""

    disable_nagle_algorithm = True
    default_request_version = "HTTP/1.1"  # of a request line without: not HTTP/0.9, with no status
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    server: Server

    def setup(self) -> None:
        super().setup()
        # What the handler has started, and what it has left to be done on this thread.
        self._threads: list[threading.Thread] = []
        self._go_on: Callable[[], object] = lambda: None
        self.rfile.close()
        deadline = time.monotonic() + self.server.read_header_timeout
        self._request = _RequestReader(self.connection, deadline)
        self.rfile = self._lines = _LineReader(self._request)

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
        elif not all(map(_HOST.fullmatch, hosts)):
            self._bad_request("malformed Host header")
        elif not all(map(_LENGTH.fullmatch, lengths)) or len(set(lengths)) > 1:
            self._bad_request("malformed Content-Length header")
        elif (
            self.headers.defects
            or self._lines.stray_cr
            or any(map(_CONTROL.search, self.headers.values()))
        ):
            self._bad_request("malformed header")
        elif not _is_target(self.path):
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
        if not self.server.trusts(_unmapped(peer)):
            return True
        client = self.server.forwarded_for(self.headers.get_all("X-Forwarded-For", []))
        if not client:
            return True
        self.client_address = (client, port)
        threading.current_thread().name = f"serve {_join_host_port(client, port)}"
        excess = self.server.count(self.connection, client)
        if excess:
            self.server.log_refusal(*excess)
            self.send_error(503)
        return excess is None

    def handle_expect_100(self) -> bool:
        """Nobody here reads a body, so nobody is asked for it."""
        return True

    def make_environ(self) -> WSGIEnvironment:
        environ = super().make_environ()
        environ["REMOTE_ADDR"] = _unmapped(environ["REMOTE_ADDR"])
        # "#" is a character of the path, as in net/http: no client sends a fragment.
        _, sharp, fragment = self.path.partition("?")[0].partition("#")
        environ["PATH_INFO"] += sharp + unquote(fragment, "latin-1")
        environ["gochat.hijack"] = self._hijack
        environ["gochat.go"] = self._start
        environ["gochat.go_on"] = self._start_here
        return environ

    def _start(self, function: Callable[[], object], name: str) -> None:
        """Call it on a new thread; the connection is not closed before it has returned.

        Raises RuntimeError if the system has no more threads.
        """
        thread = threading.Thread(target=function, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _start_here(self, function: Callable[[], object], name: str) -> None:
        """Call it on this thread, which gets the name, when the request is over."""

        def go_on() -> None:
            threading.current_thread().name = name
            function()

        self._go_on = go_on

    def left(self) -> tuple[list[threading.Thread], Callable[[], object]]:
        """What is not over when the request is. The handler is of no more use then."""
        self.environ = {}  # what it has of the handler would keep all of it from going at once
        return self._threads, self._go_on

    def _hijack(self) -> tuple[socket.socket, bytes]:
        """The connection, and what was read of it behind the request."""
        self.close_connection = True
        self.environ["gochat.hijacked"] = True
        self._request.ended = True
        buffered = self.rfile.read()
        self.connection.settimeout(None)
        return self.connection, buffered

    def version_string(self) -> str:
        return "gochat"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:  # noqa: ARG002
        """No access lines. It is called when the answer begins."""
        self._request.answered = True

    def log_error(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """No line for a request that could not be read: its sender has been told."""


class _LineReader(io.BufferedReader):
    """Notices a CR that is not at the end of a line.

    The parser of the headers takes it for one all the same, and what is behind it for a header,
    which to a proxy was part of a value.
    """

    stray_cr = False

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if b"\r" in line[:-2]:
            self.stray_cr = True
        return line


class _RequestReader(io.RawIOBase):
    """What the client sends, until a deadline for all of it.

    A timeout of the socket alone would be moved on by every byte.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        #: Set when there is nothing more to be read here.
        self.ended = False
        #: Set when the answer begins: what is left of the request is thrown away, and not awaited.
        self.answered = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        timeout = self._deadline - time.monotonic()
        if self.ended or (self.answered and timeout <= 0):
            return 0
        if timeout <= 0:
            raise TimeoutError("the request took too long")
        self._sock.settimeout(min(timeout, _REST_WAIT if self.answered else _DAY))
        try:
            return self._sock.recv_into(buffer)
        except OSError:  # also a reset: Werkzeug would lose its selector
            if not self.answered:
                raise
            return 0


def _hijackable(application: WSGIApplication) -> WSGIApplication:
    """Keep Werkzeug from writing what net/http does not write either, whatever the handler returns:

    a response into a connection that was taken over, and a body to who asks for HEAD.
    """

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            response = application(environ, start_response)
        except Exception as error:
            if "gochat.hijacked" not in environ:
                raise
            if isinstance(error, OSError):
                log.info("http: %s: %s", threading.current_thread().name, error)
            else:
                log.exception("http: %s failed", threading.current_thread().name)
        if "gochat.hijacked" in environ:
            raise ConnectionAbortedError("hijacked")  # Werkzeug's quiet way out
        if environ["REQUEST_METHOD"] == "HEAD":
            getattr(response, "close", lambda: None)()
            return []
        return response

    return app


def _is_target(target: str) -> bool:
    """Whether it can be taken apart as the target of a request."""
    found = _TARGET.match(target)
    if not found or _NO_TARGET.search(target) or _NO_PATH.search(target.partition("?")[0]):
        return False
    # From 3.11.4 on Python's parser raises ValueError for what else is between the brackets.
    literal = found["literal"]
    return literal is None or _is_ipv6(literal)


def _unmapped(host: str) -> str:
    """The IPv4 address of a client that came by IPv4 to a socket for both."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return host


def _join_host_port(host: str, port: int) -> str:
    host = _unmapped(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

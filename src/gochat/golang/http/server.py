"""The server: it accepts, starts a thread for each connection, and ends in order (Go: http.Server).

Strategy: Werkzeug accepts, parses and answers. This package adds what a server needs that is open
to the world, and that net/http has:

- It listens on what Go's addresses mean: `:8080` is every interface, IPv4 and IPv6.
- A request has to be there whole by a deadline, however slowly its bytes drip in.
- A handler may take its connection over: see `Hijacker`.
- `stop` and `shutdown` end it, and wait for what it serves, but not for ever.
- Behind a proxy that it trusts, a client goes by the address that the proxy gives. net/http leaves
  that to the handler.

Werkzeug's own words (its banner, its access lines) are not in the log.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import select
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Final

from werkzeug.serving import ThreadedWSGIServer

from .address import join_host_port, listen, unmapped
from .admission import Admission, Refusal
from .handler import Handler, hijackable

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Server"]

log = logging.getLogger("gochat")

# How long to accept nothing when there is no descriptor for it, in seconds.
_ACCEPT_PAUSE: Final = 0.1

# How long a thread whose socket was cut may take to come back, in seconds.
_CUT_WAIT: Final = 5.0


class Server(ThreadedWSGIServer):
    """Serves a WSGI application at an address, one thread for each connection.

    addr: where to listen, see `listen`; or a socket that listens, which is closed here.
    read_header_timeout: how long a client may take over its request, in seconds, from the moment
        that it was accepted. net/http's ReadHeaderTimeout.
    max_connections: how many connections are served at the same time; any beyond get 503. None for
        no limit but that of the system: out of threads or descriptors, the answer is 503 as well.
    max_connections_per_address: the same, of those from one IP address.
    trusted_proxies: networks of proxies. For a request from there the client's address is the last
        in X-Forwarded-For that is in none of them, and connections count for that address as soon
        as the request is read. If there is none, or the header is malformed, the client's address
        is the proxy's, and does not count.
    on_close: is called with the socket of each connection that has ended, refused ones too, on the
        thread that has served it, when no other uses it any more, before it is closed.

    Raises what `listen` raises.
    """

    daemon_threads = True  # the process does not wait for them at its end; `shutdown` has

    def __init__(
        self,
        addr: str | socket.socket,
        application: WSGIApplication,
        *,
        read_header_timeout: float = 3.0,
        max_connections: int | None = None,
        max_connections_per_address: int | None = None,
        trusted_proxies: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = (),
        on_close: Callable[[socket.socket], object] | None = None,
    ) -> None:
        self.read_header_timeout: Final = read_header_timeout
        #: Which connections are served, and how many were refused.
        self.admission: Final = Admission(
            max_connections, max_connections_per_address, trusted_proxies
        )
        self._on_close: Final = on_close
        # A descriptor to give away when there is no other, so that a connection can be refused.
        self._spare: IO[bytes] = open(os.devnull, "rb")  # noqa: SIM115
        # Guards _serving.
        self._lock = threading.Lock()
        # The accepted connections, and the thread that serves each, from accept to close.
        self._serving: dict[socket.socket, threading.Thread] = {}
        # The thread that `start` has started. For the thread that starts and shuts down.
        self._accepting: threading.Thread | None = None
        # A byte written to the one end wakes serve_forever at the other, which then looks whether
        # it is to end. Writing never blocks, because a signal handler may be what writes.
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._ending = False

        try:
            with listen(addr) if isinstance(addr, str) else addr as listener:
                host = listener.getsockname()[0]
                super().__init__(
                    host, 0, hijackable(application), handler=Handler, fd=listener.fileno()
                )
        except BaseException:
            self._close_own()
            raise

    @property
    def addr(self) -> str:
        """The address in use, as `host:port`."""
        return join_host_port(str(self.server_address[0]), self.port)

    @property
    def url(self) -> str:
        """Where to point a browser that runs on this machine."""
        if self.server_address[0] in ("::", "0.0.0.0"):
            return f"http://localhost:{self.port}/"
        return f"http://{self.addr}/"

    def start(self, name: str = "accept") -> None:
        """Accept connections on a new thread of this name, until `shutdown`. Once.

        Raises RuntimeError if the system has no more threads.
        """
        self._accepting = threading.Thread(target=self.serve_forever, name=name, daemon=True)
        self._accepting.start()

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
        """End: accept no more, wait until all that is being served has ended, and cut the rest.

        timeout: how long to wait, in seconds. On another thread than `serve_forever`, or when that
        has returned.
        """
        deadline = time.monotonic() + timeout
        self.stop()
        if self._accepting is not None and self._accepting.ident is not None:
            self._accepting.join()
        self.server_close()
        self._join(deadline)
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
            self.admission.log("http: no connection can be accepted: %s", reason)
        else:
            self.admission.refuse(request)
            request.close()
            self.admission.refused(Refusal("descriptors", reason))
        with suppress(OSError):
            self._spare = open(os.devnull, "rb")  # noqa: SIM115
        if self._spare.closed:  # somebody else took it
            self._pause()

    def _pause(self) -> None:
        """Let some connections end before the next one is accepted."""
        select.select([self._woken], [], [], _ACCEPT_PAUSE)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread of its own; the thread ends when it has been served."""
        refusal = self.admission.admit(request, unmapped(client_address[0]))
        if refusal is None:
            thread = threading.Thread(
                target=self.process_request_thread,
                args=(request, client_address),
                name=f"serve {join_host_port(*client_address[:2])}",
                daemon=True,
            )
            with self._lock:
                self._serving[request] = thread
            try:
                thread.start()
            except RuntimeError as error:
                refusal = Refusal("threads", str(error))
        if refusal is not None:
            self.admission.refuse(request)
            self.shutdown_request(request)
            self.admission.refused(refusal)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection: its request, and then what the handler has left to be done."""
        # The handler, with all that is known of the request, is gone before that.
        left = Handler(request, client_address, self).left()
        try:
            left.then()
        finally:
            for thread in left.threads:
                thread.join()

    def close_request(self, request: Any) -> None:
        """Close a connection: the only place where its descriptor is given back."""
        if self._on_close is not None:
            self._on_close(request)
        with self._lock:
            self._serving.pop(request, None)
        self.admission.release(request)
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
            self.admission.log("http: %s", f"{name}: {error.strerror}")
            return True
        return False

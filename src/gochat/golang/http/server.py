"""The server: accepts connections, serves each on a thread, and ends in order (Go: http.Server).

Werkzeug starts the threads, and writes the responses. This package adds what net/http has and a
public server needs:

- Addresses have their meaning in Go: `:8080` is every interface, with IPv4 and IPv6.
- A request is parsed strictly, and has to be complete by a deadline.
- An application can take a connection over: see `Hijacker`.
- `stop` and `shutdown` end the server. They wait for open connections, but not for ever.
- A trusted proxy names the address of its client. net/http leaves this to the handler.

Werkzeug's banner and access lines are not logged.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import select
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Final

from werkzeug.serving import ThreadedWSGIServer

from ..thread import Thread
from .address import join_host_port, listen, unmapped
from .admission import Admission, Refusal
from .handler import Handler, hijackable

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Server"]

log = logging.getLogger("gochat")

# How long to pause when a connection cannot be accepted, in seconds.
_ACCEPT_PAUSE: Final = 0.1

# How long a thread may take to end after its connection was cut, in seconds.
_CUT_WAIT: Final = 5.0


class Server(ThreadedWSGIServer):
    """Serves a WSGI application at an address, with one thread for each connection.

    addr: where to listen, see `listen`; or a listening socket, which the server takes over and
        closes.
    read_header_timeout: how long a client may take to send its request, in seconds from accepting
        the connection (Go: ReadHeaderTimeout).
    max_connections: how many connections are served at the same time; further ones are answered
        with 503. None for no limit except the system's: without threads or descriptors, the answer
        is 503, too.
    max_connections_per_address: the same limit for each client's IP address.
    trusted_proxies: networks of proxies. The client of such a proxy has the last address in
        X-Forwarded-For that is not in these networks, and its connection counts for that address
        once the request has been read. If there is no such address, or the header is malformed,
        the client's address is the proxy's, and there is no limit for it.
    on_close: called with the socket of each connection, also of a refused one, before the socket is
        closed. At this time no other thread uses the socket. It is called on the connection's
        thread; for a refused connection that has none, on the accepting thread.

    Raises what `listen` raises.
    """

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
        # A reserved descriptor. It is given up to refuse a connection when no other one is left.
        self._spare: IO[bytes] = open(os.devnull, "rb")  # noqa: SIM115
        # Guards _serving.
        self._lock = threading.Lock()
        # The open connections, each with its thread, from accepting to closing.
        self._serving: dict[socket.socket, threading.Thread] = {}
        # The thread that `start` made. Only for the thread that calls `start` and `shutdown`.
        self._accepting: threading.Thread | None = None
        # A byte that is written to _wake makes serve_forever check _ending. Writing never blocks,
        # because a signal handler may write.
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._ending = False
        # Held while a thread accepts: it uses the sockets, which are closed only behind that.
        self._accepts = threading.Lock()

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
        """The address where the server listens, as `host:port`."""
        return join_host_port(str(self.server_address[0]), self.port)

    @property
    def url(self) -> str:
        """The URL of the server for a browser on this machine."""
        if self.server_address[0] in ("::", "0.0.0.0"):
            return f"http://localhost:{self.port}/"
        return f"http://{self.addr}/"

    def start(self, name: str = "accept") -> None:
        """Call `serve_forever` on a new thread with this name. May be called once.

        Raises RuntimeError if no thread can be started.
        """
        self._accepting = threading.Thread(target=self.serve_forever, name=name, daemon=True)
        self._accepting.start()

    def serve_forever(
        self, poll_interval: float | None = None, actions: Callable[[], object] | None = None
    ) -> None:
        """Accept connections until `stop` is called, and then stop listening.

        actions: what to call meanwhile, on this thread, at the latest every poll_interval seconds
        (in socketserver, service_actions).

        May be called once, on any thread. Raises RuntimeError while another thread accepts.
        """
        if not self._accepts.acquire(blocking=False):
            raise RuntimeError("another thread accepts connections")
        try:
            if not self._ending:
                with self._woken_by_signals():
                    self._accept(poll_interval, actions)
            self.server_close()
        finally:
            self._accepts.release()

    @contextmanager
    def _woken_by_signals(self) -> Iterator[None]:
        """On the main thread, let every signal wake the selector.

        Python calls signal handlers on the main thread, after the system call in which that waits.
        A signal just before this call, or to another thread, does not interrupt the call; the byte
        that Python writes for a signal does.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def _accept(self, poll_interval: float | None, actions: Callable[[], object] | None) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._ending:
                ready = [key.fileobj for key, _ in selector.select(poll_interval)]
                if self._woken in ready:
                    self._woken.recv(4096)
                if self.socket in ready and not self._ending:
                    self._handle_request_noblock()  # type: ignore[attr-defined]
                if actions and not self._ending:
                    actions()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called. Any thread."""
        return self._ending

    def stop(self) -> None:
        """Make `serve_forever` return, at once or as soon as it is called.

        Any thread and any signal handler may call this, repeatedly.
        """
        self._ending = True
        with suppress(OSError):  # full of bytes, which wake serve_forever as well; or closed
            self._wake.send(b"\0")

    def shutdown(self, timeout: float = 0.0) -> None:
        """Stop accepting, wait for open connections to end, and cut those that remain.

        timeout: how long to wait for connections, in seconds. Cut connections get another five.

        Not for the thread that runs `serve_forever`, before that has returned. May be called
        repeatedly, also if the server never accepted anything.
        """
        deadline = time.monotonic() + timeout
        self.stop()
        if self._accepting is not None and self._accepting.ident is not None:
            self._accepting.join()
        with self._accepts:  # when serve_forever has returned, on whatever thread
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
            with suppress(RuntimeError):  # the start of the thread was interrupted
                thread.join(max(0.0, deadline - time.monotonic()))

    # Called by socketserver and Werkzeug.

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Raises OSError if there is none that can be served."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._refuse_with_spare(str(error.strerror))
            elif error.errno in (errno.ENOBUFS, errno.ENOMEM):
                self._pause()
            raise

    def _refuse_with_spare(self, reason: str) -> None:
        """Refuse a connection that there is no descriptor for, so that its client need not wait."""
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
        if self._spare.closed:  # another thread took the descriptor
            self._pause()

    def _pause(self) -> None:
        """Wait a moment for connections to end, before the next is accepted."""
        select.select([self._woken], [], [], _ACCEPT_PAUSE)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the thread that serves a connection, or refuse the connection."""
        refusal = self.admission.admit(request, unmapped(client_address[0]))
        if refusal is None:
            thread = Thread(
                target=self.process_request_thread,
                args=(request, client_address),
                name=f"serve {join_host_port(*client_address[:2])}",
                daemon=True,  # the end of the process does not wait for it, as `shutdown` does
            )
            with self._lock:
                self._serving[request] = thread
            try:
                thread.start()
            except RuntimeError as error:
                refusal = Refusal("threads", str(error))
                with self._lock:
                    del self._serving[request]
        if refusal is not None:
            self.admission.refuse(request)
            self.shutdown_request(request)
            self.admission.refused(refusal)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection: first its request, then what the application passed to `go_on`."""
        # This frees the Handler and the request: a connection may last for days.
        left = Handler(request, client_address, self).left()
        try:
            left.then()
        finally:
            for thread in left.threads:
                thread.join()

    def shutdown_request(self, request: Any) -> None:
        """End a connection, unless another thread is there for that.

        A KeyboardInterrupt can come while `process_request` still waits for a thread to start that
        is at work already. socketserver then has the accepting thread end the connection, too.
        """
        with self._lock:
            thread = self._serving.get(request)
        if thread in (None, threading.current_thread()):
            super().shutdown_request(request)

    def close_request(self, request: Any) -> None:
        """Close a connection. Nothing else closes the socket of an accepted connection."""
        if self._on_close is not None:
            self._on_close(request)
        with self._lock:
            self._serving.pop(request, None)
        self.admission.release(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log the current exception, which nothing has caught."""
        if not self._is_short_of_descriptors():
            log.exception("http: %s failed", threading.current_thread().name)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - Werkzeug's name
        """Log a message of Werkzeug. The type "error" is an exception in the application."""
        if not self._is_short_of_descriptors():
            log.log(logging.ERROR if type == "error" else logging.DEBUG, message, *args)

    def _is_short_of_descriptors(self) -> bool:
        """Whether the current exception says so; if it does, log it without a traceback."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            name = threading.current_thread().name
            self.admission.log("http: %s", f"{name}: {error.strerror}")
            return True
        return False

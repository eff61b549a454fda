"""The server: accepts connections, serves each on a thread, shuts down in order (Go: http.Server).

Werkzeug starts the threads and writes the responses. This package adds features of net/http that a
public server needs:

- Addresses mean the same as in Go: `:8080` is every interface, with IPv4 and IPv6.
- A request is parsed strictly and must be complete by a deadline.
- An application can take a connection over: see `Hijacker`.
- `stop` and `shutdown` end the server. They wait for open connections, but not forever.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import IO, TYPE_CHECKING, Any, Final

from werkzeug.serving import ThreadedWSGIServer

from .. import clock, runtime
from ..runtime import Lock, Thread
from .address import join_host_port, listen, page_url, unmapped
from .admission import Admission, Refusal, ServerStatistics
from .connection import ServerConn, UnavailableError, log_failure
from .handler import Handler, hijackable
from .helper import Helper, Helpers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["Server"]

log = logging.getLogger("gochat")

# Pause when a connection cannot be accepted, in seconds.
_ACCEPT_PAUSE: Final = 0.1

# Time allowed for a thread to end after its connection was cut off, in seconds.
_CUT_WAIT: Final = 5.0

# Maximum number of threads that the log names because they do not end.
_NAMES: Final = 5


class Server(ThreadedWSGIServer):
    """Serves a WSGI application at an address, with one thread for each connection.

    addr: where to listen, see `listen`; or a listening socket, which the server takes over and
        closes.
    read_header_timeout: how long a client may take to send its request, in seconds from accepting
        the connection (Go: ReadHeaderTimeout).
    max_connections: how many connections are served at the same time; further ones are answered
        with 503. None for no limit except the system's: when threads or descriptors run out, the
        answer is also 503.
    max_connections_per_address: the same limit for each client's IP address. A connection counts
        once its request has been read. An address may have six more connections without a request,
        because browsers open connections in advance.
    trusted_proxies: networks of proxies. The client of such a proxy has the last address in
        X-Forwarded-For that is not in these networks. If there is no such address, or the header is
        malformed, the client counts as the proxy, which has no limit.
    on_close: called once with the socket of each connection before it is closed, even if the
        connection was refused (except for lack of descriptors). By then no other thread uses the
        socket. `on_close` runs on the connection's thread or, if there is none, on the thread that
        accepts or shuts down. An exception that it raises is logged.

    Raises what `listen` and `runtime.check` raise.
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
        runtime.check()
        self.read_header_timeout: Final = read_header_timeout
        #: Decides which connections are served. For this package; others use `statistics`.
        self.admission: Final = Admission(
            max_connections, max_connections_per_address, trusted_proxies
        )
        self._on_close: Final = on_close
        #: Number of descriptors that are reserved for other purposes; no connection may take them.
        self.reserved = 0
        # A spare descriptor, which is closed to refuse a connection when no other descriptor is
        # free.
        self._spare: IO[bytes] = open(os.devnull, "rb")  # noqa: SIM115
        self._helpers: Final = Helpers()
        # Guards _serving, and the state of each connection. Held only for a moment.
        self._lock = Lock()
        # The open connections by their sockets, from accepting to closing.
        self._serving: dict[socket.socket, ServerConn] = {}
        # The thread that `start` made. Only for the thread that calls `start` and `shutdown`.
        self._accepting: threading.Thread | None = None
        # A byte written to _wake makes serve_forever check _ending. Writing never blocks,
        # because a signal handler may write.
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._ending = False
        # Held by the accepting thread while it uses the server's own sockets, which are closed only
        # after that. Also held by a thread that closes connections in place of the accepting
        # thread.
        self._accepts = threading.Lock()
        # The thread that accepts, which must not wait for itself.
        self._acceptor: threading.Thread | None = None

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
        return page_url(str(self.server_address[0]), self.port)

    def statistics(self) -> ServerStatistics:
        """Return the server's counts so far. Thread: any."""
        return self.admission.statistics()

    def start(self, name: str = "accept") -> None:
        """Call `serve_forever` on a new thread with this name. May be called once.

        Raises RuntimeError if no thread can be started.
        """
        self._accepting = threading.Thread(target=self._serve_alone, name=name, daemon=True)
        self._accepting.start()

    def _serve_alone(self) -> None:
        """Call `serve_forever`. If it fails, log that and stop listening, so that clients notice.

        Thread: the one that `start` made.
        """
        try:
            self.serve_forever()
        except BaseException:  # SystemExit would end this thread silently
            log.exception("http: %s failed", threading.current_thread().name)
            self.server_close()

    def serve_forever(
        self, poll_interval: float = clock.BEAT, actions: Callable[[], object] | None = None
    ) -> None:
        """Accept connections until `stop` is called, then stop listening.

        actions: called repeatedly on this thread, at least every poll_interval seconds, or every
        second if poll_interval is larger (in socketserver, service_actions).

        May be called once, on any thread. Raises RuntimeError while another thread accepts.
        """
        if not self._accepts.acquire(blocking=False):
            raise RuntimeError("another thread accepts connections")
        try:
            self._acceptor = threading.current_thread()
            if not self._ending:
                with self._woken_by_signals():
                    self._accept(poll_interval, actions)
            self.server_close()
        finally:
            self._acceptor = None
            self._accepts.release()

    @contextmanager
    def _woken_by_signals(self) -> Iterator[None]:
        """On the main thread, let every signal wake the selector.

        Python calls signal handlers on the main thread, after its current system call has returned.
        A signal that arrives just before that call, or on another thread, does not interrupt the
        call, but the byte that Python writes for a signal wakes the selector.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def _accept(self, poll_interval: float, actions: Callable[[], object] | None) -> None:
        with selectors.DefaultSelector() as selector, clock.beating():
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._ending:
                clock.beat()
                ready = [key.fileobj for key, _ in selector.select(min(poll_interval, clock.BEAT))]
                if self._woken in ready:
                    self._woken.recv(4096)
                if self.socket in ready and not self._ending:
                    self._accept_one()
                if actions and not self._ending:
                    actions()

    @property
    def stopping(self) -> bool:
        """Return whether `stop` was called. Thread: any."""
        return self._ending

    def stop(self) -> None:
        """Make `serve_forever` return soon, or as soon as it is called.

        Any thread and any signal handler may call this, repeatedly.
        """
        self._ending = True
        with suppress(OSError):  # closed; or full of bytes, which also wake serve_forever
            self._wake.send(b"\0")

    def shutdown(self, timeout: float = 0.0) -> None:
        """Stop accepting, wait for open connections to end, and cut off those that remain.

        timeout: how long to wait for connections, in seconds. Connections that are cut off then get
        another five seconds, and so does the thread that accepts. Threads that still have not ended
        are named in the log and abandoned, because no thread can be ended from outside.

        Raises RuntimeError on the thread that accepts, and on a thread of an open connection, which
        would wait for itself. These threads may call `stop`. May be called repeatedly, even if
        the server never accepted anything. Thread: any other.
        """
        deadline = clock.after(timeout)
        me = threading.current_thread()
        if me is self._acceptor or any(one.is_served_by(me) for one in self._open()):
            raise RuntimeError("shutdown would wait for its own thread: call stop instead")
        self.stop()
        ended = self._close_listener(clock.after(_CUT_WAIT))
        if not ended:
            log.error("http: the thread that accepts does not end")
        self._join(deadline)
        # Waits only for a moment, because `stop` was called. A thread that accepts owns the
        # connections that it accepts.
        with self._accepts if ended else nullcontext():
            for connection in self._open():
                if ended and connection.take_back():
                    self._close(connection)
                connection.cut()
        self._join(clock.after(_CUT_WAIT))
        if ended:  # otherwise the thread that accepts still uses them
            self._close_own()
        threads = [connection.thread for connection in self._open()]
        left = [thread.name for thread in threads if thread is not None and thread.is_alive()]
        if left:
            names = ", ".join(left[:_NAMES]) + (", ..." if len(left) > _NAMES else "")
            log.error("http: threads that do not end: %d (%s)", len(left), names)

    def _close_listener(self, deadline: float) -> bool:
        """Wait until `serve_forever` has returned, whichever thread ran it, and stop listening.

        Returns False if `serve_forever` does not return by the deadline.
        """
        if self._accepting is not None and self._accepting.ident is not None:
            clock.join(self._accepting, deadline)
        if not self._accepts.acquire(timeout=max(0.0, deadline - clock.now())):
            return False
        try:
            self.server_close()
        finally:
            self._accepts.release()
        return True

    def _close_own(self) -> None:
        self._woken.close()
        self._wake.close()
        self._spare.close()

    def _open(self) -> list[ServerConn]:
        with self._lock:
            return list(self._serving.values())

    def _join(self, deadline: float) -> None:
        """Wait for the connections' threads. A thread that never started is not alive."""
        for connection in self._open():
            if (thread := connection.thread) is not None:
                clock.join(thread, deadline)

    # The life of a connection, see ServerConn.

    def _accept_one(self) -> None:
        """Accept a connection, if there is one that can be served. Thread: the one that accepts."""
        try:
            request, client_address = self.get_request()
        except MemoryError:
            self._pause()
            return
        except OSError:
            return
        try:
            self.process_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the thread that serves a connection, or refuse the connection."""
        connection = ServerConn(request, client_address, self._lock)
        try:
            with self._lock:
                self._serving[request] = connection
            refusal = self.admission.admit(request, unmapped(client_address[0]))
            if refusal is None:
                # A daemon: the process need not wait for it, because `shutdown` does.
                thread = connection.thread = Thread(
                    lambda: self._run(connection),
                    f"serve {join_host_port(*client_address[:2])}",
                )
                try:
                    thread.start()
                except (RuntimeError, MemoryError) as error:
                    refusal = Refusal("threads", str(error) or "out of memory")
            if refusal is not None and connection.take_back():
                self.admission.refuse(request)
                self._close(connection)
                self.admission.refused(refusal)
        except BaseException:  # such as Ctrl-C on the main thread
            if connection.take_back():
                self._close(connection)
            raise

    def _run(self, connection: ServerConn) -> None:
        """Serve a connection, unless it was taken back. Thread: the connection's own."""
        if connection.begin():
            try:
                self._serve(connection)
            except BaseException:  # SystemExit would end this thread silently
                self.handle_error(connection.sock, connection.address)
            finally:
                self._close(connection)
        self._helpers.lend()

    def _serve(self, connection: ServerConn) -> None:
        """Serve a connection: first its request, then what the application passed to `go_on`."""
        try:
            # The Handler and the request are freed here, because a connection may last for days.
            Handler(connection, self).clear()
            if connection.hijacker is not None:
                connection.hijacker.then()
        finally:
            if connection.hijacker is not None:
                connection.hijacker.end()

    def _close(self, connection: ServerConn) -> None:
        """Close a connection and free its place, even if a step fails.

        Nothing else closes the socket of an accepted connection. If Ctrl-C interrupts this on the
        thread that accepts, `shutdown` closes the connection. Thread: the connection's owner.
        """
        said, connection.said_closed = connection.said_closed, True
        try:
            if self._on_close is not None and not said:
                self._on_close(connection.sock)
        except KeyboardInterrupt:
            raise
        except BaseException:  # SystemExit would end this thread silently
            log.exception("http: on_close failed")
        finally:
            self.admission.release(connection.sock)
            connection.close()
            with self._lock:
                self._serving.pop(connection.sock, None)

    def hire(self) -> Helper:
        """Return a second thread for a connection. Raises UnavailableError if there is none.

        Thread: the connection's own.
        """
        try:
            return self._helpers.hire(f"{threading.current_thread().name} too")
        except RuntimeError as error:
            self.admission.refused(Refusal("threads", str(error) or "out of memory"))
            raise UnavailableError(str(error)) from error

    # Called by socketserver and Werkzeug.

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Raises OSError if there is none that can be served."""
        try:
            request, address = super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._refuse_with_spare(str(error.strerror))
            elif error.errno in (errno.ENOBUFS, errno.ENOMEM):
                self._pause()
            raise
        # The system assigns the lowest free descriptor, so all lower ones are in use. sysconf
        # returns -1 on a system without a limit.
        if self.reserved and request.fileno() >= os.sysconf("SC_OPEN_MAX") - self.reserved >= 0:
            reason = os.strerror(errno.EMFILE)
            self._refuse(request, reason)
            raise OSError(errno.EMFILE, reason)
        return request, address

    def _refuse(self, request: socket.socket, reason: str) -> None:
        """Refuse a connection for lack of descriptors."""
        self.admission.refuse(request)
        request.close()
        self.admission.refused(Refusal("descriptors", reason))

    def _refuse_with_spare(self, reason: str) -> None:
        """Refuse a connection when no descriptor is free, so that its client need not wait."""
        self._spare.close()
        try:
            request, _ = self.socket.accept()
        except OSError:
            self.admission.log("http: no connection can be accepted: %s", reason)
        else:
            self._refuse(request, reason)
        with suppress(OSError):
            self._spare = open(os.devnull, "rb")  # noqa: SIM115
        if self._spare.closed:  # another thread took the descriptor
            self._pause()

    def _pause(self) -> None:
        """Wait a moment for connections to end, before accepting the next."""
        # This uses poll, because select.select takes no descriptor over 1023.
        woken = select.poll()
        woken.register(self._woken, select.POLLIN)
        woken.poll(_ACCEPT_PAUSE * 1000)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log the current exception, which nothing else has handled."""
        self.failed()

    def failed(self) -> None:
        """Log the current exception, which has ended a connection's work. Thread: any."""
        if not self._is_short_of_descriptors():
            log_failure()

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - Werkzeug's name
        """Log a message from Werkzeug. The type "error" means an exception in the application."""
        if not self._is_short_of_descriptors():
            log.log(logging.ERROR if type == "error" else logging.DEBUG, message, *args)

    def _is_short_of_descriptors(self) -> bool:
        """Return whether the current exception is a lack of descriptors; if so, log one line."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            name = threading.current_thread().name
            self.admission.log("http: %s", f"{name}: {error.strerror}")
            return True
        return False

"""The HTTP server (Go: http.Server).

It is Werkzeug's threaded server, with the features of net/http that a public server needs:

- Addresses have the same meaning as in Go. `:8080` listens on all interfaces, with IPv4 and IPv6.
- Requests are parsed strictly, and must be complete by a deadline.
- An application can take a connection over: see `Hijacker`.
- `shutdown` waits for open connections, up to a time limit.

Unlike net/http, it also handles X-Forwarded-For from trusted proxies. Werkzeug's banner and access
lines are not logged.
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
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
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

# How long to pause after a connection could not be accepted, in seconds.
_ACCEPT_PAUSE: Final = 0.1

# How long a thread may take to end after its connection was cut off, in seconds.
_CUT_WAIT: Final = 5.0

# How many threads that do not end are named in the log.
_NAMES: Final = 5


class Server(ThreadedWSGIServer):
    """Serves a WSGI application at an address, with one thread for each connection.

    addr: an address as for `listen`, or a listening socket, which the server takes over and closes.
    read_header_timeout: how long a client may take to send its request, in seconds since the
        connection was accepted (Go: ReadHeaderTimeout).
    max_connections: the maximum number of open connections, or None. Further connections are
        answered with 503, as are connections for which the system has no thread or descriptor.
    max_connections_per_address: the maximum number of connections from one client address that have
        sent a request, or None. Six more may be open without a request, because browsers open
        connections in advance.
    trusted_proxies: networks of proxies. If a connection comes from one of them, the client's
        address is the last address in X-Forwarded-For that is not in these networks. If there is
        no such address, or the header is malformed, the proxy counts as the client, but without the
        limit per address.
    on_close: called once with the socket of each connection, before the socket is closed. No other
        thread then uses the socket. Runs on the connection's thread or, without one, on the thread
        that accepts or shuts down. Exceptions are logged. Not called for connections that are
        refused for lack of descriptors.

    Raises the same exceptions as `listen` and `runtime.check`.
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
        #: Decides which connections are served. Outside this package, use `statistics`.
        self.admission: Final = Admission(
            max_connections, max_connections_per_address, trusted_proxies
        )
        self._on_close: Final = on_close
        #: The number of descriptors that connections must leave free.
        self.reserved = 0
        # When no descriptor is free, this one is closed so that a connection can be refused.
        self._spare: IO[bytes] = open(os.devnull, "rb")  # noqa: SIM115
        self._helpers: Final = Helpers()
        # Guards `_serving` and the state of each connection. Held only briefly.
        self._lock = Lock()
        # The open connections, by socket.
        self._serving: dict[socket.socket, ServerConn] = {}
        # The thread that `start` created. Only the caller of `start` and `shutdown` uses this.
        self._accepting: threading.Thread | None = None
        # A byte written to `_wake` makes serve_forever check `_ending`. A signal handler may write,
        # so writing must not block.
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._ending = False
        # Held by the accepting thread until it no longer uses the server's sockets, and by a thread
        # that closes connections in its place.
        self._accepts = threading.Lock()
        # The accepting thread; `shutdown` must not be called on it.
        self._acceptor: threading.Thread | None = None

        # Werkzeug looks up its version after the server listens, when a client can already connect
        # and Ctrl-C be pressed. The first lookup imports modules, and an interrupt of an import can
        # end the process even if it is caught. So look the version up now.
        import importlib.metadata  # noqa: PLC0415

        importlib.metadata.version("werkzeug")

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
        """The address that the server listens on, as `host:port`."""
        return join_host_port(str(self.server_address[0]), self.port)

    @property
    def url(self) -> str:
        """The server's URL for a browser on this machine."""
        return page_url(str(self.server_address[0]), self.port)

    def statistics(self) -> ServerStatistics:
        """Return the server's counters. Thread: any."""
        return self.admission.statistics()

    def start(self, name: str = "accept") -> None:
        """Call `serve_forever` on a new thread. May be called only once.

        name: the thread's name. Raises RuntimeError if the thread cannot be started.
        """
        self._accepting = threading.Thread(target=self._serve_alone, name=name, daemon=True)
        self._accepting.start()

    def _serve_alone(self) -> None:
        """Call `serve_forever`. If it fails, log the exception, and stop listening.

        Clients then notice that there is no server. Thread: the accepting thread.
        """
        try:
            self.serve_forever()
        except BaseException:  # SystemExit would end this thread silently
            log.exception("http: %s failed", threading.current_thread().name)
            self.server_close()

    def serve_forever(
        self, poll_interval: float = clock.BEAT, actions: Callable[[], object] | None = None
    ) -> None:
        """Accept connections until `stop` is called, then stop listening. May be called only once.

        actions: called repeatedly on this thread, at least every poll_interval seconds, or every
        second if poll_interval is longer (in socketserver: service_actions).

        Raises RuntimeError if another thread is accepting connections. Thread: any.
        """
        if not self._accepts.acquire(blocking=False):
            raise RuntimeError("another thread accepts connections")
        try:
            self._acceptor = threading.current_thread()
            if not self._ending:
                self._accept(poll_interval, actions)
            self.server_close()
        finally:
            self._acceptor = None
            self._accepts.release()

    def _accept(self, poll_interval: float, actions: Callable[[], object] | None) -> None:
        with selectors.DefaultSelector() as selector, clock.beating():
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._ending:
                clock.beat()
                # If this is the main thread and another thread receives a signal, this wait
                # continues, and the handler runs after at most one beat.
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
        """Make `serve_forever` return soon, even if it has not been called yet.

        May be called more than once, and in a signal handler. Thread: any.
        """
        self._ending = True
        # Fails if the socket is closed, or its buffer is full and wakes the thread anyway.
        with suppress(OSError):
            self._wake.send(b"\0")

    def shutdown(self, timeout: float = 0.0) -> None:
        """Stop accepting connections, wait for open ones to end, and cut off those that remain.

        timeout: how long to wait for connections, in seconds. The threads of connections that are
        then cut off have another five seconds to end. The accepting thread also has five seconds.
        Threads that do not end in time are logged and left running, because Python cannot end them.

        May be called more than once, and without `serve_forever`. Raises RuntimeError on the
        accepting thread and on the threads of open connections, which would wait for themselves.
        These threads can call `stop` instead. Thread: any other.
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
        # While a thread accepts connections, it owns the new ones. After `stop`, it soon returns.
        with self._accepts if ended else nullcontext():
            for connection in self._open():
                if ended and connection.take_back():
                    self._close(connection)
                connection.cut()
        left = self._join(clock.after(_CUT_WAIT))
        if ended:  # otherwise the accepting thread still uses these sockets
            self._close_own()
        if left:
            names = ", ".join(left[:_NAMES]) + (", ..." if len(left) > _NAMES else "")
            log.error("http: threads that do not end: %d (%s)", len(left), names)

    def _close_listener(self, deadline: float) -> bool:
        """Wait until `serve_forever` has returned, on any thread, and stop listening.

        Return False if the deadline passes first.
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

    def _join(self, deadline: float) -> list[str]:
        """Wait for the connections' threads to end. Return the names of those that do not."""
        left = []
        for connection in self._open():
            thread = connection.thread
            if thread is not None and not clock.join(thread, deadline):
                left.append(thread.name)
        return left

    # The life of a connection. See ServerConn.

    def _accept_one(self) -> None:
        """Accept a connection, if there is one that can be served. Thread: the accepting thread."""
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
                # A daemon thread: `shutdown` waits for it, so the process need not.
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
        """Answer a connection's request, then call the function that was passed to `go_on`."""
        try:
            try:
                # Keeps no reference to the Handler, because that function may run for days.
                Handler(connection, self).clear()
            except BaseException as error:
                if connection.hijacker is None or not connection.hijacker.hijacked:
                    raise
                connection.hijacker.fail(error)  # because other threads may use the connection
            if connection.hijacker is not None:
                connection.hijacker.then()
        finally:
            if connection.hijacker is not None:
                connection.hijacker.end()

    def _close(self, connection: ServerConn) -> None:
        """Close a connection and stop counting it, even if a step fails. Thread: its owner.

        No other code closes the socket of an accepted connection. If Ctrl-C interrupts this on the
        accepting thread, `shutdown` closes the connection.
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
        """Accept a connection. Raises OSError if none can be served."""
        try:
            request, address = super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._refuse_with_spare(str(error.strerror))
            elif error.errno in (errno.ENOBUFS, errno.ENOMEM):
                self._pause()
            raise
        # The system assigns the lowest free descriptor, so the number shows how many are in use.
        # Without a limit, sysconf returns -1.
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
        """Refuse a connection when no descriptor is free, so that its client does not wait."""
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
        """Wait a moment for open connections to end, before accepting the next."""
        # Not select.select, which accepts no descriptor above 1023.
        woken = select.poll()
        woken.register(self._woken, select.POLLIN)
        woken.poll(_ACCEPT_PAUSE * 1000)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log the current exception."""
        self.failed()

    def failed(self) -> None:
        """Log the current exception, which has ended one of a connection's threads. Thread: any."""
        if not self._is_short_of_descriptors():
            log_failure()

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - Werkzeug's name
        """Log a message from Werkzeug. The type "error" means an exception in the application."""
        if not self._is_short_of_descriptors():
            log.log(logging.ERROR if type == "error" else logging.DEBUG, message, *args)

    def _is_short_of_descriptors(self) -> bool:
        """Return whether a lack of descriptors caused the current exception. If so, log a line."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            name = threading.current_thread().name
            self.admission.log("http: %s", f"{name}: {error.strerror}")
            return True
        return False

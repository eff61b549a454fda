"""Accepted connections: which thread owns them, and how an application takes them over.

The WSGI environ contains a `Hijacker`, with which an application can take the connection over from
the server. The application can then use the connection after the request, on the same thread and on
a second one. A Go program would use `http.Hijacker` and the go statement.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ..runtime import nonblocking
from .helper import Helper, new_helper

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["KEY", "Hijacker", "ServerConn", "UnavailableError", "hijacker", "log_failure"]

log = logging.getLogger("gochat")

#: The key of the Hijacker in the environ.
KEY: Final = "gochat.hijacker"

# The states of a ServerConn.
_ACCEPTED: Final = "accepted"
_TAKEN_BACK: Final = "taken back"
_SERVING: Final = "serving"
_CLOSED: Final = "closed"


class UnavailableError(Exception):
    """Raised if a request cannot be served now. Applications may also raise it.

    The server answers with 503. If the connection was already taken over, the server calls the
    functions in `Hijacker.on_failure` instead.
    """


class ServerConn:
    """An accepted connection. One thread at a time owns it, and only the owner may close it.

    | State      | Owner                                                                   |
    | ---------- | ----------------------------------------------------------------------- |
    | accepted   | the accepting thread; after it has returned, the thread that shuts down |
    | taken back | as above; the connection's own thread can no longer become the owner    |
    | serving    | the connection's own thread, until it ends                              |
    | closed     | none                                                                    |

    Race: the accepting thread calls `Thread.start` for the connection's own thread, and `start`
    raises an exception. If threads or memory ran out, the new thread does not exist, and the
    accepting thread must close the connection. After Ctrl-C, the new thread may be running, or may
    even have closed the connection. The exception does not tell which case applies. So the new
    thread first calls `begin`, and the accepting thread calls `take_back`. Each is a single step
    under the lock. The first caller becomes the owner, and the second gets False.

    lock: guards the state, so that no thread uses the descriptor after it is closed.
    """

    def __init__(self, sock: socket.socket, address: Any, lock: threading.Lock) -> None:
        self.sock: Final = sock
        self.address: Final = address
        self._lock: Final = lock
        self._state = _ACCEPTED
        #: The connection's own thread, which may not have started yet. None before it is created,
        #: and after `close`.
        self.thread: threading.Thread | None = None
        #: The Hijacker; None before the request is read, and after `close`.
        self.hijacker: Hijacker | None = None
        #: Whether `on_close` was called. Only the owner uses this.
        self.said_closed = False

    def begin(self) -> bool:
        """Become the owner. Return False if the connection was taken back.

        Thread: the connection's own, as its first step.
        """
        with self._lock:
            if self._state != _ACCEPTED:
                return False
            self._state = _SERVING
            return True

    def take_back(self) -> bool:
        """Prevent the connection's own thread from becoming the owner.

        Return False if that thread is the owner, or if the connection is closed. May be called more
        than once. Thread: the accepting thread; any thread after that one has returned.
        """
        with self._lock:
            if self._state == _ACCEPTED:
                self._state = _TAKEN_BACK
            return self._state == _TAKEN_BACK

    def cut(self) -> None:
        """Shut the socket down, which wakes the threads that wait on it. Thread: any."""
        with self._lock, suppress(OSError):
            if self._state != _CLOSED:
                nonblocking(self.sock).shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket. May be called more than once. Thread: the owner."""
        with self._lock:
            self._state = _CLOSED
            with suppress(OSError):
                nonblocking(self.sock).shutdown(socket.SHUT_WR)
            self.sock.close()
        # Breaks a reference cycle: a thread that never started keeps its target.
        self.thread = self.hijacker = None

    def is_served_by(self, thread: threading.Thread) -> bool:
        """Return whether the thread belongs to this connection. Thread: any."""
        hijacker = self.hijacker
        return thread is self.thread or (hijacker is not None and thread in hijacker.threads)


class Hijacker:
    """Lets the application take over the connection of a request (Go: http.Hijacker).

    The server creates one for each connection. Thread: the connection's own.

    take: a function that ends the reading of requests, and returns any bytes already read beyond
        this request.
    hire: a function that returns a second thread, or raises UnavailableError. None to start a new
        thread.
    failed: a function that logs the current exception. None to log it with a traceback.
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[], bytes],
        hire: Callable[[], Helper] | None = None,
        failed: Callable[[], object] | None = None,
    ) -> None:
        self._sock = sock
        self._failed = failed or log_failure
        self._take: Callable[[], bytes] | None = take
        self._hire = hire
        self._helper: Helper | None = None
        #: Whether the connection was taken over. If so, the server sends no response.
        self.hijacked = False
        #: The threads on which `go` has called functions.
        self.threads: list[threading.Thread] = []
        # The arguments of `go_on`.
        self._then: tuple[Callable[[], object], str, bool] | None = None
        #: Functions to call with the exception, in order, if the application or a function passed
        #: to `go` or `go_on` fails after the connection was taken over (Go: recover). They run on
        #: the thread that failed, and can notify the client and the other threads. After them, the
        #: connection is shut down. Add to the list before calling `go`.
        self.on_failure: list[Callable[[BaseException], object]] = []

    def reserve(self) -> None:
        """Get the thread for `go` now, so that `go` cannot fail later.

        Raises UnavailableError if no thread can start, and no other connection provides one within
        a second. The server counts this as a refusal. Unless the application catches the exception,
        the answer is 503.
        """
        if self._helper is None and self._hire is not None:
            self._helper = self._hire()

    def hijack(self) -> tuple[socket.socket, bytes]:
        """Take the connection over. Return its socket and any bytes already read after the request.

        The socket is in blocking mode. The server closes it after the application and all functions
        passed to `go` and `go_on` have returned. Raises RuntimeError if the connection was already
        taken over.
        """
        if self._take is None:
            raise RuntimeError("the connection was already taken over")
        self.hijacked = True
        buffered = self._take()
        self._take = None  # frees the reader, with its 8 KiB buffer
        if self._sock.gettimeout() is not None:
            self._sock.settimeout(None)
        return self._sock, buffered

    def go(self, function: Callable[[], object], name: str, *, closes: bool = False) -> None:
        """Call a function on another thread (Go: the go statement).

        The server closes the connection only after the function has returned.

        name: the thread's name. closes: whether the function must shut the connection down before
        it returns. If it does not, that counts as a failure, because the application's other
        function might never notice that this one has ended.

        After `reserve`, `go` does not wait, and raises no exception. Otherwise, it may wait and
        raise UnavailableError, as `reserve` does, or RuntimeError if the Hijacker has no server.
        """
        if self._helper is None:
            self._helper = self._hire() if self._hire is not None else new_helper(name)
        helper, self._helper = self._helper, None
        self.threads.append(helper.thread)  # before the function runs, for `is_served_by`
        helper.go(lambda: self._run(function, closes), name)

    def go_on(self, function: Callable[[], object], name: str, *, closes: bool = False) -> None:
        """Have the server call a function on this thread after the request. Arguments: see `go`."""
        self._then = function, name, closes

    def then(self) -> None:
        """Call the function that was passed to `go_on`. Only the server calls this."""
        if self._then is not None:
            function, name, closes = self._then
            threading.current_thread().name = name
            self._run(function, closes)

    def _run(self, function: Callable[[], object], closes: bool) -> None:
        """Call a function. If it raises an exception, log the exception and end the connection.

        A ConnectionAbortedError, by which this side ends the connection deliberately (Go:
        http.ErrAbortHandler), is not logged. Thread: the function's.
        """
        try:
            function()
            if closes:
                self._check_shut_down()
        except BaseException as error:  # SystemExit would end this thread silently
            if not isinstance(error, ConnectionAbortedError):
                self._failed()
            self._abort(error)

    def _check_shut_down(self) -> None:
        """Raise RuntimeError if the connection is still open."""
        try:
            nonblocking(self._sock).send(b"", socket.MSG_DONTWAIT)
        except OSError:
            return
        raise RuntimeError("the function has returned and left the connection open")

    def fail(self, error: BaseException) -> None:
        """Log an exception that the request raised after `hijack`, and end the connection.

        Only the server calls this.
        """
        name = threading.current_thread().name
        if isinstance(error, UnavailableError):
            log.error("http: %s: %s", name, error)
        elif isinstance(error, OSError):
            log.info("http: %s: %s", name, error)
        else:
            log.exception("http: %s failed", name)
        self._abort(error)

    def _abort(self, error: BaseException) -> None:
        """Call `on_failure`, then make the connection's other functions return."""
        for tell in self.on_failure:
            try:
                tell(error)
            except OSError:
                continue  # the client has disconnected, or the chat has ended
            except BaseException:
                self._failed()
        with suppress(OSError):
            nonblocking(self._sock).shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Wait for the functions that were passed to `go`. Only the server calls this."""
        helper, self._helper = self._helper, None
        if helper is not None:
            self.threads.append(helper.thread)
            helper.dismiss()
        for thread in self.threads:
            thread.join()


def log_failure() -> None:
    """Log the current exception, which has ended the calling thread's work. Thread: any."""
    log.exception("http: %s failed", threading.current_thread().name)


def hijacker(environ: WSGIEnvironment) -> Hijacker | None:
    """Return the Hijacker of a request, or None if the environ is from another server."""
    found: Hijacker | None = environ.get(KEY)
    return found

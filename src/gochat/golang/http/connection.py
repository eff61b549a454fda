"""An accepted connection: who owns it, and how an application takes it over.

Through the `Hijacker` in the WSGI environ, an application can take a connection over from the
server and use it after the request, on the same thread and a second one. In Go, it would use
`http.Hijacker` and the go statement.
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
    """A request cannot be served now. Its client is told to try again later.

    An application may raise this. The answer is 503, or the one that `Hijacker.on_failure` sends.
    """


class ServerConn:
    """An accepted connection. At any time one thread owns it, and only that thread closes it.

    | State      | Owner                                                                   |
    | ---------- | ----------------------------------------------------------------------- |
    | accepted   | the accepting thread; after it has returned, the thread that shuts down |
    | taken back | the same; the connection's own thread can no longer own the connection  |
    | serving    | the connection's own thread, from its first step to its end             |
    | closed     | nobody                                                                  |

    The accepting thread starts the connection's thread. `Thread.start` may raise before the new
    thread exists, for lack of memory or threads. After Ctrl-C it may also raise while the new
    thread is running, or even after the new thread has closed the connection. So the outcome of
    `start` does not tell who owns the connection. `begin` and `take_back` do: each is one step
    under the lock; the first to be called succeeds, and the other returns False.

    lock: guards the state and prevents the use of a closed descriptor.
    """

    def __init__(self, sock: socket.socket, address: Any, lock: threading.Lock) -> None:
        self.sock: Final = sock
        self.address: Final = address
        self._lock: Final = lock
        self._state = _ACCEPTED
        #: The connection's own thread, which might not have begun; None before it is created and
        #: after `close`.
        self.thread: threading.Thread | None = None
        #: The Hijacker, once the request has been read.
        self.hijacker: Hijacker | None = None
        #: Whether the server's `on_close` has been called. For the owner.
        self.said_closed = False

    def begin(self) -> bool:
        """Take ownership of the connection and return True, unless it was taken back.

        Thread: the connection's own, as its first step.
        """
        with self._lock:
            if self._state != _ACCEPTED:
                return False
            self._state = _SERVING
            return True

    def take_back(self) -> bool:
        """Take the connection from its thread and return True, unless the thread has begun.

        May be called again. Thread: the one that accepts; after that has returned, any.
        """
        with self._lock:
            if self._state == _ACCEPTED:
                self._state = _TAKEN_BACK
            return self._state == _TAKEN_BACK

    def cut(self) -> None:
        """End reading and writing, so that no thread waits for the client. Thread: any."""
        with self._lock, suppress(OSError):
            if self._state != _CLOSED:
                nonblocking(self.sock).shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket. May be called again. Thread: the owner."""
        with self._lock:
            self._state = _CLOSED
            with suppress(OSError):
                nonblocking(self.sock).shutdown(socket.SHUT_WR)
            self.sock.close()
        # A thread that never started keeps its arguments, which include this object.
        self.thread = self.hijacker = None

    def is_served_by(self, thread: threading.Thread) -> bool:
        """Return whether the thread is one of this connection's. Thread: any."""
        hijacker = self.hijacker
        return thread is self.thread or (hijacker is not None and thread in hijacker.threads)


class Hijacker:
    """Lets the application take over the connection of a request (Go: http.Hijacker).

    The server makes one for each connection.

    take: returns the bytes that were read from the socket after the request, and ends reading.
    hire: returns a second thread, or raises UnavailableError; None to let `go` start a thread.
    failed: logs the current exception; None for a traceback.

    Thread: the connection's own.
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
        #: Whether the connection was taken over. If so, the server must not send a response.
        self.hijacked = False
        #: The threads that `go` has given functions to.
        self.threads: list[threading.Thread] = []
        # The arguments of `go_on`.
        self._then: tuple[Callable[[], object], str, bool] | None = None
        #: Functions to call in order with the exception if the application, or one of its
        #: functions, fails after the connection was taken over (Go: recover). They are the last
        #: chance to notify the client, and any threads of the application that wait for the failed
        #: function. They run on the thread that has failed. Add to the list before `go`.
        self.on_failure: list[Callable[[BaseException], object]] = []

    def reserve(self) -> None:
        """Get the thread for `go` now, so that `go` cannot fail.

        Raises UnavailableError if the system has no more threads, and no other connection's thread
        is free within a second. If the application does not catch the exception, the server answers
        with 503 and counts the refusal.
        """
        if self._helper is None and self._hire is not None:
            self._helper = self._hire()

    def hijack(self) -> tuple[socket.socket, bytes]:
        """Take the connection over; return its socket, and the bytes that were read ahead.

        The socket is in blocking mode. The server closes the socket once the application and all
        functions that were passed to `go` and `go_on` have returned. Raises RuntimeError if the
        connection was already taken over.
        """
        if self._take is None:
            raise RuntimeError("the connection was already taken over")
        self.hijacked = True
        buffered = self._take()
        self._take = None  # frees the reader, with its buffer of 8 KiB
        if self._sock.gettimeout() is not None:
            self._sock.settimeout(None)
        return self._sock, buffered

    def go(self, function: Callable[[], object], name: str, *, closes: bool = False) -> None:
        """Call a function on another thread with this name (Go: the go statement).

        closes: whether the function must shut the connection down before it returns. If it does
        not, that counts as a failure, because otherwise its return might go unnoticed.

        The server does not close the connection before the function has returned. Raises
        UnavailableError if the system has no more threads, and no other connection's thread is
        free within a second. Without a server, it raises RuntimeError instead, and does not wait.
        If a thread was reserved, `go` neither waits nor raises.
        """
        if self._helper is None:
            self._helper = self._hire() if self._hire is not None else new_helper(name)
        helper, self._helper = self._helper, None
        self.threads.append(helper.thread)  # before the function runs, for `is_served_by`
        helper.go(lambda: self._run(function, closes), name)

    def go_on(self, function: Callable[[], object], name: str, *, closes: bool = False) -> None:
        """Call a function on this thread after the request; the thread then gets this name.

        closes: see `go`.
        """
        self._then = function, name, closes

    def then(self) -> None:
        """Call the function that was passed to `go_on`. For the server."""
        if self._then is not None:
            function, name, closes = self._then
            threading.current_thread().name = name
            self._run(function, closes)

    def _run(self, function: Callable[[], object], closes: bool) -> None:
        """Call a function, and end the connection if it raises any exception.

        closes: see `go`. The exception is logged, unless it is a ConnectionAbortedError, which
        means that this side has ended the connection deliberately (Go: http.ErrAbortHandler).
        Thread: the function's.
        """
        try:
            function()
            if closes:
                self._check_shut_down()
        except BaseException as error:  # SystemExit would end this thread silently
            if not isinstance(error, ConnectionAbortedError):
                self._failed()
            self._tell(error)
            # This makes the connection's other functions return too.
            with suppress(OSError):
                nonblocking(self._sock).shutdown(socket.SHUT_RDWR)

    def _check_shut_down(self) -> None:
        """Raise RuntimeError if the connection is still open."""
        try:
            nonblocking(self._sock).send(b"", socket.MSG_DONTWAIT)
        except OSError:
            return
        raise RuntimeError("the function has returned and left the connection open")

    def fail(self, error: BaseException) -> None:
        """Log and report an exception of an application that has taken the connection over."""
        name = threading.current_thread().name
        if isinstance(error, UnavailableError):
            log.error("http: %s: %s", name, error)
        elif isinstance(error, OSError):
            log.info("http: %s: %s", name, error)
        else:
            log.exception("http: %s failed", name)
        self._tell(error)

    def _tell(self, error: BaseException) -> None:
        for tell in self.on_failure:
            try:
                tell(error)
            except OSError:
                continue  # the client is gone, or the chat is over
            except BaseException:
                self._failed()

    def end(self) -> None:
        """Wait for the functions that were passed to `go`. For the server."""
        helper, self._helper = self._helper, None
        if helper is not None:
            self.threads.append(helper.thread)
            helper.dismiss()
        for thread in self.threads:
            thread.join()


def log_failure() -> None:
    """Log the exception that has just ended the calling thread's work. Thread: any."""
    log.exception("http: %s failed", threading.current_thread().name)


def hijacker(environ: WSGIEnvironment) -> Hijacker | None:
    """Return the Hijacker of a request, or None if another server made the environ."""
    found: Hijacker | None = environ.get(KEY)
    return found

"""Waiting for sockets, locks, and the stacks of all greenlets."""

from __future__ import annotations

import gc
import socket
import sys
import threading
import time
from collections import deque
from types import FrameType
from typing import Any, Final

from gevent import getcurrent
from gevent.monkey import get_original
from greenlet import greenlet

from .waiter import HUB, Waiter

__all__ = ["Lock", "RLock", "hung_up", "nonblocking", "readable", "settle", "stacks", "writable"]

_system_poll: Final[Any] = get_original("select", "poll")
_system_epoll: Final[Any] = get_original("select", "epoll")

#: The original lock of `threading`, which is much faster than gevent's lock. No greenlet waits
#: while it holds such a lock, so no greenlet ever finds one locked.
Lock: Final[Any] = get_original("threading", "Lock")

# The events of poll(2), and those of libev.
_POLLIN, _POLLOUT = 1, 4
_READ, _WRITE = 1, 2


def readable(sock: socket.socket) -> _Poll:
    """Return a poll object that waits for input."""
    return _Poll(sock, _POLLIN, _READ)


def writable(sock: socket.socket | int) -> _Poll:
    """Return a poll object that waits for room in the send buffer."""
    return _Poll(sock, _POLLOUT, _WRITE)


def hung_up(sock: socket.socket) -> _Poll:
    """Return a poll object that waits until both directions have ended."""
    # libev cannot wait for this event. But an epoll object that watches the socket for no other
    # event becomes readable when this event occurs, and libev can wait for that.
    epoll = _system_epoll()
    epoll.register(sock, 0)
    return _Poll(epoll, _POLLIN, _READ)


def nonblocking(sock: socket.socket) -> Any:
    """Return the original socket, which gevent's socket wraps.

    The original socket's `send` and `recv` do not wait. Its `shutdown` makes waiting greenlets read
    the end of the stream; the `shutdown` of gevent's socket would raise an error in them.
    """
    return getattr(sock, "_sock", sock)


class _Poll:
    """A `select.poll` for one event of one descriptor. Only one greenlet at a time may wait."""

    __slots__ = ("_io", "_source", "_system", "_waiter")

    def __init__(self, source: Any, events: int, event: int) -> None:
        # Checked before each wait on the loop, because a check is much faster than a wait, and the
        # event has often already occurred.
        self._system: Final = _system_poll()
        self._system.register(source, events)
        self._source: Final = source  # so that the garbage collector does not close an epoll
        number = source if isinstance(source, int) else source.fileno()
        self._io: Final = HUB.loop.io(number, event)
        self._waiter: Final = Waiter()

    def poll(self, timeout: float | None = None) -> bool:
        """Wait for the event. Return False after `timeout` milliseconds.

        In a signal handler on the loop's greenlet, which cannot wait, this blocks the whole thread.
        """
        if self._system.poll(0):
            return True
        if getcurrent() is HUB:
            return bool(self._system.poll(timeout))
        deadline = None if timeout is None else time.monotonic() + timeout / 1000
        self._io.start(self._waiter.wake)
        try:
            return self._waiter.park(deadline)
        finally:
            self._io.stop()

    def __del__(self) -> None:
        self._waiter.end()


class RLock:
    """A `threading.RLock` for greenlets."""

    __slots__ = ("_again", "_line", "_owner")

    def __init__(self) -> None:
        self._owner: Any = None
        # How many times the owner has acquired the lock again.
        self._again = 0
        self._line: deque[Waiter] | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock. Return False after `timeout` seconds; -1 for no limit."""
        me = getcurrent()
        if self._owner is None:
            self._owner = me
            return True
        if self._owner is me:
            self._again += 1
            return True
        if not blocking:
            return False
        deadline = None if timeout < 0 else time.monotonic() + timeout
        waiter = Waiter()
        if self._line is None:
            self._line = deque()
        self._line.append(waiter)
        try:
            while self._owner is not None:
                if not waiter.park(deadline):
                    return False
            self._owner = me
            return True
        finally:
            waiter.end()
            self._line.remove(waiter)
            self._wake()  # in case this greenlet was woken but then interrupted

    def release(self) -> None:
        """Release the lock. Raises RuntimeError if the calling greenlet does not own it."""
        if self._owner is not getcurrent():
            raise RuntimeError("cannot release a lock of another greenlet")
        if self._again:
            self._again -= 1
            return
        self._owner = None
        if self._line:
            self._wake()

    def _wake(self) -> None:
        """Wake the first greenlet in line if the lock is free."""
        if self._owner is None and self._line:
            self._line[0].wake()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def settle(*, pin: bool, cpu: int | None = None) -> None:  # noqa: ARG001
    """Make Python's garbage collector run only once per 10,000 new objects.

    Each full collection visits the objects of all clients, and finds almost no garbage. With the
    default threshold, collections took a fifth of the processor time while thousands of clients
    came and went.

    pin, cpu: ignored, because a single thread need not be pinned.
    """
    gc.set_threshold(10_000)


def stacks() -> list[tuple[str, FrameType]]:
    """Return the name and the stack of each greenlet."""
    names: dict[int, str] = {}
    for thread in threading.enumerate():
        if thread.ident is not None:
            names[thread.ident] = thread.name
    found = [(_name(getcurrent(), names), sys._getframe(1))]
    # The main greenlet and the loop's greenlet are added separately, because `get_objects` does not
    # return them after gochat_command.py has called `gc.freeze`.
    others = [each for each in gc.get_objects() if isinstance(each, greenlet)]
    for each in dict.fromkeys((HUB.parent, HUB, *others)):
        if each.gr_frame is not None:
            found.append((_name(each, names), each.gr_frame))
    return found


def _name(each: Any, names: dict[int, str]) -> str:
    from gevent.thread import get_ident  # noqa: PLC0415

    if each is HUB:
        return "gevent's loop"
    ident = get_ident(each)
    return f"greenlet {names.get(ident, ident)}"

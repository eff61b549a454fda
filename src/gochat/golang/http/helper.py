"""Helpers: each connection gets its second thread before its client gets a 101.

In Go, the go statement cannot fail. Here the system may run out of threads, and after a 101 it is
too late for a 503.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from ..runtime import Lock, Thread

__all__ = ["Helper", "Helpers", "new_helper"]

# How long a connection waits for a thread when the system has no more of them, in seconds.
_THREAD_WAIT: Final = 1.0


class Helper:
    """A thread that waits for the one function that it will call.

    The owner of a Helper calls either `go` or `dismiss`, once.
    """

    def __init__(self) -> None:
        # Held until the helper has a function, or is dismissed. On greenlets, `run` never waits for
        # it, because the thread starts only then.
        self._gate = Lock()
        self._gate.acquire()
        self._function: Callable[[], object] | None = None
        #: The thread. Set before anyone gets the Helper.
        self.thread: Thread

    def run(self) -> None:
        """Wait for the function and call it. Thread: the helper's own."""
        self._gate.acquire()
        function, self._function = self._function, None
        if function is not None:
            function()

    def go(self, function: Callable[[], object], name: str) -> None:
        """Let the thread call the function; the thread then gets this name."""
        self.thread.name = name
        self._function = function
        self._begin()

    def dismiss(self) -> None:
        """End the thread without giving it a function."""
        self._begin()

    def _begin(self) -> None:
        self._gate.release()
        self.thread.begin()


def new_helper(name: str) -> Helper:
    """Return a helper with this name. Raises RuntimeError if there is no thread for it."""
    helper = Helper()
    thread = helper.thread = Thread(helper.run, name)
    try:
        thread.reserve()
    except (RuntimeError, MemoryError) as error:
        helper.dismiss()  # after a MemoryError the thread may be running
        del helper.thread  # breaks a cycle: the thread never drops its target
        raise RuntimeError(str(error)) from error
    return helper


class _Vacancy:
    """A place for a helper that has no thread yet, and an event for the thread's arrival."""

    def __init__(self) -> None:
        self.helper: Final = Helper()
        self.filled: Final = threading.Event()


class Helpers:
    """Starts helpers, or borrows threads for them when the system has no more. One for each server.

    If threads run out, many connections may each have one thread and need a second. Refusing all of
    them would serve nobody, although there are enough threads for half. So they pair up: the first
    connection waits, the second is refused, and when the second is closed, its thread becomes the
    first connection's helper. The thread is passed on while it is running: if it ended first, the
    accepting thread could use its place to start a thread for a new connection. Any other thread
    whose connection ends may also become a helper.

    Thread: any.
    """

    def __init__(self) -> None:
        # Guards the two fields below.
        self._lock = Lock()
        # The waiting connection's vacancy, until another connection is refused to fill it.
        self._waiting: _Vacancy | None = None
        # The vacancies for which another connection was refused; the thread of that connection will
        # come soon. There are at most half as many vacancies as threads.
        self._promised: deque[_Vacancy] = deque()

    def hire(self, name: str) -> Helper:
        """Return a helper with this name. Raises RuntimeError if there is no thread for it.

        Waits up to a second for the thread of another connection before it raises.
        """
        try:
            return new_helper(name)
        except RuntimeError as error:
            return self._borrow(error)

    def _borrow(self, error: Exception) -> Helper:
        """Wait for the thread of a connection that ends. Raises RuntimeError if there is none."""
        vacancy = _Vacancy()
        with self._lock:
            if self._waiting is not None:
                self._promised.append(self._waiting)
                self._waiting = None
                raise RuntimeError(str(error)) from error
            self._waiting = vacancy
        vacancy.filled.wait(_THREAD_WAIT)
        with self._lock:
            if self._waiting is vacancy:
                self._waiting = None
                raise RuntimeError(str(error)) from error
            if vacancy in self._promised:
                self._promised.remove(vacancy)
                raise RuntimeError(str(error)) from error
        return vacancy.helper

    def lend(self) -> None:
        """Let the calling thread become a helper, if a connection waits for one.

        Thread: one that has nothing more to do.
        """
        with self._lock:
            if self._promised:
                vacancy = self._promised.popleft()
            elif self._waiting is not None:
                vacancy, self._waiting = self._waiting, None
            else:
                return
            vacancy.helper.thread = cast("Thread", threading.current_thread())
        vacancy.filled.set()
        vacancy.helper.run()

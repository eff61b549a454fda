"""Helpers: the second threads of connections.

Go's go statement cannot fail. Here, the system may run out of threads. So a connection gets its
second thread before the server answers 101, because it can no longer answer 503 after that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, cast

from ..runtime import Lock, Thread

__all__ = ["Helper", "Helpers", "new_helper"]

# How long a connection waits for another connection's thread, in seconds.
_THREAD_WAIT: Final = 1.0


class Helper:
    """A thread that waits for a function to call.

    The owner of a Helper calls either `go` or `dismiss`, exactly once.
    """

    def __init__(self) -> None:
        # Held until `go` or `dismiss` is called. On greenlets, the thread starts only after that,
        # so it never waits for this lock.
        self._gate = Lock()
        self._gate.acquire()
        self._function: Callable[[], object] | None = None
        #: The thread. The code that creates the Helper sets it.
        self.thread: Thread

    def run(self) -> None:
        """Wait for the function and call it. Thread: the helper's own."""
        self._gate.acquire()
        function, self._function = self._function, None
        if function is not None:
            function()

    def go(self, function: Callable[[], object], name: str) -> None:
        """Name the thread and let it call the function."""
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
    """Start a helper. name: its thread's name. Raises RuntimeError if no thread can start."""
    helper = Helper()
    thread = helper.thread = Thread(helper.run, name)
    try:
        thread.reserve()
    except (RuntimeError, MemoryError) as error:
        helper.dismiss()  # after a MemoryError, the thread may be running
        del helper.thread  # breaks a reference cycle: a thread that never ran keeps its target
        raise RuntimeError(str(error)) from error
    return helper


class Helpers:
    """Starts helpers, or reuses the threads of other connections. Each server has one. Thread: any.

    Suppose that the system cannot start any more threads, and that many connections need a second
    one. If all of them were refused, none would be served, although there are enough threads for
    half of them. So connections form pairs: the first waits, the second is refused, and the
    second's thread then becomes the helper of the first. The thread of any other connection that
    ends may also become that helper.

    The thread does not end in between. If it did, the accepting thread might start a thread for a
    new connection in its place.
    """

    def __init__(self) -> None:
        # Guards the fields below.
        self._lock = Lock()
        # Wakes connections that wait.
        self._changed = threading.Condition(self._lock)
        # How many connections wait for a thread.
        self._waiting = 0
        # How many of these connections will get the thread of one that was refused.
        self._promised = 0
        # Helpers for connections that no longer count as waiting, but have not woken yet.
        self._lent: list[Helper] = []

    def hire(self, name: str) -> Helper:
        """Return a helper. name: the name of its thread.

        If no thread can start, wait up to a second for another connection's thread. Raises
        RuntimeError if it gets none.
        """
        try:
            return new_helper(name)
        except RuntimeError:
            if helper := self._borrow():
                return helper
            raise

    def _borrow(self) -> Helper | None:
        """Wait for another connection's thread. Return None if the calling connection is refused.

        That happens if no thread becomes free, or if another connection needs the calling thread.
        """
        with self._lock:
            if self._waiting > self._promised:
                self._promised += 1
                return None
            self._waiting += 1
            if self._changed.wait_for(lambda: self._lent, _THREAD_WAIT):
                return self._lent.pop()
            self._waiting -= 1
            self._promised = min(self._promised, self._waiting)
            return None

    def lend(self) -> None:
        """Let the calling thread become a helper, if a connection waits for one.

        Thread: a connection's own, as its last step.
        """
        with self._lock:
            if not self._waiting:
                return
            # First what may fail for lack of memory.
            helper = Helper()
            helper.thread = cast("Thread", threading.current_thread())
            self._lent.append(helper)
            self._waiting -= 1
            self._promised = max(0, self._promised - 1)
            self._changed.notify()
        helper.run()

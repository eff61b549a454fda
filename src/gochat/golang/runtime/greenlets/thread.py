"""Threads for connections, which run as greenlets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from greenlet import GreenletExit, getcurrent, greenlet

from ...goroutine import Goroutine
from .turns import turns
from .waiter import HUB, Waiter

__all__ = ["Thread"]


def _handle_of(thread: threading.Thread) -> Any:
    """Return the thread's handle; None before Python 3.13, where threads have no handle."""
    return getattr(thread, "_os_thread_handle", getattr(thread, "_handle", None))


# The handles of a thread that is running and of one that is not.
_RUNNING: Final = _handle_of(threading.main_thread())
_ENDED: Final = _handle_of(threading.Thread())


class Thread(Goroutine):
    """A daemon thread that runs as a plain greenlet.

    It takes half as much memory and time as gevent's thread, because it has no lock, no links and
    no second object, and `start` does not wait for the thread to run. `threading.enumerate`
    includes the thread.

    target: the function to call. name: the thread's name.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(target, name)
        # The thread's greenlet; None before the start and after the end.
        self._greenlet: greenlet | None = None
        # Waiters of the greenlets in `join`; None before the first.
        self._joining: list[Waiter] | None = None

    def start(self) -> None:
        """Start the thread. The thread first runs when the caller waits.

        Raises RuntimeError if called again.
        """
        if self.ident is not None:
            raise RuntimeError("threads can only be started once")
        self._greenlet = greenlet(self._go, HUB)
        self._ident = id(self._greenlet)
        self._share_started()
        threading._active[self._ident] = self  # type: ignore[attr-defined]
        HUB.loop.run_callback(self._greenlet.switch)

    def reserve(self) -> None:
        """Do nothing: a greenlet can always be started."""

    def begin(self) -> None:
        """Start a reserved thread."""
        self.start()

    def _go(self) -> None:
        try:
            self.run()
        except GreenletExit:
            pass
        except BaseException:
            self._invoke_excepthook(self)
        finally:
            turns.ended(getcurrent())
            threading._active.pop(self.ident, None)  # type: ignore[attr-defined]
            self._greenlet = None
            self._is_stopped = True  # for `repr`, up to Python 3.12
            for waiter in self._joining or ():
                waiter.wake()

    # gevent needs the handle in the child process after a fork, and `repr` needs it to show the
    # thread's state.
    _handle = _os_thread_handle = property(
        lambda self: _RUNNING if self.is_alive() else _ENDED, lambda _self, _handle: None
    )

    def _after_fork(self, new_ident: int | None = None) -> None:
        """Do nothing: the child process has all greenlets, with the same idents.

        Since Python 3.13, `threading` calls this method in the child process after a fork. The base
        class's method works only for operating system threads.
        """

    def is_alive(self) -> bool:
        """Return whether the thread has been started and has not ended."""
        return self._greenlet is not None

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, for at most `timeout` seconds.

        Raises RuntimeError if this is the calling thread or was not started.
        """
        if self.ident is None:
            raise RuntimeError("cannot join thread before it is started")
        if self._greenlet is getcurrent():
            raise RuntimeError("cannot join current thread")
        if self._greenlet is None:
            return
        waiter = Waiter()
        if self._joining is None:
            self._joining = []
        self._joining.append(waiter)
        try:
            waiter.park(None if timeout is None else monotonic() + timeout)
        finally:
            waiter.end()
            self._joining.remove(waiter)

"""Ctrl-C for greenlets."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_stack
from types import FrameType

from gevent import get_hub, getcurrent

__all__ = ["sigint_to_caller"]


@contextmanager
def sigint_to_caller() -> Iterator[None]:
    """Make SIGINT raise KeyboardInterrupt in the calling greenlet during the block.

    By default, Python raises KeyboardInterrupt in whichever greenlet is running. In a write pump,
    the exception would end only that pump. In the middle of a send, the receiver might then never
    be woken. So if the signal arrives while another greenlet or an operation of this runtime is
    running, the exception is raised in the caller's current or next wait.

    A handler other than Python's default stays in place. Thread: any; has an effect only on the
    main thread.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    caller = getcurrent()

    def interrupt(_number: int, frame: FrameType | None) -> None:
        if getcurrent() is caller and not _is_inside(frame):
            raise KeyboardInterrupt
        get_hub().loop.run_callback(caller.throw, KeyboardInterrupt())

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_inside(frame: FrameType | None) -> bool:
    """Return whether the frame or one of its callers belongs to this package."""
    return any(each.f_globals.get("__package__") == __package__ for each, _ in walk_stack(frame))

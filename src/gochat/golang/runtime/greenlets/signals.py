"""Ctrl-C for greenlets."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gevent import get_hub, getcurrent

__all__ = ["sigint_to_caller"]


@contextmanager
def sigint_to_caller() -> Iterator[None]:
    """Make SIGINT raise KeyboardInterrupt in the calling greenlet during the block.

    Python would raise it in whichever greenlet is running; if that is a write pump, only the pump
    would end. A handler other than Python's default is left in place. Thread: any, but it has an
    effect only on the main one.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    caller = getcurrent()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if getcurrent() is caller:
            raise KeyboardInterrupt
        get_hub().loop.run_callback(caller.throw, KeyboardInterrupt())

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)

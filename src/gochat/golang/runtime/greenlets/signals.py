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
    """Have SIGINT raise KeyboardInterrupt in the calling greenlet, during the block.

    Python would raise it in whichever greenlet runs, where a write pump would end and nobody else
    would notice. A handler other than Python's own is left alone. Thread: any; it is the main one
    that counts.
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

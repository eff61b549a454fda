"""Temporary signal handlers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

__all__ = ["handling"]


@contextmanager
def handling(handlers: Mapping[int, Callable[[int, object], object]]) -> Iterator[None]:
    """Handle signals during the block, then restore the previous handlers.

    handlers: maps signal numbers to handlers. Thread: the main one.
    """
    before = {}
    try:
        for number, handler in handlers.items():
            before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, was in before.items():
            # None means that the handler was not set from Python. Python cannot restore it.
            signal.signal(number, signal.SIG_DFL if was is None else was)

"""Temporary signal handlers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

__all__ = ["handling"]


@contextmanager
def handling(handlers: Mapping[int, Callable[[int, object], object]]) -> Iterator[None]:
    """Handle signals in the block, each with its handler; restore the old handlers at its end.

    Thread: the main one.
    """
    before = {}
    try:
        for number, handler in handlers.items():
            before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, was in before.items():
            # None: a handler that is not Python's, which Python cannot set again.
            signal.signal(number, signal.SIG_DFL if was is None else was)

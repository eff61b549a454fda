"""The log: what Go has in its package log, and at SIGQUIT from its runtime.

Each line has a date, as Go's. But nobody waits for a log that is not taken.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

__all__ = ["LogHandler", "dump_threads"]

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # to Python 3.10 it is no generic


class LogHandler(_StreamHandler):
    """Writes the log to stderr, but does not wait for who takes nothing: Ctrl-S, a full pipe.

    A chat that waited for its log would take no signal, and keep clients who are gone. The first
    line that is not taken waits a second. That one and those that follow are lost, until one is
    taken: then the log says how many there were.
    """

    # How many, in a row. Guarded by the handler's lock.
    lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or lose it. The handler's lock is held."""
        with suppress(TypeError, OSError, ValueError):  # it is no file, or there is none
            if not writable(self.stream, 0.0 if self.lost else 1.0):
                self.lost += 1
                return
        if self.lost:
            text = f"{self.lost} lines of the log were not taken, and are lost"
            self.lost = 0
            super().emit(logging.makeLogRecord({"msg": text}))
        super().emit(record)


def writable(stream: TextIO, timeout: float) -> bool:
    """Whether a line can be written without waiting, or will be within so many seconds.

    Raises TypeError, OSError or ValueError for a stream of no file, and for None.
    """
    poll = select.poll()
    poll.register(stream, select.POLLOUT)
    return bool(poll.poll(timeout * 1000))


# Held while the threads are dumped.
dumping = threading.Lock()


def dump_threads() -> None:
    """Write to stderr what each thread is at, by name, as Go does at SIGQUIT.

    For a signal's handler, which may interrupt itself: then once is enough. It may also interrupt
    somebody who writes to sys.stderr, so it writes past that.
    """
    if not dumping.acquire(blocking=False):
        return
    try:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        text = ""
        for ident, frame in sys._current_frames().items():
            where = "".join(traceback.format_stack(frame))
            text += f"thread {names.get(ident, ident)}:\n{where}\n"
        with suppress(TypeError, OSError, ValueError):  # it is closed, or full, or no file
            if writable(sys.stderr, 0.0):
                os.write(sys.stderr.fileno(), text.encode(errors="backslashreplace"))
    finally:
        dumping.release()

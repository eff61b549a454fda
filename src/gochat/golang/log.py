"""The log (Go: package log), and a dump of all threads (Go's runtime writes one at SIGQUIT).

Each line has a date, as in Go. But no thread waits long for a log that nobody reads, such as a full
pipe or a terminal after Ctrl-S: otherwise the chat would miss signals and keep clients that have
left.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import sys
import threading
import time
import traceback
from _thread import start_new_thread
from contextlib import suppress
from typing import Final

from .runtime import stacks, writable

__all__ = ["LogHandler", "dump_threads"]

# Time allowed for the log to accept a line, in seconds. After a timeout, later lines do not wait.
_PATIENCE: Final = 1.0

# The part of the time that lines may wait for a log that is read too slowly.
_SHARE: Final = 0.1


class LogHandler(logging.Handler):
    """Writes the log to stderr.

    A line that is not accepted within a second is lost. Later lines are then dropped without
    waiting, until the log accepts a line again, preceded by the number of lost lines. If the log is
    read too slowly, lines wait for a tenth of the time, so some are lost: threads that log would
    otherwise wait in a long line.
    """

    def __init__(self) -> None:
        super().__init__()
        # All guarded by the handler's lock: where to write, how many lines in a row were lost, and
        # whether the last write ended within a line.
        self._output = Output()
        self._lost = 0
        self._half = False
        # How long lines may wait now, in seconds; and when the last line was written.
        self._patience = _PATIENCE
        self._wrote = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or drop it. The caller holds the handler's lock."""
        line = f"{self.format(record)}\n"
        if self._lost:
            line = f"{self._lost} log lines were not accepted, and are lost\n{line}"
        if self._half:
            line = f"\n{line}"
        data = line.encode(errors="backslashreplace")
        begin = time.monotonic()
        self._patience = min(_PATIENCE, self._patience + (begin - self._wrote) * _SHARE)
        written = self._output.write(data, 0.0 if self._lost else self._patience)
        self._wrote = time.monotonic()
        # Not below 0: the time may be that of a pause of the whole process.
        self._patience = max(0.0, self._patience - (self._wrote - begin))
        if written:
            self._half = written < len(data)
        self._lost = self._lost + 1 if written < len(data) else 0

    def close(self) -> None:
        """Stop writing. `logging.shutdown` calls this at the end of the process."""
        self._output.close()
        super().close()


class Output:
    """Writes to stderr without waiting for a reader that does not read.

    `poll` says whether there is room, but not how much, so a write could block. Therefore a pipe or
    terminal is opened a second time, with O_NONBLOCK. (On the first descriptor, that flag would
    also apply to other processes that share it.) A socket cannot be opened again; like a pipe, it
    has room for PIPE_BUF bytes when it has any.
    """

    def __init__(self) -> None:
        # -1 if there is no stderr.
        self._descriptor = -1
        self._own = False
        try:
            self._descriptor = sys.stderr.fileno()
            mode = os.fstat(self._descriptor).st_mode
        except (AttributeError, OSError, ValueError):  # no stderr, or one without a file
            return
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            with suppress(OSError):  # it belongs to another user, or there is no /proc
                self._descriptor = os.open(f"/proc/self/fd/{self._descriptor}", flags)
                self._own = True

    def write(self, data: bytes, patience: float) -> int:
        """Write as many bytes as possible within `patience` seconds, and return how many.

        Bytes lost because the disk is full or the other end has closed count as written.
        """
        if self._descriptor < 0:
            return len(data)
        deadline = time.monotonic() + patience
        poll = writable(self._descriptor)
        written = 0
        with suppress(OSError):
            while written < len(data):
                left = deadline - time.monotonic()
                if not poll.poll(max(0.0, left) * 1000):
                    return written
                piece = data[written : written + select.PIPE_BUF]
                if written + len(piece) < len(data):
                    # Whole lines if possible, because another process may write in between.
                    piece = piece[: piece.rfind(b"\n") + 1] or piece
                written += os.write(self._descriptor, piece)
        return len(data)

    def close(self) -> None:
        """Close the descriptor if this object opened it."""
        if self._own:
            os.close(self._descriptor)
        self._descriptor, self._own = -1, False


# Held while the threads are dumped.
dumping = threading.Lock()


def dump_threads() -> None:
    """Write to stderr what each thread is doing, by name, as Go does at SIGQUIT.

    For a signal handler. The handler may interrupt itself; then one dump is enough. It may also
    interrupt a thread that writes to sys.stderr, so this does not use sys.stderr. The handler
    itself writes what stderr accepts immediately: no other greenlet runs while one computes. A new
    thread writes the rest, because on greenlets everyone would wait for the handler.
    """
    if not dumping.acquire(blocking=False):
        return
    rest, output = b"", Output()
    try:
        text, known = "", {}
        for name, frame in stacks():
            # Walked once, because the thread may be running.
            steps = [*traceback.walk_stack(frame)][::-1]
            # Most pumps are at the same place, and formatting a stack takes long.
            place = tuple((each.f_code, line) for each, line in steps)
            if place not in known:
                known[place] = "".join(traceback.StackSummary.extract(steps).format())
            text += f"{name}:\n{known[place]}\n"
        data = text.encode(errors="backslashreplace")
        rest = data[output.write(data, 0.0) :]
        if rest:
            try:
                start_new_thread(_finish, (output, rest))
            except (RuntimeError, MemoryError):
                rest = b""  # the system has no more threads, so the rest is lost
    finally:
        if not rest:
            _finish(output, b"")


def _finish(output: Output, rest: bytes) -> None:
    """Write the rest of a dump, as far as stderr accepts it in time."""
    try:
        output.write(rest, _PATIENCE)
    finally:
        output.close()
        dumping.release()

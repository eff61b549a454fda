"""The log (Go: package log), and a dump of all threads (Go: SIGQUIT).

Unlike in Go, no thread waits long for a log that nobody reads, such as a full pipe or a terminal
paused with Ctrl-S. Otherwise, the chat would stop handling signals and disconnects.
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

# The longest time that a line may wait, in seconds.
_PATIENCE: Final = 1.0

# The fraction of the total time that lines may spend waiting.
_SHARE: Final = 0.1


class LogHandler(logging.Handler):
    """Writes the log to stderr, and drops lines that stderr does not accept in time.

    A line waits for up to a second. Once a line is lost, later lines do not wait. The first that
    stderr accepts is preceded by the number of lost lines; then lines wait again. In total, lines
    spend at most a tenth of the time waiting, so some are lost if stderr is read too slowly.
    Without this limit, more and more threads would wait to log.
    """

    def __init__(self) -> None:
        super().__init__()
        # The handler's lock guards all fields.
        self._output = Output()
        # The number of lines lost since the last line was accepted.
        self._lost = 0
        # Whether the last write ended in the middle of a line.
        self._half = False
        # How long the next line may wait, in seconds.
        self._patience = _PATIENCE
        # When the last write ended.
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
        # The whole process may have been paused, so the difference may be large.
        self._patience = max(0.0, self._patience - (self._wrote - begin))
        if written:
            self._half = written < len(data)
        self._lost = self._lost + 1 if written < len(data) else 0

    def close(self) -> None:
        """Stop writing. `logging.shutdown` calls this at the end of the process."""
        self._output.close()
        super().close()


class Output:
    """Writes to stderr, with a time limit.

    `poll` reports whether there is room, but not how much, so a write could still block. Therefore
    a pipe or a terminal is opened again, with O_NONBLOCK. (Setting that flag on the existing
    descriptor would also affect other processes that share the open file.) A socket cannot be
    opened again, but if `poll` reports room, it has room for at least PIPE_BUF bytes.
    """

    def __init__(self) -> None:
        # The descriptor of stderr; -1 if there is none.
        self._descriptor = -1
        self._own = False
        try:
            self._descriptor = sys.stderr.fileno()
            mode = os.fstat(self._descriptor).st_mode
        except (AttributeError, OSError, ValueError):  # there is no stderr, or it is not a file
            return
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            with suppress(OSError):  # the file belongs to another user, or there is no /proc
                self._descriptor = os.open(f"/proc/self/fd/{self._descriptor}", flags)
                self._own = True

    def write(self, data: bytes, patience: float) -> int:
        """Write as many bytes as possible within `patience` seconds. Return their number.

        If the disk is full or the reader is gone, all bytes count as written.
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
                    # Write whole lines if possible, because another process may write between two
                    # pieces.
                    piece = piece[: piece.rfind(b"\n") + 1] or piece
                written += os.write(self._descriptor, piece)
        return len(data)

    def close(self) -> None:
        """Close the descriptor if this object opened it."""
        if self._own:
            os.close(self._descriptor)
        self._descriptor, self._own = -1, False


# Held during a dump.
dumping = threading.Lock()


def dump_threads() -> None:
    """Write the name and stack of each thread to stderr. Call this in a signal handler.

    Does nothing while another dump is being written. Does not use sys.stderr, because the handler
    may have interrupted a write to it. Writes only what stderr accepts immediately, and leaves the
    rest to a new thread, because on greenlets nothing else runs during a signal handler.
    """
    if not dumping.acquire(blocking=False):
        return
    rest, output = b"", Output()
    try:
        text, known = "", {}
        for name, frame in stacks():
            # Read the stack only once, because the thread may be running.
            steps = [*traceback.walk_stack(frame)][::-1]
            # Formatting a stack is slow, and most pumps have the same stack.
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
                rest = b""  # no thread can start, so the rest is lost
    finally:
        if not rest:
            _finish(output, b"")


def _finish(output: Output, rest: bytes) -> None:
    """Write the rest of a dump, for up to _PATIENCE seconds, and end the dump."""
    try:
        output.write(rest, _PATIENCE)
    finally:
        output.close()
        dumping.release()

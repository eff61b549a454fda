"""WebSocket connections: reading, writing and closing (gorilla/websocket: conn.go).

Threads: each connection has one reading thread and one writing thread. Any thread may close it.

Deadlines are times of `time.monotonic()`, in seconds. If the whole process pauses, all deadlines
move by the length of the pause (see clock.py). The socket stays in blocking mode without a timeout,
because a timeout would apply to both directions and make `send` give up in the middle of a frame.
Instead, reads and writes wait in `poll`, each until its own deadline.

Most messages are short texts in one frame, which are parsed here. All other input goes through
simple-websocket, which also writes pongs and the answers to close frames. One lock guards all
writes, so that no frame lands in the middle of another.

Errors: every failure to read or write raises an OSError: a CloseError, ProtocolError or
ReadLimitError, a TimeoutError after a deadline, or the system's own error. After that, the
connection cannot be used.
"""

from __future__ import annotations

import copy
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from .. import clock
from ..frames import frame, mask, read_header
from ..runtime import RLock, hung_up, nonblocking, readable, turns, writable
from .library import Library
from .protocol import (
    BINARY_MESSAGE,
    CLOSE_ABNORMAL_CLOSURE,
    CLOSE_INTERNAL_SERVER_ERR,
    CLOSE_INVALID_FRAME_PAYLOAD_DATA,
    CLOSE_MESSAGE,
    CLOSE_MESSAGE_TOO_BIG,
    CLOSE_NO_STATUS_RECEIVED,
    CLOSE_POLICY_VIOLATION,
    PING_MESSAGE,
    PONG_MESSAGE,
    TEXT_MESSAGE,
    CloseError,
    ProtocolError,
    ReadLimitError,
    format_close_message,
    is_utf8,
)

if TYPE_CHECKING:
    import select

__all__ = [
    "CONTROL_WAIT",
    "Conn",
    "ConnObserver",
    "ConnOptions",
    "ConnStatistics",
    "Waiting",
    "await_room",
    "send_all",
]

#: Time limit for writing a pong or a close frame that this package sends on its own, in seconds.
#: This includes the wait for the lock. In gorilla/websocket: writeWait.
CONTROL_WAIT: Final = 1.0

# How long a peer may take to answer a close frame, in seconds. Then the socket is shut down.
_CLOSE_WAIT: Final = 1.0

# Input that arrives during that time is discarded. Each read takes at most _REST_SIZE bytes, and is
# followed by a pause of _REST_PAUSE seconds, in case the peer sends a flood.
_REST_SIZE: Final = 65536
_REST_PAUSE: Final = 0.001

# If a caller takes more than this many seconds to call `read_message` again, the delay is added to
# the read deadline.
_LATE: Final = 1.0

# A message may have this many frames, plus one for every _FRAGMENT bytes.
_FRAGMENTS: Final = 1024
_FRAGMENT: Final = 16

# After working for _WORK seconds, a reading thread sleeps for _SLEEP seconds. It waits at most
# _SLEEP_WAIT seconds for each of the two locks below. With a GIL, a thread that reads a flood would
# otherwise keep the interpreter: it releases the GIL in each system call, but takes it back before
# a waiting thread has woken up.
_WORK: Final = 0.002
_SLEEP: Final = 0.001
_SLEEP_WAIT: Final = 1.0

# Held by a reading thread while it sleeps, so only one thread sleeps at a time. During a flood on
# many connections, only two or three readers work, and the others wait for this lock or for
# `_next`. If fifty worked at once, every wait for the GIL would be long, and delivering a message
# takes several such waits.
_sleeping: Final = RLock()

# Held by the reading thread that will sleep next. Without this lock, a thread that has just slept
# could take `_sleeping` again before the next thread wakes up.
_next: Final = RLock()

# An empty close frame, masked with zeros.
_EMPTY_CLOSE: Final = b"\x88\x80\0\0\0\0"


@dataclass(frozen=True)
class ConnOptions:
    """Options that an Upgrader applies to all its connections."""

    #: Whether binary messages must be valid UTF-8, as text messages must be. Set this in a program
    #: that passes binary messages on as text.
    utf8_only: bool = False

    #: The maximum number of bytes to read from the socket in one call.
    read_buffer_size: int = 4096

    #: The maximum number of frames to read per second, including control frames; None for no limit.
    #: A peer that sends faster has to wait: reading pauses, and TCP slows the peer down. Pongs and
    #: close frames also wait behind the frames before them, so each pause is added to the read
    #: deadline. If the connection ends during a pause, the unread frames are lost.
    read_rate: float | None = None

    #: How many frames may be read in a burst before `read_rate` applies.
    read_burst: int = 1

    #: A function that is called with the connection and each message. It returns a message to pass
    #: on instead, or None to drop the message. For example, it can parse JSON, or put the user's
    #: name before the text. It may raise ProtocolError, which disconnects the peer with the error's
    #: code and text. Thread: the reader.
    on_message: Callable[[Conn, bytes], bytes | None] | None = None


class Waiting(NamedTuple):
    """The event that a thread waits for, and how long it has waited so far, in seconds."""

    #: One of these:
    #:
    #: - `input`: data from the peer
    #: - `rate`: the end of a pause for a peer that exceeds `read_rate`
    #: - `room`: room in the socket's send buffer
    #: - `lock`: the end of another thread's write
    #: - `close`: the peer's answer to a close frame
    what: str
    seconds: float


@dataclass(frozen=True)
class ConnStatistics:
    """Counters of a connection, and what its threads are waiting for.

    The counters are read without a lock: they may lag by one frame, but never decrease.
    """

    remote_addr: str

    #: Messages received, including those that `on_message` has dropped.
    messages_in: int
    #: Frames read, including control frames.
    frames_in: int
    #: Pings and pongs among `frames_in`.
    pings_in: int
    pongs_in: int
    #: Bytes read from the socket.
    bytes_in: int

    #: Text and binary frames written.
    messages_out: int
    #: Frames written, including control frames.
    frames_out: int
    #: Pings and pongs among `frames_out`.
    pings_out: int
    pongs_out: int
    #: Bytes of all written frames, including headers.
    bytes_out: int
    #: How often a write found the socket's send buffer full.
    stalls: int
    #: Messages dropped at their deadline because another thread was still writing.
    given_up: int

    #: Codes of the close frames that the peer and this side sent; None if there was none.
    close_code_in: int | None
    close_code_out: int | None
    #: The errors that ended reading and writing; None if there was none.
    read_error: OSError | None
    write_error: OSError | None

    #: The `ident` of the thread that last called `read_message`; None before the first call.
    reader_thread: int | None
    #: What the reading and the writing thread are waiting for; None for a thread that is not
    #: waiting.
    reader: Waiting | None
    writer: Waiting | None


class ConnObserver(Protocol):
    """Receives the events of a connection, each on the thread that causes the event.

    No method may raise an exception.
    """

    def reads(self) -> None:
        """Called when `read_message` begins."""

    def waits(self, what: str) -> None:
        """Called before the thread waits. what: see `Waiting`."""

    def works(self) -> None:
        """Called when the wait has ended, even by an exception."""

    def writes(self, message_type: int) -> None:
        """Called before `write_message` writes a frame."""

    def wrote(self, message_type: int) -> None:
        """Called after `write_message` has written a frame, but not after an error."""

    def closed(self) -> None:
        """Called at the end of `Conn.close`, even after an exception."""


class _Counts:
    """The counters for ConnStatistics.

    They have their own object, because an object with more than 30 attributes is slower.
    """

    __slots__ = (
        *("bytes_in", "bytes_out", "close_code_in", "close_code_out"),
        *("frames_out", "given_up", "input_since", "messages_in", "pings_in", "pings_out"),
        *("pongs_in", "pongs_out", "reader_waits", "slow_frames", "slow_messages", "stalls"),
        *("writer_waits",),
    )

    def __init__(self, bytes_in: int) -> None:
        # Written by the reading thread.
        self.bytes_in = bytes_in
        self.messages_in = 0
        # slow_messages counts the messages that came through the library. slow_frames counts all
        # frames except the messages parsed here.
        self.slow_messages = self.slow_frames = self.pings_in = self.pongs_in = 0
        self.close_code_in: int | None = None
        # When the current wait for input began; None if there is none.
        self.input_since: float | None = None
        # Any other wait of the reading thread: its reason and the time when it began.
        self.reader_waits: tuple[str, float] | None = None
        # Written by the writing thread.
        self.given_up = 0
        self.writer_waits: tuple[str, float] | None = None
        # Guarded by the write lock.
        self.frames_out = self.bytes_out = self.pings_out = self.pongs_out = self.stalls = 0
        self.close_code_out: int | None = None


class Conn:
    """The server's side of a WebSocket connection. Created by `Upgrader.upgrade`.

    sock: a socket in blocking mode, after the handshake. The caller still owns the descriptor.
    buffered: bytes that were already read from the socket after the handshake.
    remote_addr: the peer's address and port, such as `127.0.0.1:5000` or `[::1]:5000`.
    """

    def __init__(
        self,
        sock: socket.socket,
        buffered: bytes,
        remote_addr: str,
        options: ConnOptions = ConnOptions(),
    ) -> None:
        self.remote_addr: Final = remote_addr
        #: The user's name: REMOTE_USER in the environ of the handshake, or an empty string.
        self.user = ""
        #: The observer, if any. Set it before the connection is used.
        self.observer: ConnObserver | None = None
        self._sock = sock
        self._out = nonblocking(sock)
        self._options = options

        #: The error that ended reading, or None. Set once, by the reading thread.
        #: Any thread may read it.
        self.read_error: OSError | None = None
        #: The error that ended writing, or None. Set once, under the write lock.
        #: Any thread may read it.
        self.write_error: OSError | None = None

        # The fields below are for the reading thread only. Times are those of clock.now.
        self._input = bytearray(buffered)
        self._counts = _Counts(bytes_in=len(buffered))
        self._readable = readable(sock)
        self._read_deadline: float | None = None
        # The time when the thread must give way: _WORK seconds after it began to look for a
        # message, or after its last sleep. Time spent waiting for input does not count.
        self._sleep_at = clock.now() + _WORK
        self._read_limit = 0
        # The size of the message that is being read, according to its headers so far.
        self._message_size = 0
        # The number of frames of that message that have begun.
        self._message_frames = 0
        # Bytes of the current frame's payload that are still unread.
        self._payload_left = 0
        # Seconds per frame at the read rate; 0 if there is no rate.
        self._frame_time = 1 / options.read_rate if options.read_rate else 0.0
        # How far ahead of the rate a burst may be, in seconds.
        self._ahead = self._frame_time * options.read_burst
        # When the frames so far would have ended if they had come exactly at the rate.
        self._read_until = 0.0
        self._pong_handler: Callable[[], None] = _no_pong_handler
        # Created for the first frame that is not parsed here. Often, that is the close frame.
        self._library: Library | None = None

        # Held until reading has ended. `close` on another thread may wait for this lock.
        self._reading = threading.Lock()
        self._reading.acquire()
        # The last thread that called `read_message`; `close` must know if it runs on that thread.
        self._reader = 0

        # Guards `write_error`, the two fields below, and the order of frames on the socket. Only
        # the owner of an RLock can release it. So an interrupted thread that does not know whether
        # it has the lock can safely try to release it.
        self._write_lock = RLock()
        # Whether a close frame was sent. Set once, under the lock, but read without it. A thread
        # that reads this or `write_error` too early sees the old value. At worst, the reading
        # thread then reads one more message, or `close` waits for an answer until its time limit.
        self._close_sent = False
        # `_write` raises a copy of this exception; None if another frame may be written.
        self._barred: Exception | None = None
        # A time of clock.now. Only the writing thread uses it.
        self._write_deadline: float | None = None

    @property
    def sock(self) -> socket.socket:
        """The socket. The HTTP server identifies the connection by it. Thread: any."""
        return self._sock

    def statistics(self) -> ConnStatistics:
        """Return the counters, and what the threads are waiting for. Thread: any."""
        counts = self._counts
        controls = counts.pings_out + counts.pongs_out + (counts.close_code_out is not None)
        reader, since = counts.reader_waits, counts.input_since
        if since is not None:
            reader = "input", since
        return ConnStatistics(
            remote_addr=self.remote_addr,
            messages_in=counts.messages_in,
            frames_in=counts.messages_in - counts.slow_messages + counts.slow_frames,
            pings_in=counts.pings_in,
            pongs_in=counts.pongs_in,
            bytes_in=counts.bytes_in,
            messages_out=max(0, counts.frames_out - controls),
            frames_out=counts.frames_out,
            pings_out=counts.pings_out,
            pongs_out=counts.pongs_out,
            bytes_out=counts.bytes_out,
            stalls=counts.stalls,
            given_up=counts.given_up,
            close_code_in=counts.close_code_in,
            close_code_out=counts.close_code_out,
            read_error=self.read_error,
            write_error=self.write_error,
            reader_thread=self._reader or None,
            reader=_waiting_now(reader),
            writer=_waiting_now(counts.writer_waits),
        )

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Report that the calling thread waits during the block. what: see `Waiting`. Thread: any.

        The report goes to the observer, and to `statistics`.
        """
        reading = threading.get_ident() == self._reader
        waits = what, clock.now()
        if reading:
            self._counts.reader_waits = waits
        else:
            self._counts.writer_waits = waits
        observer = self.observer
        if observer is not None:
            observer.waits(what)
        try:
            yield
        finally:
            if observer is not None:
                observer.works()
            if reading:
                self._counts.reader_waits = None
            else:
                self._counts.writer_waits = None

    # Reading. Thread: the reader.

    def set_read_limit(self, limit: int) -> None:
        """Set the maximum size of a message in bytes; 0 for no limit. Thread: the reader."""
        self._read_limit = limit

    def set_read_deadline(self, deadline: float | None) -> None:
        """Set the read deadline, a `time.monotonic()` time or None. Thread: the reader."""
        self._read_deadline = None if deadline is None else clock.since(deadline)

    def set_pong_handler(self, handler: Callable[[], None]) -> None:
        """Set the function that the reading thread calls for each pong. Thread: the reader."""
        self._pong_handler = handler

    def read_message(self) -> tuple[int, bytes]:
        """Wait for the next message and return `(TEXT_MESSAGE or BINARY_MESSAGE, payload)`.

        Text is valid UTF-8. While waiting, this method answers pings and close frames, and calls
        the pong handler. After this side has written a close frame, the method discards messages
        and waits for the peer's answer. Thread: the reader.

        Raises:

        - CloseError if the peer has closed the connection.
        - ProtocolError or ReadLimitError if the peer broke a rule; the peer gets the close code.
        - TimeoutError at the read deadline.
        - ConnectionAbortedError if this side has closed the connection, or if the connection ended
          while reading was paused by `read_rate`.
        - Any other OSError from the system.

        Every later call raises the same error. Any other exception, such as one from the pong
        handler, also ends reading, and the peer gets the close code 1011.
        """
        self._begin_read()
        if self.read_error is not None:
            raise _bare(self.read_error)
        try:
            while True:
                text = self._take_plain_text()
                if text is not None:
                    message_type, message = TEXT_MESSAGE, text
                else:
                    digested = self._read_frame()
                    if digested is None:
                        self._give_way()
                        continue
                    message_type, message = digested
                    self._counts.slow_messages += 1
                if not self._close_sent:
                    if self._frame_time:
                        self._keep_rate()
                    self._counts.messages_in += 1
                    passed_on = self._pass_on(message) if self._options.on_message else message
                    if passed_on is not None:
                        self._sleep_at = clock.now() + _WORK
                        return message_type, passed_on
                self._give_way()
        except OSError as error:
            self._read_no_more(_bare(error))
            raise
        except BaseException:  # from a pong handler or a signal handler
            try:
                self._fail(CLOSE_INTERNAL_SERVER_ERR)
            finally:
                self._read_no_more(ConnectionAbortedError("websocket: reading has failed"))
            raise

    def _begin_read(self) -> None:
        self._reader = threading.get_ident()
        if self.observer is not None:
            self.observer.reads()
        now = clock.now()
        late = now - self._sleep_at
        self._sleep_at = now + _WORK
        if self._read_deadline is not None and late > _LATE:
            # The caller was late, not the peer: the expected pong may be in the unread input.
            self._read_deadline += late

    def _pass_on(self, message: bytes) -> bytes | None:
        """Call `on_message`, and disconnect the peer if it raises ProtocolError."""
        assert self._options.on_message is not None
        try:
            return self._options.on_message(self, message)
        except ProtocolError as error:
            self._fail(error.code, str(error))
            raise

    def _read_no_more(self, error: OSError) -> None:
        """End reading: set the error, release `_reading`, and break reference cycles.

        Reference counting then frees the connection. If the garbage collector had to do that for
        thousands of connections at the same time, it would stop all threads for a second.
        """
        self.read_error = error
        self._pong_handler = _no_pong_handler
        if self._library:
            self._library.forget()
            self._library = None
        with suppress(RuntimeError):  # `close` on this thread has already released it
            self._reading.release()

    def _keep_rate(self) -> None:
        """Wait until the read rate allows the frame that was just read.

        Raises ConnectionAbortedError if the connection ends first. Otherwise, all frames of a peer
        that floods and then disconnects would be read as fast as possible.
        """
        now = clock.now()
        self._read_until = max(self._read_until, now) + self._frame_time
        if self._read_until - self._ahead > now:
            ended = hung_up(self._sock)
            with self.waiting("rate"):
                over = _wait(ended, self._read_until - self._ahead)
            if over:
                raise ConnectionAbortedError("websocket: ended over the read rate")
            if self._read_deadline is not None:
                # This side paused, not the peer: the expected pong may be in the unread input.
                self._read_deadline += clock.now() - now

    def _give_way(self) -> None:
        """Sleep for a moment if this thread has worked for _WORK since its last message or sleep.

        A reader with a message waits for the hub, which lets other threads run. Without this
        method, a reader of frames that complete no message would never wait.
        """
        if clock.now() >= self._sleep_at:
            try:
                if _next.acquire(timeout=_SLEEP_WAIT) and _sleeping.acquire(timeout=_SLEEP_WAIT):
                    _next.release()
                    time.sleep(_SLEEP)
            finally:
                for lock in (_next, _sleeping):
                    # The thread may have been interrupted before it knew that it had the lock, so
                    # it always tries to release the lock: see `_write`.
                    with suppress(RuntimeError):
                        lock.release()
            self._sleep_at = clock.now() + _WORK

    def _take_plain_text(self) -> bytes | None:
        """Return the next message if it is a text in one frame that has completely arrived.

        Return None for any other input, including faulty frames, and leave it for the library,
        which takes tens of microseconds longer. Handles empty pongs before the message. Waits only
        if there is no input yet.
        """
        if self._payload_left or (self._library and self._library.inside_message):
            return None
        data = self._input
        while True:
            if not data:
                data += self._receive()
            if len(data) < 6 or not data.startswith(b"\x8a\x80"):
                break
            del data[:6]
            self._counts.slow_frames += 1
            self._counts.pongs_in += 1
            self._pong_handler()
            if self._frame_time and not self._close_sent:
                self._keep_rate()
        if len(data) < 8 or data[0] != 0x81 or not 0x80 <= data[1] <= 0xFE:
            return None
        short = data[1] - 0x80
        length, start = (short, 6) if short < 126 else (data[2] << 8 | data[3], 8)
        end = start + length
        if (short == 126) != (length >= 126) or end > len(data) or 0 < self._read_limit < length:
            return None
        text = mask(data[start:end], data[start - 4 : start])
        if not is_utf8(text):
            return None
        del data[:end]
        return text

    def _read_frame(self) -> tuple[int, bytes] | None:
        """Pass a frame, or the next piece of one, to the library. Return a completed message.

        Applies the read rate to frames that complete no message; `read_message` does so for the
        others.
        """
        if self._payload_left == 0:
            header = self._read_header()
        else:
            header = b""
            self._need(1)
        piece = self._input[: self._payload_left]
        del self._input[: len(piece)]
        self._payload_left -= len(piece)
        message = self._digest(header + bytes(piece))
        if message is None and self._frame_time and not (self._payload_left or self._close_sent):
            self._keep_rate()
        return message

    def _read_header(self) -> bytes:
        """Read a frame's header (RFC 6455, section 5.2), and check the limits of the message.

        The library checks the rest of the header.
        """
        while (header := read_header(self._input)) is None:
            self._input += self._receive()
        size, length = header
        opcode = self._input[0] & 0x0F
        self._counts.slow_frames += 1
        self._counts.pings_in += opcode == PING_MESSAGE
        self._counts.pongs_in += opcode == PONG_MESSAGE
        if opcode < CLOSE_MESSAGE:
            size_so_far = length + (0 if opcode else self._message_size)
            # A header that is not plain has another fault. The library reports that one, as in Go.
            plain = self._input[0] & 0x7F <= BINARY_MESSAGE and self._input[1] & 0x80
            if plain and 0 < self._read_limit < size_so_far:
                self._fail(CLOSE_MESSAGE_TOO_BIG)
                raise ReadLimitError("websocket: read limit exceeded")
            self._message_frames += 1
            if self._message_frames > _FRAGMENTS + size_so_far // _FRAGMENT:
                self._fail(CLOSE_POLICY_VIOLATION)
                raise ReadLimitError("websocket: a message with too many frames")
            if self._input[0] & 0x80:
                self._message_size = self._message_frames = 0
            else:
                self._message_size = size_so_far
        elif self._input.startswith(b"\x88\x81"):
            # A close frame with a payload of one byte, half a code. gorilla/websocket treats it
            # like an empty close frame, but the library would report a protocol error.
            return _EMPTY_CLOSE
        self._need(size)
        taken = bytes(self._input[:size])
        del self._input[:size]
        self._payload_left = length
        return taken

    def _need(self, size: int) -> None:
        """Read until `_input` has at least `size` bytes."""
        while len(self._input) < size:
            self._input += self._receive()

    def _receive(self) -> bytes:
        # The same steps as in `waiting`, which would be too slow for every read.
        observer = self.observer
        if observer is not None:
            observer.waits("input")
        try:
            now, deadline = clock.now(), self._read_deadline
            if now >= self._sleep_at:
                self._give_way()
                now = clock.now()
            timeout = None
            if deadline is not None:
                # Checked even if there is input. Otherwise, a peer that keeps sending but never
                # answers a ping would stay connected.
                if now >= deadline:
                    raise TimeoutError("websocket: read deadline exceeded")
                timeout = _milliseconds(deadline - now)
            self._counts.input_since = now
            if not self._readable.poll(timeout) and not _wait(self._readable, deadline):
                raise TimeoutError("websocket: read deadline exceeded")
            self._sleep_at += clock.now() - now
        finally:
            self._counts.input_since = None
            if observer is not None:
                observer.works()
        data = self._sock.recv(self._options.read_buffer_size)
        if not data:
            raise CloseError(CLOSE_ABNORMAL_CLOSURE, "unexpected EOF")
        self._counts.bytes_in += len(data)
        return data

    def _digest(self, data: bytes) -> tuple[int, bytes] | None:
        """Pass a piece of input to the library and act on the result."""
        if self._library is None:
            self._library = Library(self._send_for_library)
        library = self._library
        is_answer = self._close_sent
        library.feed(data)
        if library.take_pong():
            self._pong_handler()
        if library.open:
            message = library.take_message()
            if message is None:
                return None
            if isinstance(message, str):
                return TEXT_MESSAGE, message.encode()
            if self._options.utf8_only:
                self._check_utf8(message)
            return BINARY_MESSAGE, message
        if library.closed_by_peer:
            self._counts.close_code_in = library.close_code
        if self.write_error is not None:
            raise _bare(self.write_error)
        if is_answer:
            raise ConnectionAbortedError("websocket: closed by this side")
        code, text = library.close_code, library.close_text
        if not library.closed_by_peer:
            self._linger()
            raise ProtocolError(f"websocket: {text}", code)
        raise CloseError(code, text)

    def _check_utf8(self, message: bytes) -> None:
        if not is_utf8(message):
            self._fail(CLOSE_INVALID_FRAME_PAYLOAD_DATA)
            text = "websocket: invalid UTF-8 in a binary message"
            raise ProtocolError(text, CLOSE_INVALID_FRAME_PAYLOAD_DATA)

    def _fail(self, code: int, text: str = "") -> None:
        """Send a close frame, then wait for the peer to close (RFC 6455, section 7.1.7).

        The caller then raises the error.
        """
        with suppress(OSError):
            close = frame(CLOSE_MESSAGE, format_close_message(code, text))
            self._write(close, clock.after(CONTROL_WAIT), CLOSE_MESSAGE)
        self._linger()

    def _linger(self) -> None:
        """Shut down the sending side, then discard input until the peer closes or _CLOSE_WAIT ends.

        Closing a socket that has unread input resets the connection. The reset can overtake the
        close frame, and then the peer never learns the reason.
        """
        self._shutdown(socket.SHUT_WR)
        deadline = clock.after(_CLOSE_WAIT)
        with suppress(OSError), self.waiting("close"):
            while clock.now() < deadline and _wait(self._readable, deadline):
                if not self._sock.recv(_REST_SIZE):
                    return
                time.sleep(_REST_PAUSE)

    # Writing. Only one thread may write messages; any thread may write control frames.

    def set_write_deadline(self, deadline: float | None) -> None:
        """Set the write deadline, a `time.monotonic()` time or None. Thread: the writer."""
        self._write_deadline = None if deadline is None else clock.since(deadline)

    def write_message(self, message_type: int, data: bytes) -> None:
        """Write a message or a control frame, as a single frame. Thread: the writer.

        Text must be UTF-8. The payload of a close frame is empty or comes from
        `format_close_message`.

        Raises ValueError if a control frame has more than 125 bytes of payload, TimeoutError at the
        write deadline, ConnectionAbortedError after a close frame, or the system's OSError. An
        error in the middle of the frame ends the connection.
        """
        control = 0
        if message_type >= CLOSE_MESSAGE:
            if len(data) > 125:
                raise ValueError(f"control frame of {len(data)} bytes")
            control = message_type
        observer = self.observer
        if observer is not None:
            observer.writes(message_type)
        try:
            self._write(frame(message_type, data), self._write_deadline, control)
        except _WriteLockTimeoutError:
            self._counts.given_up += 1
            raise
        if observer is not None:
            observer.wrote(message_type)

    def write_control(self, message_type: int, data: bytes, deadline: float) -> None:
        """Write a control frame (Go: WriteControl). Thread: any.

        deadline: a `time.monotonic()` time. Raises the same errors as `write_message`, but does not
        check the size of the payload.
        """
        self._write(frame(message_type, data), clock.since(deadline), message_type)

    def _send_for_library(self, data: bytes) -> None:
        """Write a frame that the library has made: a pong or a close frame. Thread: the reader."""
        with suppress(_WriteLockTimeoutError, ConnectionAbortedError):
            self._write(data, clock.after(CONTROL_WAIT), data[0] & 0x0F)

    def _write(self, data: bytes, deadline: float | None, control: int) -> None:
        """Write a whole frame, when no other thread is writing.

        data: the frame. control: its opcode if it is a control frame, otherwise 0.

        After an exception in the middle of a frame, even one from a signal handler, nothing more is
        written. Otherwise the peer would take the next frame for the rest of this one.

        The `finally` block tries to release the lock even if this thread may not have it. An
        exception can arrive after `acquire` has succeeded but before the method continues. So the
        method cannot know whether it has the lock, except by trying to release it.
        """
        try:
            if not self._write_lock.acquire(False):
                self._await_write_lock(deadline)
            if self._barred is not None:
                raise copy.copy(self._barred)
            try:
                self._barred = _IN_A_FRAME
                if control and control == CLOSE_MESSAGE:
                    self._close_sent = True
                size = len(data)
                try:  # this one call nearly always sends the whole frame
                    sent = self._out.send(data, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    sent = 0
                if sent < size:
                    send_all(self._out, memoryview(data)[sent:], deadline, self._await_room)
                counts = self._counts
                counts.frames_out += 1
                counts.bytes_out += size
                self._barred = self._after_control(control, data) if control else None
            except BaseException as error:
                if not isinstance(error, OSError):
                    error = ConnectionAbortedError("websocket: writing has failed")
                self._barred = self.write_error = _bare(error)
                self._shutdown(socket.SHUT_RDWR)
                raise
        finally:
            try:  # noqa: SIM105 - suppress takes longer, for each frame
                self._write_lock.release()
            except RuntimeError:  # this thread does not have it
                pass

    def _after_control(self, control: int, data: bytes) -> Exception | None:
        """Count a control frame that was written. Return the next value of `_barred`.

        The caller holds the write lock.
        """
        counts = self._counts
        if control == CLOSE_MESSAGE:
            code = data[2:4]
            known = int.from_bytes(code, "big") if code else CLOSE_NO_STATUS_RECEIVED
            counts.close_code_out = known
            return _AFTER_CLOSE
        counts.pings_out += control == PING_MESSAGE
        counts.pongs_out += control == PONG_MESSAGE
        return None

    def _await_write_lock(self, deadline: float | None) -> None:
        """Acquire the write lock. Raises _WriteLockTimeoutError at the deadline."""
        turns.give_up()
        with self.waiting("lock"):
            acquired = _acquire(self._write_lock, deadline)
        if not acquired:
            raise _WriteLockTimeoutError("websocket: write deadline exceeded")

    def _await_room(self, deadline: float | None) -> None:
        """Wait for room in the send buffer. The caller holds the write lock.

        Raises TimeoutError at the deadline.
        """
        self._counts.stalls += 1
        with self.waiting("room"):
            await_room(self._sock, deadline)

    # Closing.

    def close(self) -> None:
        """Shut the socket down, which wakes the threads that wait on it. Thread: any.

        Sends no close frame. If this side has already sent one, `close` first waits up to a second
        for the peer's answer, unless reading has ended.

        The descriptor stays open. The HTTP server closes it once no thread uses it, because the
        system may give its number to the next connection.
        """
        try:
            turns.give_up()
            if threading.get_ident() == self._reader and self.read_error is None:
                # The reading thread itself calls `close`, for example because its program failed
                # between two messages. So no thread is reading; wait for the answer here.
                if self._close_sent:
                    self._linger()
                self._read_no_more(ConnectionAbortedError("websocket: closed by this side"))
            if self._close_sent and self.read_error is None:
                self._shutdown(socket.SHUT_WR)
                with self.waiting("close"):
                    answered = _acquire(self._reading, clock.after(_CLOSE_WAIT))
                if answered:
                    self._reading.release()
        finally:
            self._shutdown(socket.SHUT_RDWR)
            if self.observer is not None:
                self.observer.closed()

    def _shutdown(self, how: int) -> None:
        with suppress(OSError):  # the connection has already ended
            self._out.shutdown(how)


# Raised if a signal handler writes while its thread is in the middle of a frame.
_IN_A_FRAME: Final = RuntimeError("websocket: a write in the middle of another, by one thread")
_AFTER_CLOSE: Final = ConnectionAbortedError("websocket: close sent")


class _WriteLockTimeoutError(TimeoutError):
    """Raised if no part of a frame was written: another thread was writing until the deadline."""


def send_all(
    sock: socket.socket,
    data: bytes | memoryview,
    deadline: float | None,
    wait: Callable[[float | None], None],
) -> None:
    """Send all of the data.

    sock: see `runtime.nonblocking`. wait: called with the deadline when the send buffer is full;
    returns when there is room, or raises TimeoutError.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            wait(deadline)


def await_room(sock: socket.socket, deadline: float | None) -> None:
    """Wait for room in the socket's send buffer. Raises TimeoutError at the deadline."""
    turns.give_up()
    if not _wait(writable(sock), deadline):
        raise TimeoutError("websocket: write deadline exceeded") from None


def _waiting_now(waits: tuple[str, float] | None) -> Waiting | None:
    return None if waits is None else Waiting(waits[0], clock.now() - waits[1])


def _no_pong_handler() -> None:
    """The default pong handler: does nothing."""


def _bare(error: OSError) -> OSError:
    """Return a copy of the error without a traceback.

    A traceback keeps all local variables of its frames alive. Raising an exception gives it a
    traceback, so the connection keeps a copy that is never raised.
    """
    return copy.copy(error)


def _seconds_until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - clock.now())


def _milliseconds(seconds: float) -> int:
    """Convert seconds to whole milliseconds, up to the system's maximum."""
    return min(math.ceil(seconds * 1000), 2**31 - 1)


def _wait(socket_poll: select.poll, deadline: float | None) -> bool:
    """Wait until the socket is ready; return False at the deadline."""
    while True:
        timeout = _seconds_until(deadline)
        if socket_poll.poll(None if timeout is None else _milliseconds(timeout)):
            return True
        if timeout == 0:
            return False


def _acquire(lock: threading.Lock | threading.RLock, deadline: float | None) -> bool:
    """Wait for a lock; return False at the deadline."""
    while True:
        timeout = _seconds_until(deadline)
        if lock.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            return True
        if timeout == 0:
            return False

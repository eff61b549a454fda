"""Connections: reading, writing, and their end (gorilla/websocket: conn.go).

A connection has one reading thread and one writing thread; any thread may close it. Its socket
stays in blocking mode and has no timeout: a timeout would make `send` give up in the middle of a
frame, and would apply to both directions. Reading and writing wait in `poll` instead, each for its
own deadline.

A common message (text, in one frame, short) is read without the library; anything else goes through
the library. Every write, by the writing thread or the library, takes the same lock, so that no
frame lands in the middle of another.

Deadlines are in seconds of `time.monotonic()`. A pause of the whole process is added to
each (see clock.py). All failures to read or write are OSError: a CloseError, ProtocolError or
ReadLimitError, TimeoutError for a deadline, or the system's error. After such an error, the
connection cannot be used.

Whatever peers send, their reading threads let other threads run: after a few milliseconds of work
a reading thread sleeps, one at a time (`_give_way`).
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

#: Time allowed to write a frame that the writing thread did not request (a pong or a close),
#: including the wait for the lock, in seconds. In gorilla/websocket: writeWait.
CONTROL_WAIT: Final = 1.0

# Time allowed for a peer to answer a close frame before it is cut off, in seconds.
_CLOSE_WAIT: Final = 1.0

# How much of the remaining input is read at once while waiting for the answer, in bytes; and the
# pause after each read, in seconds, because the input may be a flood.
_REST_SIZE: Final = 65536
_REST_PAUSE: Final = 0.001

# If a caller takes longer than this between two reads, in seconds, the delay is added to the read
# deadline.
_LATE: Final = 1.0

# The maximum number of frames in a message: this many, plus one for every _FRAGMENT bytes.
_FRAGMENTS: Final = 1024
_FRAGMENT: Final = 16

# How long a reading thread may work before it sleeps, how long it then sleeps, and the longest wait
# for each lock below, in seconds. With a GIL, a thread that retakes the interpreter right after
# each system call would keep it: the waiting threads would wake up only to find it taken.
_WORK: Final = 0.002
_SLEEP: Final = 0.001
_SLEEP_WAIT: Final = 1.0

# Held by the one reading thread that sleeps. So two or three of them work at the same time. If
# fifty did, each wait for the interpreter would be long, and a message takes several per client.
_sleeping: Final = RLock()

# Held by the one that sleeps next. Otherwise a reader that has just slept could take `_sleeping`
# again before the next one wakes up.
_next: Final = RLock()

# An empty close frame, masked with zeros.
_EMPTY_CLOSE: Final = b"\x88\x80\0\0\0\0"


@dataclass(frozen=True)
class ConnOptions:
    """The options of an Upgrader for all its connections."""

    #: Whether binary messages must also be UTF-8, for a program that passes them on as text.
    utf8_only: bool = False

    #: How much is read from the socket at once, in bytes.
    read_buffer_size: int = 4096

    #: How many frames a connection reads per second, messages and control frames; None for no
    #: limit. Above that rate, reading pauses, and TCP makes the peer wait. A pong or a close frame
    #: waits for the earlier frames, and the read deadline is extended. If the connection ends
    #: during a pause, the waiting frames are not read.
    read_rate: float | None = None

    #: How many frames are read in one burst, with `read_rate`.
    read_burst: int = 1

    #: Called with the connection and each message; returns the message to pass on instead, or None
    #: to drop it. For a program with messages in a certain form, such as JSON, or with the user's
    #: name at the beginning. May raise ProtocolError for an invalid message; the peer is then
    #: disconnected with the error's code and text. Thread: the reader.
    on_message: Callable[[Conn, bytes], bytes | None] | None = None


class Waiting(NamedTuple):
    """The reason for a thread's wait, and how long it has lasted, in seconds."""

    #: `input`, `rate`, `room` in the socket, the `lock` of another thread's write, or the `close`
    #: of the peer.
    what: str
    seconds: float


@dataclass(frozen=True)
class ConnStatistics:
    """The counts of a connection so far, and what its threads are waiting for.

    Each count is written by one thread and read without a lock: it may lag by one frame, but never
    decreases.
    """

    remote_addr: str

    #: Messages that `read_message` has returned.
    messages_in: int
    #: Frames of every kind that were read; and how many were pings and pongs.
    frames_in: int
    pings_in: int
    pongs_in: int
    #: Bytes read from the socket.
    bytes_in: int

    #: Frames of text or binary data that were written.
    messages_out: int
    #: Frames of every kind that were written; and how many were pings and pongs.
    frames_out: int
    pings_out: int
    pongs_out: int
    #: Bytes of all written frames, including headers.
    bytes_out: int
    #: How often a write found the socket full.
    stalls: int
    #: How many messages were dropped because another thread was writing until their deadline.
    given_up: int

    #: The codes of the peer's close frame and of this side's; None without such a frame.
    close_code_in: int | None
    close_code_out: int | None
    #: The errors that ended reading and writing; None until then.
    read_error: OSError | None
    write_error: OSError | None

    #: The ident of the thread that reads, or read last; None before the first read.
    reader_thread: int | None
    #: What the reading thread and the writing thread are waiting for; None if they are not waiting.
    reader: Waiting | None
    writer: Waiting | None


class ConnObserver(Protocol):
    """Observes the threads of a connection. Each method runs on the thread that it reports on.

    No method may raise an exception.
    """

    def waits(self, what: str) -> None:
        """Called before a wait. what: see `Waiting`."""

    def works(self) -> None:
        """Called after a wait, however it ended."""

    def writes(self, message_type: int) -> None:
        """Called before the writing thread writes a message or a control frame."""

    def wrote(self, message_type: int) -> None:
        """Called after the writing thread has written a message or a control frame."""

    def closed(self) -> None:
        """Called when `Conn.close` returns, which is the last thing that a pump does."""


class _Counts:
    """The figures of a connection, see ConnStatistics.

    They are not in Conn because Python finds attributes more slowly if an object has more than 30.
    """

    __slots__ = (
        *("bytes_in", "bytes_out", "close_code_in", "close_code_out"),
        *("frames_out", "given_up", "input_since", "messages_in", "pings_in", "pings_out"),
        *("pongs_in", "pongs_out", "reader_waits", "slow_frames", "slow_messages", "stalls"),
        *("writer_waits",),
    )

    def __init__(self, bytes_in: int) -> None:
        # Only for the reading thread.
        self.bytes_in = bytes_in
        self.messages_in = 0
        # Messages that came through the library; all frames except common messages; pings; pongs.
        self.slow_messages = self.slow_frames = self.pings_in = self.pongs_in = 0
        self.close_code_in: int | None = None
        # When the current wait for input began; any other wait, and when it began.
        self.input_since: float | None = None
        self.reader_waits: tuple[str, float] | None = None
        # Only for the writing thread.
        self.given_up = 0
        self.writer_waits: tuple[str, float] | None = None
        # Guarded by the write lock.
        self.frames_out = self.bytes_out = self.pings_out = self.pongs_out = self.stalls = 0
        self.close_code_out: int | None = None


class Conn:
    """A WebSocket connection, on the server's side. Made by `Upgrader.upgrade`.

    sock: a socket in blocking mode, after the handshake; the caller still owns the descriptor.
    buffered: bytes already read from the socket after the handshake.
    remote_addr: the peer's address and port, as in `127.0.0.1:5000` or `[::1]:5000`.
    """

    def __init__(
        self,
        sock: socket.socket,
        buffered: bytes,
        remote_addr: str,
        options: ConnOptions = ConnOptions(),
    ) -> None:
        self.remote_addr: Final = remote_addr
        #: The user: REMOTE_USER in the handshake's environ; empty if it is not set.
        self.user = ""
        #: The observer of the threads, if any. Set before the connection is used.
        self.observer: ConnObserver | None = None
        self._sock = sock
        self._out = nonblocking(sock)
        self._options = options

        #: The errors that ended reading and writing; None until then. Each is set once, the first
        #: by the reading thread, the second under the write lock. Any thread may read them.
        self.read_error: OSError | None = None
        self.write_error: OSError | None = None

        # Only for the reading thread.
        self._input = bytearray(buffered)
        self._counts = _Counts(bytes_in=len(buffered))
        self._readable = readable(sock)
        self._read_deadline: float | None = None  # of clock.now, like all times here
        # When to give way: after _WORK since the last message was asked for, or since the last
        # sleep. Waiting for input is no work.
        self._sleep_at = clock.now() + _WORK
        self._read_limit = 0
        self._message_size = 0  # of the message being read, from its headers so far
        self._message_frames = 0  # how many of its frames have begun
        self._payload_left = 0  # of the frame being read
        # The time that a frame takes at the read rate, in seconds; 0 without a rate.
        self._frame_time = 1 / options.read_rate if options.read_rate else 0.0
        self._ahead = self._frame_time * options.read_burst  # how early a frame may come
        self._read_until = 0.0  # when all frames so far have had their time
        self._pong_handler: Callable[[], None] = _no_pong_handler
        # Created for the first uncommon frame, which on most connections is the close frame.
        self._library: Library | None = None

        # Held until reading has ended. `close` waits for that, on another thread.
        self._reading = threading.Lock()
        self._reading.acquire()
        # The thread that read last, because `close` must know whether it runs on that thread.
        self._reader = 0

        # Guards the stream of bytes to the peer, so that frames are not mixed; also `write_error`
        # and the two fields below. An RLock, because only its owner can release it: an interrupted
        # thread that does not know whether it has the lock can safely try to release it.
        self._write_lock = RLock()
        # This and `write_error` are set once. A thread that reads them without the lock may see the
        # previous value: then the reading thread reads one more message, or `close` waits for an
        # answer that never comes.
        self._close_sent = False
        # The exception that `_write` raises, as a copy; None while another frame may follow.
        self._barred: Exception | None = None
        # Only for the writing thread. The deadline is compared with clock.now.
        self._write_deadline: float | None = None

    @property
    def sock(self) -> socket.socket:
        """The socket, which the server uses to identify the connection. Thread: any."""
        return self._sock

    def statistics(self) -> ConnStatistics:
        """Return the counts so far, and what the threads are waiting for. Thread: any."""
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
        """Show, during the block, what the calling thread waits for: see `Waiting`. Thread: any."""
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

    # Reading: one thread.

    def set_read_limit(self, limit: int) -> None:
        """Set the size limit of messages, in bytes; 0 for no limit. Thread: the reader."""
        self._read_limit = limit

    def set_read_deadline(self, deadline: float | None) -> None:
        """Set the read deadline, on the monotonic clock; None for none. Thread: the reader."""
        self._read_deadline = None if deadline is None else clock.since(deadline)

    def set_pong_handler(self, handler: Callable[[], None]) -> None:
        """Set the function to call on the reading thread after each pong."""
        self._pong_handler = handler

    def read_message(self) -> tuple[int, bytes]:
        """Wait for the next message: `(TEXT_MESSAGE or BINARY_MESSAGE, payload)`.

        Text is valid UTF-8. Meanwhile, answers pings and close frames, and calls the pong handler.
        After this side has written a close frame, drops messages and waits only for the peer's
        answer. Thread: the reader.

        Raises CloseError if the peer has closed; ProtocolError or ReadLimitError if the peer was at
        fault and has been told so; TimeoutError at the read deadline; ConnectionAbortedError if
        this side has closed, or if the connection ended while the peer was over the read rate; or
        the system's OSError. Later calls raise the same error. Any other exception, such as one in
        a pong handler, also ends the reading, and the peer gets the code 1011.
        """
        self._reader = threading.get_ident()
        now = clock.now()
        late = now - self._sleep_at
        self._sleep_at = now + _WORK
        if self._read_deadline is not None and late > _LATE:
            # This side was late, and the pong that is due may be in the unread input.
            self._read_deadline += late
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

    def _pass_on(self, message: bytes) -> bytes | None:
        """Call `on_message`, and disconnect the peer if it raises ProtocolError."""
        assert self._options.on_message is not None
        try:
            return self._options.on_message(self, message)
        except ProtocolError as error:
            self._fail(error.code, str(error))
            raise

    def _read_no_more(self, error: OSError) -> None:
        """Note that reading has ended, and drop the references that form cycles.

        Reference counting then frees the connection. Otherwise, if thousands of connections ended
        together, the garbage collector would stop all threads for a second.
        """
        self.read_error = error
        self._pong_handler = _no_pong_handler
        if self._library:
            self._library.forget()
            self._library = None
        with suppress(RuntimeError):  # `close` has released it, on the thread that read last
            self._reading.release()

    def _keep_rate(self) -> None:
        """Wait until the rate allows the frame that was just read.

        Raises ConnectionAbortedError if the connection ends first: a sender cannot hurry its excess
        messages by disconnecting, however many of them the system still holds.
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
                # This side was late, and the pong that is due may be in the unread input.
                self._read_deadline += clock.now() - now

    def _give_way(self) -> None:
        """Sleep for a moment if this thread has worked for too long without a message or a sleep.

        A message makes its reader wait for the hub, which lets other threads run. Frames that
        complete no message do not have this effect. Readers sleep one after the other.
        """
        if clock.now() >= self._sleep_at:
            try:
                if _next.acquire(timeout=_SLEEP_WAIT) and _sleeping.acquire(timeout=_SLEEP_WAIT):
                    _next.release()
                    time.sleep(_SLEEP)
            finally:
                for lock in (_next, _sleeping):
                    # Only this shows whether this thread has the lock: see `_write`.
                    with suppress(RuntimeError):
                        lock.release()
            self._sleep_at = clock.now() + _WORK

    def _take_plain_text(self) -> bytes | None:
        """Return the next message if it is a common one: text, one frame, masked, short, complete.

        This saves the tens of microseconds that the library takes. It also handles a pong before
        the message. For anything else, including faulty frames, it returns None and leaves the
        input to the library.
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
        """Give a frame, or a piece of its payload, to the library. Returns a message it completes.

        A frame counts toward the rate here, but a frame that completes a message counts in
        `read_message`.
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
        """Read a frame's header (RFC 6455, section 5.2), and refuse a message that is too long.

        The library reports other faults of the header.
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
            # The library refuses a frame that has another fault.
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
            # Half a close code: the Go library treats it as no code, but this library as a protocol
            # error.
            return _EMPTY_CLOSE
        self._need(size)
        taken = bytes(self._input[:size])
        del self._input[:size]
        self._payload_left = length
        return taken

    def _need(self, size: int) -> None:
        """Read until there are this many bytes of input."""
        while len(self._input) < size:
            self._input += self._receive()

    def _receive(self) -> bytes:
        # This repeats the steps of `waiting`: a generator for each read would be slow.
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
                # A deadline that has passed ends reading even if there is input, because a peer may
                # keep sending without ever sending a pong.
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
        """Send the peer a close code; call before raising (RFC 6455, section 7.1.7)."""
        with suppress(OSError):
            close = frame(CLOSE_MESSAGE, format_close_message(code, text))
            self._write(close, clock.after(CONTROL_WAIT), CLOSE_MESSAGE)
        self._linger()

    def _linger(self) -> None:
        """Stop sending and wait a short time for the peer to close.

        Closing a socket with unread input resets the connection. The reset may overtake the close
        frame, and then the peer would never learn the reason.
        """
        self._shutdown(socket.SHUT_WR)
        deadline = clock.after(_CLOSE_WAIT)
        with suppress(OSError), self.waiting("close"):
            while clock.now() < deadline and _wait(self._readable, deadline):
                if not self._sock.recv(_REST_SIZE):
                    return
                time.sleep(_REST_PAUSE)

    # Writing: any thread; but only one thread may write data messages.

    def set_write_deadline(self, deadline: float | None) -> None:
        """Set the write deadline, on the monotonic clock; None for none. Thread: the writer."""
        self._write_deadline = None if deadline is None else clock.since(deadline)

    def write_message(self, message_type: int, data: bytes) -> None:
        """Write a message, or a control frame, as one frame. Thread: the writer.

        Text must be UTF-8; a control frame's payload is at most 125 bytes (otherwise ValueError).
        Use `format_close_message` for the payload of a close frame, or leave it empty.

        Raises TimeoutError at the write deadline, ConnectionAbortedError if a close frame was
        written before, or the system's OSError. If the peer may have received part of a frame, the
        connection ends.
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
        """Write a control frame before a deadline (Go: WriteControl). Thread: any.

        deadline: on the monotonic clock. Raises as `write_message` does.
        """
        self._write(frame(message_type, data), clock.since(deadline), message_type)

    def _send_for_library(self, data: bytes) -> None:
        """Write one of the library's frames. Thread: the reader."""
        with suppress(_WriteLockTimeoutError, ConnectionAbortedError):
            self._write(data, clock.after(CONTROL_WAIT), data[0] & 0x0F)

    def _write(self, data: bytes, deadline: float | None, control: int) -> None:
        """Write a whole frame, after the frames that other threads are writing.

        control: the opcode of a control frame; 0 for data.

        Any exception in the middle, even from a signal handler, ends the connection for writing,
        because the peer would take the next frame for the rest of this one. The lock is always
        released. Only an attempt to release the lock shows whether this thread has it, because an
        exception can come after `acquire` has succeeded and before this method knows.
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
                try:  # like the first step of `send_all`, without a call: nearly always enough
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
        """Count a control frame. Return the exception for later frames, or None to allow them.

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
        """Wait until no other thread writes. Raises _WriteLockTimeoutError at the deadline."""
        turns.give_up()
        with self.waiting("lock"):
            acquired = _acquire(self._write_lock, deadline)
        if not acquired:
            raise _WriteLockTimeoutError("websocket: write deadline exceeded")

    def _await_room(self, deadline: float | None) -> None:
        """Wait until the system has room for more of the frame. The caller holds the write lock.

        Raises TimeoutError at the deadline.
        """
        self._counts.stalls += 1
        with self.waiting("room"):
            await_room(self._sock, deadline)

    # The end.

    def close(self) -> None:
        """End the connection, which wakes threads that wait to read or write. Thread: any.

        Sends no close frame. If a close frame was sent, the peer first gets a second to answer,
        provided that the reading thread is still reading. The HTTP server owns the descriptor, and
        closes it only when no thread can still use it, because its number may then be reused.
        """
        try:
            turns.give_up()
            if threading.get_ident() == self._reader and self.read_error is None:
                # This is the reading thread, and it has stopped reading, perhaps because something
                # failed between two messages. So it must wait for the peer's answer here, because
                # no other thread does.
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
        with suppress(OSError):  # the peer was faster
            self._out.shutdown(how)


# Raised by a write that has interrupted another write on the same thread.
_IN_A_FRAME: Final = RuntimeError("websocket: a write in the middle of another, by one thread")
_AFTER_CLOSE: Final = ConnectionAbortedError("websocket: close sent")


class _WriteLockTimeoutError(TimeoutError):
    """Another thread was writing until the deadline; no part of this frame was written."""


def send_all(
    sock: socket.socket,
    data: bytes | memoryview,
    deadline: float | None,
    wait: Callable[[float | None], None],
) -> None:
    """Send all the data.

    sock: see `runtime.nonblocking`. wait: called with the deadline while there is no room.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            wait(deadline)


def await_room(sock: socket.socket, deadline: float | None) -> None:
    """Wait until the system has room. Raises TimeoutError at the deadline."""
    turns.give_up()
    if not _wait(writable(sock), deadline):
        raise TimeoutError("websocket: write deadline exceeded") from None


def _waiting_now(waits: tuple[str, float] | None) -> Waiting | None:
    return None if waits is None else Waiting(waits[0], clock.now() - waits[1])


def _no_pong_handler() -> None:
    """Do nothing: the pong handler when none is set."""


def _bare(error: OSError) -> OSError:
    """Return a copy of the error without its traceback, which would keep all its frames alive.

    The error that is kept must not be the object that is raised: raising it adds a traceback.
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

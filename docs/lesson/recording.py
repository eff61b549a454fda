"""Runs a program of the lesson and records what its threads do.

The program runs unchanged, but its channels, threads and connections are replaced with versions
that also record what happens.
"""

from __future__ import annotations

import runpy
import socket
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar
from unittest.mock import patch

import simple_websocket

import gochat
import gochat.client
import gochat.hub
from gochat.golang import runtime
from gochat.golang.websocket import CLOSE_MESSAGE

__all__ = ["PROGRAMS", "Event", "Recorder", "run"]

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = sorted((ROOT / "examples" / "lesson").glob("*.py"))

#: Files whose lines the Step button can show.
SHOWN = {*PROGRAMS, *(ROOT / "src" / "gochat" / f"{name}.py" for name in ("hub", "client"))}


@dataclass(eq=False)
class Event:
    """An action of a thread, at a single moment.

    channel: the channel that was used, or None. value: what was sent, received, printed, written or
    read. cause: the event that led to this one, such as the send of a received value. room: for a
    send, the receive that made room for its value. other: the thread that was started or has ended.
    repeated: whether this event stands for many in a row that received the same value. line: the
    source line that the thread was executing, as PATH:NUMBER.
    """

    kind: str
    thread: threading.Thread
    channel: Any = None
    value: Any = None
    cause: Event | None = None
    room: Event | None = None
    other: threading.Thread | None = None
    repeated: bool = False
    line: str = ""


def line() -> str:
    """Return the innermost line in SHOWN that this thread is executing, as PATH:NUMBER."""
    frame: FrameType | None = sys._getframe()
    while frame:
        path = Path(frame.f_code.co_filename)
        if path in SHOWN:
            return f"{path.relative_to(ROOT).as_posix()}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


class Recorder:
    """Records the actions of all threads of a program. Thread: any.

    All threads append to the same list, without a lock, because appending is atomic in CPython. The
    list keeps the order of each thread's events, but not the order between threads. A thread
    records a send before it sends, so the cause of an event is always in the list already.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        # Whether the recording has ended. Set by the main thread.
        self.done = False
        # For each reader's name, the writes that it has not read yet, oldest first.
        self._unread: dict[str, list[Event]] = defaultdict(list)

    def add(self, kind: str, **more: Any) -> Event:
        """Record an action of the current thread."""
        event = Event(kind, threading.current_thread(), **more, line=line())
        if not self.done:
            self.events.append(event)
        return event

    def write(self, reader: str, value: str) -> Event:
        """Record that this thread is about to write to a connection."""
        event = self.add("write", value=value)
        self._unread[reader].append(event)
        return event

    def unwrite(self, reader: str, event: Event) -> None:
        """Record that the write failed."""
        event.kind = "unwritten"
        self._unread[reader].pop()

    def read(self, reader: str) -> None:
        """Record that this thread has read from a connection, or has reached its end."""
        if self._unread[reader]:
            sent = self._unread[reader].pop(0)
            self.add("read", cause=sent, value=sent.value)


def channel_patches(recorder: Recorder) -> Iterator[Any]:
    """Yield the patches that record how the program and the chat use channels.

    In a recorded channel, each value is replaced with the event of its send.
    """

    class Channel(gochat.Channel[Any], Generic[T]):
        def send(self, value: Any) -> None:
            super().send(recorder.add("send", channel=self, value=value))

        def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
            super().put(recorder.add("send", channel=self, value=item), block, timeout)

        def try_send(self, value: Any) -> bool:
            event = recorder.add("send", channel=self, value=value)
            sent = super().try_send(event)
            if not sent:
                event.kind = "refused"
            return sent

        def close(self) -> None:
            recorder.add("close", channel=self)
            super().close()

        def recv(self) -> tuple[Any, bool]:
            return recorded_select(recorder, self)[1:]

        def __iter__(self) -> Iterator[Any]:
            while (received := self.recv())[1]:
                yield received[0]

        def drain(self) -> list[Any]:
            return [recorded_receive(recorder, self, sent) for sent in super().drain()]

    for module in (gochat, gochat.hub, gochat.client):
        yield patch.object(module, "Channel", Channel)
        yield patch.object(module, "select", partial(recorded_select, recorder))


def recorded_receive(recorder: Recorder, channel: Any, sent: Event) -> Any:
    """Record that this thread has received a value. Return the value."""
    recorder.add("receive", cause=sent, channel=channel, value=sent.value)
    return sent.value


real_select = gochat.select


def recorded_select(
    recorder: Recorder, *channels: Any, deadline: float | None = None
) -> tuple[Any, Any, bool]:
    """Call `gochat.select`, and record what it returns."""
    channel, sent, ok = real_select(*channels, deadline=deadline)
    if ok:
        return channel, recorded_receive(recorder, channel, sent), True
    recorder.add("tick" if channel is None else "end", channel=channel)
    return channel, None, False


def thread_patches(recorder: Recorder) -> Iterator[Any]:
    """Yield the patches that record the starts and joins of threads."""
    # On threads, runtime.Thread uses threading.Thread, so it is enough to patch the latter.
    kinds: list[Any] = [threading.Thread]
    if runtime.NAME == "greenlets":
        kinds.append(runtime.Thread)
    for kind in kinds:

        def start(thread: threading.Thread, start: Any = kind.start) -> None:
            recorder.add("start", other=thread)
            start(thread)

        def join(
            thread: threading.Thread, timeout: float | None = None, join: Any = kind.join
        ) -> None:
            join(thread, timeout)
            recorder.add("join", other=thread)

        yield patch.object(kind, "start", start)
        yield patch.object(kind, "join", join)


def conn_patches(recorder: Recorder) -> Iterator[Any]:
    """Yield the patches that record the messages that the server reads and writes."""
    read_message, write_message = gochat.Conn.read_message, gochat.Conn.write_message

    def record_read_message(conn: gochat.Conn) -> tuple[int, bytes]:
        try:
            return read_message(conn)
        finally:  # also after an exception, such as the one at a close
            recorder.read(f"server of {conn.remote_addr}")

    def record_write_message(conn: gochat.Conn, message_type: int, data: bytes) -> None:
        reader = f"peer at {conn.remote_addr}"
        is_close = message_type == CLOSE_MESSAGE
        event = recorder.write(reader, "close" if is_close else data.decode())
        try:
            write_message(conn, message_type, data)
        except OSError:
            recorder.unwrite(reader, event)
            raise

    yield patch.object(gochat.Conn, "read_message", record_read_message)
    yield patch.object(gochat.Conn, "write_message", record_write_message)


def peer_patches(recorder: Recorder) -> Iterator[Any]:
    """Yield the patches that record what clients do, on a socket pair or with simple-websocket."""
    pair = socket.socketpair

    class Peer(socket.socket):
        """The client's side of a socket pair. The client sends short frames, masked with zeros."""

        def sendall(self, data: Any, flags: int = 0) -> None:
            recorder.write("server of peer", "close" if data[0] == 0x88 else data[6:].decode())
            super().sendall(data, flags)

        def recv(self, size: int, flags: int = 0) -> bytes:
            data = super().recv(size, flags)
            recorder.read("peer at peer")
            return data

    def record_pair() -> tuple[socket.socket, socket.socket]:
        ours, theirs = pair()
        return ours, Peer(fileno=theirs.detach())

    class Browser(simple_websocket.Client):  # type: ignore[misc]
        def __init__(self, url: str) -> None:
            event = recorder.add("connect")
            super().__init__(url)
            event.value = self.address = "{}:{}".format(*self.sock.getsockname())

        def send(self, data: str) -> None:
            recorder.write(f"server of {self.address}", data)
            super().send(data)

        def receive(self) -> Any:
            data = super().receive()
            recorder.read(f"peer at {self.address}")
            return data

        def close(self) -> None:
            recorder.done = True  # the order in which clients leave differs from run to run
            super().close()

    yield patch.object(socket, "socketpair", record_pair)
    yield patch.object(simple_websocket, "Client", Browser)


def run(program: Path) -> tuple[Recorder, dict[str, Any]]:
    """Run a program until all its threads end. Return its recorded actions and its variables.

    The program's output is recorded instead of printed.
    """
    recorder = Recorder()
    before = set(threading.enumerate())
    join, join_connection = threading.Thread.join, runtime.Thread.join  # before the patches

    def record_print(*values: object) -> None:
        recorder.add("print", value=" ".join(map(str, values)))

    with ExitStack() as stack:
        for patches in (channel_patches, thread_patches, conn_patches, peer_patches):
            for each in patches(recorder):
                stack.enter_context(each)
        variables = runpy.run_path(str(program), {"print": record_print})
        for thread in set(threading.enumerate()) - before:
            if isinstance(thread, runtime.Thread):
                join_connection(thread)
            else:
                join(thread)
    return recorder, variables

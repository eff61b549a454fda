"""Runs the lesson's programs and draws what their threads did: python -m docs.lesson.pictures

The pictures are written to the folder given as an argument; by default, the folder of this file.
The programs run unchanged, but their channels, threads and connections are replaced with versions
that also record what happens.
"""

from __future__ import annotations

import itertools
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

from .timeline import Arrow, Step, draw

__all__ = ["PROGRAMS", "draw_program"]

T = TypeVar("T")

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PROGRAMS = sorted((ROOT / "examples" / "lesson").glob("*.py"))

#: Files whose lines the Step button can show.
SHOWN = {*PROGRAMS, *(ROOT / "src" / "gochat" / f"{name}.py" for name in ("hub", "client"))}


@dataclass(frozen=True)
class Sent:
    """A value in transit, with the number of the event that sent it."""

    number: int
    value: Any


@dataclass
class Event:
    """An action of a thread.

    number: the event's number. cause: for a received value, the number of the event that sent it.
    channel: the channel that was used, or None. other: the thread that was started or has ended.
    repeated: whether this event stands for many in a row that received the same value. line: the
    source line that the thread was executing, as PATH:NUMBER.
    """

    kind: str
    thread: threading.Thread
    number: int
    cause: int = 0
    channel: Any = None
    value: Any = None
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
        self._numbers = itertools.count(1)
        # For each reader's name, the frames that were written but not read yet, oldest first.
        self._frames: dict[str, list[Sent]] = defaultdict(list)

    def add(self, kind: str, **more: Any) -> Event:
        """Record an action of the current thread."""
        event = Event(kind, threading.current_thread(), next(self._numbers), **more, line=line())
        if not self.done:
            self.events.append(event)
        return event

    def write(self, reader: str, value: str) -> Event:
        """Record that this thread is about to write to a connection."""
        event = self.add("write", value=value)
        self._frames[reader].append(Sent(event.number, value))
        return event

    def unwrite(self, reader: str, event: Event) -> None:
        """Record that the write failed."""
        event.kind = "unwritten"
        self._frames[reader].pop()

    def read(self, reader: str) -> None:
        """Record that this thread has read from a connection, or has reached its end."""
        if self._frames[reader]:
            sent = self._frames[reader].pop(0)
            self.add("read", cause=sent.number, value=sent.value)


def channel_class(recorder: Recorder) -> type[gochat.Channel[Any]]:
    """Return a Channel class that records how its channels are used."""

    class RecordedChannel(gochat.Channel[Any], Generic[T]):
        def send(self, value: Any) -> None:
            event = recorder.add("send", channel=self, value=value)
            super().send(Sent(event.number, value))

        def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
            event = recorder.add("send", channel=self, value=item)
            super().put(Sent(event.number, item), block, timeout)

        def try_send(self, value: Any) -> bool:
            event = recorder.add("send", channel=self, value=value)
            if super().try_send(Sent(event.number, value)):
                return True
            event.kind = "refused"
            return False

        def close(self) -> None:
            recorder.add("close", channel=self)
            super().close()

        def recv(self) -> tuple[Any, bool]:
            _, value, ok = recorded_select(recorder, self)
            return value, ok

        def __iter__(self) -> Iterator[Any]:
            while (received := self.recv())[1]:
                yield received[0]

        def drain(self) -> list[Any]:
            drained = super().drain()
            for sent in drained:
                recorder.add("receive", cause=sent.number, channel=self, value=sent.value)
            return [sent.value for sent in drained]

    return RecordedChannel


real_select = gochat.select


def recorded_select(
    recorder: Recorder, *channels: gochat.Channel[Any], deadline: float | None = None
) -> tuple[Any, Any, bool]:
    """Call `gochat.select`, and record what it returns."""
    channel, sent, ok = real_select(*channels, deadline=deadline)
    if channel is None:
        recorder.add("tick")
    elif not ok:
        recorder.add("end", channel=channel)
    else:
        recorder.add("receive", cause=sent.number, channel=channel, value=sent.value)
        return channel, sent.value, True
    return channel, None, False


def channel_patches(recorder: Recorder) -> Iterator[Any]:
    """Yield the patches that record how the program and the chat use channels."""
    recorded = channel_class(recorder)
    for module in (gochat, gochat.hub, gochat.client):
        yield patch.object(module, "Channel", recorded)
        yield patch.object(module, "select", partial(recorded_select, recorder))


def thread_patches(recorder: Recorder) -> Iterator[Any]:
    """Yield the patches that record the starts and joins of threads."""
    # On threads, runtime.Thread uses threading.Thread, so it is enough to patch the latter.
    kinds: list[Any] = [threading.Thread]
    if runtime.NAME == "greenlets":
        kinds.append(runtime.Thread)
    for kind in kinds:
        yield patch.object(kind, "start", recorded_start(recorder, kind.start))
        yield patch.object(kind, "join", recorded_join(recorder, kind.join))


def recorded_start(recorder: Recorder, start: Any) -> Any:
    """Return a method that starts a thread and records the start. start: the original method."""

    def record(thread: threading.Thread) -> None:
        recorder.add("start", other=thread)
        start(thread)

    return record


def recorded_join(recorder: Recorder, join: Any) -> Any:
    """Return a method that joins a thread and records the join. join: the original method."""

    def record(thread: threading.Thread, timeout: float | None = None) -> None:
        join(thread, timeout)
        recorder.add("join", other=thread)

    return record


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
    Browser, pair = simple_websocket.Client, socket.socketpair  # noqa: N806
    connect, send = Browser.__init__, Browser.send
    receive, close = Browser.receive, Browser.close

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

    def address(browser: Any) -> str:
        return "{}:{}".format(*browser.sock.getsockname())

    def record_connect(browser: Any, url: str) -> None:
        event = recorder.add("connect")
        connect(browser, url)
        event.value = address(browser)

    def record_send(browser: Any, data: str) -> None:
        recorder.write(f"server of {address(browser)}", data)
        send(browser, data)

    def record_receive(browser: Any) -> Any:
        data = receive(browser)
        recorder.read(f"peer at {address(browser)}")
        return data

    def record_close(browser: Any) -> None:
        recorder.done = True  # the order in which clients leave differs from run to run
        close(browser)

    yield patch.object(socket, "socketpair", record_pair)
    yield patch.object(Browser, "__init__", record_connect)
    yield patch.object(Browser, "send", record_send)
    yield patch.object(Browser, "receive", record_receive)
    yield patch.object(Browser, "close", record_close)


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


def without_repetition(events: list[Event]) -> list[Event]:
    """Return the events, with one event for a value that a thread receives many times in a row."""
    by_number = {event.number: event for event in events}
    latest: dict[threading.Thread, tuple[Event, object]] = {}
    dropped = set()
    for event in events:
        kind = None
        if event.kind == "receive":
            kind = event.channel, event.value, by_number[event.cause].thread
            first, known = latest.get(event.thread, (event, None))
            if kind == known:
                dropped |= {event.number, event.cause}
                first.repeated = True
                continue
        latest[event.thread] = event, kind
    return [event for event in events if event.number not in dropped]


class Story:
    """The events of a run, as steps and arrows for a picture."""

    def __init__(self, events: list[Event], variables: dict[str, Any]) -> None:
        self.steps: list[Step] = []
        self.arrows: list[Arrow] = []
        events = without_repetition(events)
        # The names of channels and clients, by their ids. An object is named after the first
        # variable or attribute that holds it.
        clients = [event.value for event in events if hasattr(event.value, "send")]
        self._objects: dict[int, str] = {}
        for name, value in [*variables.items(), *(("client", each) for each in clients)]:
            # A closed gevent socket raises OSError for a missing attribute.
            fields = {} if isinstance(value, socket.socket) else getattr(value, "__dict__", {})
            for field, each in [("", value), *fields.items()]:
                if isinstance(each, gochat.Channel) or hasattr(each, "send"):
                    self._objects.setdefault(id(each), f"{name}.{field}".rstrip("."))
        # The threads in the picture: the main thread, and then the others in the order of their
        # starts.
        main = threading.main_thread()
        active = {event.thread for event in events if event.other is None}
        starts = [event.other for event in events if event.kind == "start"]
        connects = {event.value: event for event in events if event.kind == "connect"}
        self._names = {main: "main"}
        addresses: list[str] = []
        for thread in starts:
            if thread in active:
                name, _, address = thread.name.partition(" ")
                if address and address not in addresses:
                    addresses.append(address)
                number = f" {addresses.index(address) + 1}" if address else ""
                self._names[thread] = name + number
                if name == "readPump" and address in connects:
                    connects[address].other = thread

        numbers: dict[int, int] = {}  # from the number of an event to the number of its step
        first: dict[threading.Thread, int] = {}
        last: dict[threading.Thread, int] = {}
        told = [
            each
            for each in events
            if each.thread in self._names and (each.other is None or each.other in self._names)
        ]
        for thread in self._names:
            if any(each.kind != "join" and each.other is thread for each in told):
                first[thread] = self._add(thread, "")
            for event in told:
                if event.thread is thread:
                    numbers[event.number] = last[thread] = self._add(
                        thread, *self._tell(event), event.line
                    )
        self._channels = {id(each.channel) for each in told if each.kind == "receive"}
        self._channels |= {id(each.channel) for each in told if each.kind == "end"}
        self._connect(told, numbers, first, last)

    def _add(self, thread: threading.Thread, sentence: str, note: str = "", line: str = "") -> int:
        self.steps.append(Step(self._names[thread], sentence, note, line))
        return len(self.steps) - 1

    def _tell(self, event: Event) -> tuple[str, str]:
        """Return a sentence about an event, and the note for it in the picture."""
        value, channel = self._text(event.value), self._objects.get(id(event.channel), "")
        quoted = f"“{value}”" if isinstance(event.value, (str, bytes)) else value
        other = self._names[event.other] if event.other else ""
        does, note = {
            "start": (f"starts {other}", ""),
            "connect": ("connects to the server", ""),
            "join": (f"has waited for {other} to end", ""),
            "print": (f"prints {quoted}", quoted),
            "send": (f"sends {quoted} on {channel}", ""),
            "receive": (f"receives {quoted} from {channel}", ""),
            "refused": (f"finds no room for {quoted} in {channel}", f"{channel} is full"),
            "close": (f"closes {channel}", f"close {channel}"),
            "end": (f"finds {channel} closed", ""),
            "tick": ("has reached its deadline", "deadline"),
            "write": (f"writes {quoted} to its connection", ""),
            "unwritten": (f"is too late to write {quoted}", f"too late to write {quoted}"),
            "read": (f"reads {quoted} from its connection", ""),
        }[event.kind]
        return f"{self._names[event.thread]} {does}.", note

    def _text(self, value: Any) -> str:
        if isinstance(value, bytes):
            return value.decode()
        return self._objects.get(id(value), str(value))

    def _channel(self, channel: Any) -> str:
        """Return a channel's short name; empty if it is the only channel, or does not fit."""
        if len(self._channels) < 2 or len(self._names) > 5:
            return ""
        name = self._objects.get(id(channel), "")
        return name if name.endswith(".send") else name.rpartition(".")[2]

    def _value(self, event: Event) -> str:
        """Return the label of a value's arrow: the value and, if needed, the channel's name."""
        value, channel = self._text(event.value), self._channel(event.channel)
        if channel:
            return f"{channel}: {value}"
        if hasattr(event.value, "send"):  # a client has no name in the picture
            return self._objects.get(id(event.channel), value).rpartition(".")[2]
        return value

    def _connect(
        self,
        events: list[Event],
        numbers: dict[int, int],
        first: dict[threading.Thread, int],
        last: dict[threading.Thread, int],
    ) -> None:
        """Add the arrows from causes to effects."""
        closed: dict[int, int] = {}
        received: dict[int, list[int]] = defaultdict(list)
        for event in events:
            if event.kind == "close":
                closed[id(event.channel)] = numbers[event.number]
            elif event.kind == "receive":
                received[id(event.channel)].append(numbers[event.number])
        sent: dict[int, int] = defaultdict(int)
        for event in events:
            step, channel = numbers[event.number], event.channel
            if event.kind == "start" and event.other:
                self.arrows.append(Arrow(step, first[event.other], "", level=True, plain=True))
            elif event.kind == "connect" and event.other:
                self.arrows.append(Arrow(step, first[event.other], "connect", plain=True))
            elif event.kind == "join" and event.other:
                self.arrows.append(Arrow(last[event.other], step, "ended", plain=True))
            elif event.kind == "end":
                name = self._channel(channel)
                text = f"{name} closed" if name else "closed"
                self.arrows.append(Arrow(closed[id(channel)], step, text, plain=True))
            elif event.kind == "read":
                self.arrows.append(Arrow(numbers[event.cause], step, self._text(event.value)))
            elif event.kind == "receive":
                text = self._value(event) + (", many times" if event.repeated else "")
                level = channel.capacity == 0
                self.arrows.append(Arrow(numbers[event.cause], step, text, level=level))
            elif event.kind == "send" and channel.capacity > 0:
                # As in Go's memory model, a send comes after the receive that made room for it.
                made = sent[id(channel)] - channel.capacity
                sent[id(channel)] += 1
                if 0 <= made < len(received[id(channel)]):
                    self.arrows.append(Arrow(received[id(channel)][made], step, hidden=True))


def draw_program(program: Path) -> str:
    """Run one of the lesson's programs, and return its picture as an SVG. Thread: the main one."""
    recorder, variables = run(program)
    story = Story(recorder.events, variables)
    return draw(variables["__doc__"], story.steps, story.arrows, cut=recorder.done)


def main() -> None:
    """Draw the pictures of all programs."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for program in PROGRAMS:
        picture = draw_program(program)
        (folder / f"{program.name[:2]}.svg").write_text(picture)


if __name__ == "__main__":
    main()

"""The recorder: the latest records of what the threads of a chat did.

Each thread has a Track, which holds its current state. When a state ends, it becomes a record in a
ring that all threads share. An arrow, which is the path of one value from the sending thread to the
receiving thread, makes two records, one for each end. When the ring is full, its oldest record is
dropped, and counted as lost.

Threads share only the ring, which has a lock; each thread has its own state. Nothing is computed or
written before `read` makes a copy at the end.

Records are plain tuples of numbers, strings and further tuples. The garbage collector skips
them, but would traverse hundreds of thousands of other objects again and again.

Times are in nanoseconds of `time.monotonic_ns`. No two times on one track are equal.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Final, NamedTuple
from weakref import WeakSet

__all__ = ["RUN", "WAIT", "Arrow", "Point", "Recorder", "Slice", "State", "Track"]

#: The kinds of states.
RUN: Final = "run"
WAIT: Final = "wait"

# These replace the kind in the record of an arrow's end.
_START: Final = "start"
_ARRIVAL: Final = "arrival"

# The maximum number of arrows per thread: an arrow's number begins with the thread's number.
_ARROWS: Final = 1 << 32

#: An arrow's number, its name, and the channel that it goes through.
Arrow = tuple[int, str, str]


class State(NamedTuple):
    """The state of a thread.

    A thread that runs may in fact be waiting for the interpreter lock, which a program cannot see.
    """

    begin: int
    name: str
    kind: str
    args: dict[str, Any] | None


class Slice(NamedTuple):
    """A state that has ended. thread, name: the thread's number, and its name at the end."""

    thread: int
    name: str
    kind: str
    #: When it began.
    time: int
    end: int
    state: str
    args: dict[str, Any]


class Point(NamedTuple):
    """The start or the end of an arrow. thread, name: see Slice."""

    thread: int
    name: str
    kind: str
    time: int
    #: See Arrow.
    arrow: int
    what: str
    channel: str
    #: The message's number in the hub's order, from 1; 0 if the value is not a message, or the hub
    #: does not have it yet.
    message: int
    #: How many values were in the channel; None if it is unbuffered.
    queued: int | None

    @property
    def arrives(self) -> bool:
        return self.kind == _ARRIVAL


class Track:
    """The state of one thread; only that thread calls the methods. Made by `Recorder.track`."""

    def __init__(self, recorder: Recorder, number: int) -> None:
        self._recorder = recorder
        self.number: Final = number
        self.name = _name()
        #: What the thread is doing; None before and after its work. Any thread may read this.
        self.state: State | None = None
        #: On the hub's thread: the number of the message that is being broadcast.
        self.message = 0
        # The states before the waits that the thread is in, innermost last.
        self._paused: list[State | None] = []
        self._last = 0
        self._arrows = number * _ARROWS

    def now(self) -> int:
        """Return the time, later than all previous times on this track."""
        now = time.monotonic_ns()
        self._last = now if now > self._last else self._last + 1  # max takes twice as long
        return self._last

    def next(self) -> int:
        """Return the time right after the last time on this track."""
        self._last += 1
        return self._last

    def run(self, name: str, args: dict[str, Any] | None = None) -> None:
        """Record that the thread works from now on."""
        self._enter(State(self.now(), name, RUN, args))

    def wait(self, name: str, args: dict[str, Any] | None = None) -> None:
        """Record that the thread waits from now on."""
        self._enter(State(self.now(), name, WAIT, args))

    def waited(self, name: str, since: int) -> None:
        """Record that the wait that is ending has been for `name` since `since`."""
        if self.state is not None and self.state.kind == WAIT and since <= self.state.begin:
            self.state = self.state._replace(name=name)
        else:
            self._last = max(since, self._last + 1)
            self._enter(State(self._last, name, WAIT, None))

    def pause(self, name: str, args: dict[str, Any] | None = None) -> None:
        """Record that the thread waits until `resume`."""
        self._paused.append(self.state)
        self.wait(name, args)

    def resume(self) -> None:
        """Return to the state before the last `pause`."""
        before = self._paused.pop()
        self._enter(before and State(self.now(), *before[1:]))

    def leave(self) -> None:
        """Record that the thread is no longer traced."""
        self._enter(None)

    def _enter(self, state: State | None) -> None:
        if self.state is None:
            self.name = _name()  # the thread may have become a pump
            self.state = state
            return
        begin, name, kind, args = self.state
        end = state.begin if state is not None else self.now()
        said = _frozen(args) if args else ()
        self._recorder.change(self, state, (self.number, self.name, kind, begin, end, name, said))

    def note(self, key: str, value: object) -> None:
        """Append a value to a list in the details of the current state. There must be a state."""
        assert self.state is not None
        assert self.state.args is not None
        self.state.args.setdefault(key, []).append(value)

    def new_arrow(self, what: str, channel: str) -> Arrow:
        """Return a new arrow. what: its name. channel: the channel that it goes through."""
        self._arrows += 1
        return self._arrows, what, channel

    def starts(self, arrow: Arrow, at: int, message: int, queued: int | None = None) -> None:
        """Record the start of an arrow. at: a time from `now` or `next`, in the current state."""
        self._recorder.record((self.number, self.name, _START, at, arrow, message, queued))

    def arrives(self, arrow: Arrow, at: int, message: int, queued: int | None = None) -> None:
        """Record the end of an arrow. See `starts`."""
        self._recorder.record((self.number, self.name, _ARRIVAL, at, arrow, message, queued))


class Recorder:
    """The latest records of all threads. limit: how many are kept."""

    def __init__(self, limit: int) -> None:
        self.begin: Final = time.monotonic_ns()
        # Guards the ring, the count of all records so far, and the tracks. Held only for a few
        # steps, in which no other lock is taken.
        self._lock = threading.Lock()
        self._ring: deque[tuple[Any, ...]] = deque(maxlen=limit)
        self._count = 0
        self._numbers = 0
        # Each thread keeps its own track alive.
        self._tracks: WeakSet[Track] = WeakSet()
        self._local = threading.local()

    def track(self) -> Track:
        """Return the calling thread's track."""
        try:
            track: Track = self._local.track
        except AttributeError:
            with self._lock:
                self._numbers += 1
                track = self._local.track = Track(self, self._numbers)
                self._tracks.add(track)
        return track

    def record(self, record: tuple[Any, ...]) -> None:
        """Keep a record. Thread: any."""
        with self._lock:
            self._ring.append(record)
            self._count += 1

    def change(self, track: Track, state: State | None, record: tuple[Any, ...]) -> None:
        """Record the end of the track's state and set the next; `read` sees both or neither.

        Thread: the track's.
        """
        with self._lock:
            self._ring.append(record)
            self._count += 1
            track.state = state

    def read(self) -> tuple[list[Slice], list[Point], int]:
        """Return the records, including current states, and how many are lost. Thread: any."""
        with self._lock:
            records = list(self._ring)
            lost = self._count - len(records)
            states = [(track, track.state) for track in self._tracks]
        slices: list[Slice] = []
        points: list[Point] = []
        for thread, name, kind, moment, *rest in records:
            if kind in (RUN, WAIT):
                end, state_name, said = rest
                slices.append(Slice(thread, name, kind, moment, end, state_name, dict(said)))
            else:
                (arrow, what, channel), message, queued = rest
                points.append(
                    Point(thread, name, kind, moment, arrow, what, channel, message, queued)
                )
        now = time.monotonic_ns()
        for track, state in states:
            if state is not None:
                begin, name, kind, args = state
                args = dict(args or ()) | {"unfinished": True}
                end = max(now, begin) + 1
                slices.append(Slice(track.number, track.name, kind, begin, end, name, args))
        return slices, points, lost


def _frozen(args: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (key, tuple(value) if isinstance(value, list) else value) for key, value in args.items()
    )


def _name() -> str:
    thread = threading.current_thread()
    return "main" if thread is threading.main_thread() else thread.name

"""The recorder: what the threads of a chat did last.

Each thread has a Track, on which it goes from state to state. A state that ends is a record in the
ring that all threads share; so is each end of an arrow, which is the way of one value from the
thread that sends to the thread that receives. When the ring is full, the oldest record makes room:
what is left is the last part of what all threads did, and it is known how much is lost.

Threads share the ring and nothing else, and a lock guards it. What a thread is at is its own.
Nothing is computed or written before the end, when `read` makes a copy.

The records in the ring are plain tuples of numbers, strings and such tuples. The garbage collector
leaves those alone, and looks again and again at hundreds of thousands of anything else.

Times are in nanoseconds of `time.monotonic_ns`. On one track no two are the same.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from weakref import WeakSet

__all__ = ["RUN", "WAIT", "Arrow", "Point", "Recorder", "Slice", "State", "Track"]

#: The kinds of states.
RUN: Final = "run"
WAIT: Final = "wait"

# In the place of the kind, what is the end of an arrow.
_START: Final = "start"
_ARRIVAL: Final = "arrival"

# A thread makes at most so many arrows: their numbers begin with the thread's.
_ARROWS: Final = 1 << 32

#: An arrow's number, what it is called, and the channel by which it goes.
Arrow = tuple[int, str, str]


class State(NamedTuple):
    """What a thread is at.

    A thread that runs may be waiting for the interpreter lock, which a program cannot see.
    """

    begin: int
    name: str
    kind: str
    args: dict[str, Any] | None


class Slice(NamedTuple):
    """A state that has ended. thread, name: the thread's number, and its name by then."""

    thread: int
    name: str
    kind: str
    #: When it began.
    time: int
    end: int
    state: str
    args: dict[str, Any]


class Point(NamedTuple):
    """An end of an arrow: where it starts, or where it arrives. thread, name: see Slice."""

    thread: int
    name: str
    kind: str
    time: int
    #: See Arrow.
    arrow: int
    what: str
    channel: str
    #: The message's place in the hub's order, from 1; 0 for what is no message, and before the hub
    #: has it.
    message: int
    #: How many values are in a buffered channel then; None for an unbuffered one.
    queued: int | None

    @property
    def arrives(self) -> bool:
        return self.kind == _ARRIVAL


class Track:
    """What one thread does. All methods are for that thread; made by `Recorder.track`."""

    def __init__(self, recorder: Recorder, number: int) -> None:
        self._recorder = recorder
        self.number: Final = number
        self.name = _name()
        #: What the thread is at; None before and after. Any thread may look at this.
        self.state: State | None = None
        #: On the thread of the hub: the number of the message that is being broadcast.
        self.message = 0
        self._last = 0
        self._arrows = number * _ARROWS

    def now(self) -> int:
        """The time, later than all times before on this track."""
        now = time.monotonic_ns()
        self._last = now if now > self._last else self._last + 1  # max takes twice as long
        return self._last

    def next(self) -> int:
        """The moment right behind the last time on this track."""
        self._last += 1
        return self._last

    def run(self, name: str, args: dict[str, Any] | None = None) -> None:
        """The thread works from now on."""
        self._enter(State(self.now(), name, RUN, args))

    def wait(self, name: str, args: dict[str, Any] | None = None) -> None:
        """The thread waits from now on."""
        self._enter(State(self.now(), name, WAIT, args))

    def waited(self, name: str, since: int) -> None:
        """The wait that ends now has been one for this since then, or since its begin."""
        if self.state is not None and self.state.kind == WAIT and since <= self.state.begin:
            self.state = self.state._replace(name=name)
        else:
            self._last = max(since, self._last + 1)
            self._enter(State(self._last, name, WAIT, None))

    @contextmanager
    def waiting(self, name: str, args: dict[str, Any] | None = None) -> Iterator[None]:
        """The thread waits in the block, and behind it is again at what it was at before."""
        before = self.state
        self.wait(name, args)
        try:
            yield
        finally:
            self._enter(before and State(self.now(), *before[1:]))

    def leave(self) -> None:
        """The thread does nothing more that is traced."""
        self._enter(None)

    def _enter(self, state: State | None) -> None:
        if self.state is None:
            self.state = state
            return
        begin, name, kind, args = self.state
        end = state.begin if state is not None else self.now()
        said = _frozen(args) if args else ()
        self._recorder.change(self, state, (self.number, self.name, kind, begin, end, name, said))

    def note(self, key: str, value: object) -> None:
        """Add a value to a list in what is said of the present state, which there has to be."""
        assert self.state is not None
        assert self.state.args is not None
        self.state.args.setdefault(key, []).append(value)

    def new_arrow(self, what: str, channel: str) -> Arrow:
        """An arrow that no other is: what it is called, and the channel by which it goes."""
        self._arrows += 1
        return self._arrows, what, channel

    def starts(self, arrow: Arrow, at: int, message: int, queued: int | None = None) -> None:
        """An arrow starts here. at: a time of `now` or `next`, in the present state. See Point."""
        self._recorder.record((self.number, self.name, _START, at, arrow, message, queued))

    def arrives(self, arrow: Arrow, at: int, message: int, queued: int | None = None) -> None:
        """An arrow arrives here. See `starts`."""
        self._recorder.record((self.number, self.name, _ARRIVAL, at, arrow, message, queued))

    @contextmanager
    def life(self, name: str) -> Iterator[None]:
        """The thread works on `name` at first, and does nothing that is traced behind the block."""
        self.name = _name()
        self.run(name)
        try:
            yield
        finally:
            self.leave()


class Recorder:
    """The last records of all threads. limit: how many."""

    def __init__(self, limit: int) -> None:
        self.begin: Final = time.monotonic_ns()
        # Guards the ring, the count of all records ever, and the tracks. This lock is taken last,
        # and for a few steps.
        self._lock = threading.Lock()
        self._ring: deque[tuple[Any, ...]] = deque(maxlen=limit)
        self._count = 0
        self._numbers = 0
        # A track is kept by its thread.
        self._tracks: WeakSet[Track] = WeakSet()
        self._local = threading.local()

    def track(self) -> Track:
        """The calling thread's track."""
        try:
            track: Track = self._local.track
        except AttributeError:
            with self._lock:
                self._numbers += 1
                track = self._local.track = Track(self, self._numbers)
                self._tracks.add(track)
        return track

    def record(self, record: tuple[Any, ...]) -> None:
        """Keep a record. Any thread."""
        with self._lock:
            self._ring.append(record)
            self._count += 1

    def change(self, track: Track, state: State | None, record: tuple[Any, ...]) -> None:
        """Keep a record of the track's state, which ends, and set the next, in one step for `read`.

        The track's thread.
        """
        with self._lock:
            self._ring.append(record)
            self._count += 1
            track.state = state

    def read(self) -> tuple[list[Slice], list[Point], int]:
        """The records, with what threads are at right now; and how many are lost. Any thread."""
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

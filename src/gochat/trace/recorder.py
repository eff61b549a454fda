"""Keeps the latest records of what the threads of a chat did.

Each thread has a Track with its current state. When a state ends, it becomes a record in a ring
that all threads share. An arrow is the path of one value from a sender to a receiver. It becomes
two records, one for each end. When the ring is full, each new record replaces the oldest, which
counts as lost.

Recording must be cheap. Only the ring is shared and needs a lock, and nothing is computed before
`read`. Records are plain tuples of numbers, strings and tuples, because the garbage collector skips
these. It would traverse hundreds of thousands of other objects again and again.

Times are in nanoseconds, from `time.monotonic_ns`. No two times on a track are equal.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Final, NamedTuple
from weakref import WeakSet

__all__ = ["RUN", "WAIT", "Arrow", "Point", "Recorder", "Slice", "State", "Track"]

#: The two kinds of states.
RUN: Final = "run"
WAIT: Final = "wait"

# In the record of an arrow's end, one of these takes the place of a state's kind.
_START: Final = "start"
_ARRIVAL: Final = "arrival"

# The maximum number of arrows per thread. A thread's arrow numbers start after the thread's number
# times this.
_ARROWS: Final = 1 << 32

#: An arrow's number, its name, and the name of its channel.
Arrow = tuple[int, str, str]


class State(NamedTuple):
    """The state of a thread.

    A thread that waits for the interpreter lock counts as running: a program cannot see that wait.
    """

    begin: int
    name: str
    kind: str
    args: dict[str, Any] | None


class Slice(NamedTuple):
    """A state that has ended. thread, name: the thread's number, and its name at that time."""

    thread: int
    name: str
    kind: str
    #: The time when the state began.
    time: int
    end: int
    state: str
    args: dict[str, Any]


class Point(NamedTuple):
    """One end of an arrow. thread, name: see Slice."""

    thread: int
    name: str
    kind: str
    time: int
    #: The arrow's number.
    arrow: int
    what: str
    channel: str
    #: The number of the message, counted by the hub from 1. It is 0 for other values, and for
    #: messages that the hub has not received yet.
    message: int
    #: Number of values in a client's channel; None for the hub's channels.
    queued: int | None

    @property
    def arrives(self) -> bool:
        return self.kind == _ARRIVAL


class Track:
    """The state of one thread. Made by `Recorder.track`. Thread: the track's."""

    def __init__(self, recorder: Recorder, number: int) -> None:
        self._recorder = recorder
        self.number: Final = number
        self.name = _name()
        #: What the thread is doing; None while it is not traced. Thread: any.
        self.state: State | None = None
        #: In the hub's thread, the number of the message that it is distributing.
        self.message = 0
        # The states that `resume` restores, one for each wait in progress.
        self._paused: list[State | None] = []
        self._last = 0
        self._arrows = number * _ARROWS

    def now(self) -> int:
        """Return the current time, or a later one if the track already has this time."""
        now = time.monotonic_ns()
        self._last = now if now > self._last else self._last + 1  # max takes twice as long
        return self._last

    def next(self) -> int:
        """Return the time one nanosecond after the track's last time."""
        self._last += 1
        return self._last

    def run(self, name: str, args: dict[str, Any] | None = None) -> None:
        """Record that the thread begins to work."""
        self._enter(State(self.now(), name, RUN, args))

    def wait(self, name: str, args: dict[str, Any] | None = None) -> None:
        """Record that the thread begins to wait."""
        self._enter(State(self.now(), name, WAIT, args))

    def waited(self, name: str, since: int) -> None:
        """Record that the thread has waited for `name` from the time `since` until now."""
        if self.state is not None and self.state.kind == WAIT and since <= self.state.begin:
            self.state = self.state._replace(name=name)
        else:
            self._last = max(since, self._last + 1)
            self._enter(State(self._last, name, WAIT, None))

    def pause(self, name: str, args: dict[str, Any] | None = None) -> None:
        """Record that the thread begins a wait. After it, `resume` restores the current state."""
        self._paused.append(self.state)
        self.wait(name, args)

    def resume(self) -> None:
        """Record that the thread returns to the state before `pause`."""
        before = self._paused.pop()
        self._enter(before and State(self.now(), *before[1:]))

    def leave(self) -> None:
        """Record that the thread is no longer traced."""
        self._enter(None)

    def _enter(self, state: State | None) -> None:
        if self.state is None:
            self.name = _name()  # a thread gets a new name when it becomes a pump
            self.state = state
            return
        begin, name, kind, args = self.state
        end = state.begin if state is not None else self.now()
        said = _frozen(args) if args else ()
        self._recorder.change(self, state, (self.number, self.name, kind, begin, end, name, said))

    def note(self, key: str, value: object) -> None:
        """Append a value to a list in the current state's arguments, which must not be None."""
        assert self.state is not None
        assert self.state.args is not None
        self.state.args.setdefault(key, []).append(value)

    def new_arrow(self, what: str, channel: str) -> Arrow:
        """Return a new arrow. what: its name. channel: the channel's name."""
        self._arrows += 1
        return self._arrows, what, channel

    def starts(self, arrow: Arrow, at: int, message: int, queued: int | None = None) -> None:
        """Record where an arrow starts. at: the time, from `now` or `next`."""
        self._recorder.record((self.number, self.name, _START, at, arrow, message, queued))

    def arrives(self, arrow: Arrow, at: int, message: int, queued: int | None = None) -> None:
        """Record where an arrow ends. The arguments are those of `starts`."""
        self._recorder.record((self.number, self.name, _ARRIVAL, at, arrow, message, queued))


class Recorder:
    """Keeps the latest records of all threads. limit: the maximum number of records."""

    def __init__(self, limit: int) -> None:
        self.begin: Final = time.monotonic_ns()
        # Guards the ring, the count and the tracks. A thread holds it for a few steps only, and
        # takes no other lock meanwhile.
        self._lock = threading.Lock()
        self._ring: deque[tuple[Any, ...]] = deque(maxlen=limit)
        self._count = 0
        self._numbers = 0
        # Weak references, so that a track is released when its thread ends.
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
        """Add a record to the ring. Thread: any."""
        with self._lock:
            self._ring.append(record)
            self._count += 1

    def change(self, track: Track, state: State | None, record: tuple[Any, ...]) -> None:
        """Record a state that has ended, and set the next one, so that `read` sees both or neither.

        Thread: the track's.
        """
        with self._lock:
            self._ring.append(record)
            self._count += 1
            track.state = state

    def read(self) -> tuple[list[Slice], list[Point], int]:
        """Return the records, including the current states, and the number of lost records.

        Thread: any.
        """
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
                arrow, *more = rest
                points.append(Point(thread, name, kind, moment, *arrow, *more))
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

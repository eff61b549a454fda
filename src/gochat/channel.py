"""Channels: what Go has in the language, on `queue.Queue`.

| Go                                   | here                                          |
| ------------------------------------ | --------------------------------------------- |
| `make(chan T, n)`                    | `Channel(n)`                                  |
| `ch <- v`                            | `ch.send(v)`                                  |
| `v, ok := <-ch`                      | `v, ok = ch.recv()`                           |
| `select { case ch <- v: default: }`  | `ch.try_send(v)`, False for `default`         |
| `select { case v, ok := <-a: ... }`  | `channel, v, ok = select(a, b, deadline=...)` |
| `close(ch)`                          | `ch.close()`                                  |
| `len(ch)`, `cap(ch)`                 | `len(ch)`, `ch.capacity`                      |

Strategy: a channel is a queue with one more thing to say, "no more will come". That is a sentinel
behind what is queued, so the receiver drains the queue before it sees the end. A receiver that has
nothing to take leaves word in each channel that it is idle; who then puts something in wakes it.

Where this is not Go:

- An unbuffered Go channel is a rendezvous: the sender goes on when the receiver has the value. So
  it does here, but meanwhile the value lies in the channel's one place, whether or not anybody is
  there to take it. So `try_send`, which does not wait, succeeds when that place is free.
- Any number of goroutines may receive from a Go channel; here it is one thread at a time.
- `try_send` and `close` are for one thread, the sending side's. Go has the same custom for `close`.
- `select` receives; it has no cases that send. `try_send` is the only one that the chat needs. Its
  choice among several is by chance, but not an even one: from a place by chance and round.
"""

from __future__ import annotations

import queue
import random
import sys
import threading
import time
from contextlib import suppress
from functools import cached_property
from typing import Any, Final, TypeVar

from .turns import Waiter, turns

__all__ = ["CLOSED", "Channel", "ClosedChannelError", "select"]

T = TypeVar("T")

# Whether threads really run at the same time. With a GIL, one thread at a time executes Python, so
# all that threads do has one order, and deque's append and popleft are single steps of it
# (documentation of `collections.deque`). Where a look without a lock relies on that order, this
# takes the lock.
FREE_THREADED: Final = not getattr(sys, "_is_gil_enabled", lambda: True)()


class ClosedChannelError(RuntimeError):
    """A send on a closed channel, or a second close: a run-time panic in Go."""


class _Sentinel:
    def __repr__(self) -> str:
        return "CLOSED"


#: What lies behind the last value of a closed channel, and what the inherited `get` finds there.
CLOSED: Final[Any] = _Sentinel()


class Channel(queue.Queue[T]):
    """A queue that can be closed, and that one thread can wait for among others.

    capacity: how many values it holds; 0 as in `make(chan T)`, see above for what that means here.
    in_turn: its receiver takes turns with the receivers of all such channels, see turns.py. Between
        two receives it may wait for nothing but a Conn.

    Any thread may `send`. `try_send` and `close` are for the one thread that is the sending side,
    and receiving is for one thread at a time.
    """

    def __init__(self, capacity: int = 0, *, in_turn: bool = False) -> None:
        if capacity < 0:
            raise ValueError(f"negative capacity: {capacity}")
        super().__init__(max(capacity, 1))
        del self.not_empty, self.not_full, self.all_tasks_done  # made again when they are used
        self.capacity: Final = capacity
        self._in_turn: Final = in_turn
        self._closed = False
        # Whom to wake when something comes: the receiver, from when it has nothing to do until it
        # is woken. `mutex` guards that it is woken once.
        self._idle: _Bell | Waiter | None = None
        # How many senders wait for room, or to be received; and how many values have been. Guarded
        # by `mutex`, but for a look at whether anybody waits.
        self._waiting = 0
        self._received = 0

    # The conditions of queue.Queue, which cost a kilobyte each: few channels ever wait on one.
    not_empty = cached_property(lambda self: threading.Condition(self.mutex))
    not_full = cached_property(lambda self: threading.Condition(self.mutex))
    all_tasks_done = cached_property(lambda self: threading.Condition(self.mutex))

    # Of an unbuffered channel: the value in its place has been received.
    _receipt = cached_property(lambda self: threading.Condition(self.mutex))

    def __len__(self) -> int:
        """The number of values queued. Any thread."""
        with self.mutex:
            return len(self.queue) - (self._closed and len(self.queue) > 0)

    # Sending.

    def send(self, value: T) -> None:
        """Queue a value, and wait for room if there is none; unbuffered, until it is received.

        What one thread sends is thus received in its order even from several unbuffered channels.
        Any thread. Raises ClosedChannelError if the channel is closed, or gets closed before the
        value is queued.
        """
        self._send(value, None, until_received=self.capacity == 0)

    def try_send(self, value: T) -> bool:
        """Queue a value if there is room, and say whether there was. Never blocks.

        The sending side's one thread. Raises ClosedChannelError if the channel is closed, as Go
        panics even where there is a default case.
        """
        # The hub comes here for every client and message, so this takes no lock. Whoever sends
        # first queues and then looks for an idle receiver; a receiver first says that it is idle
        # and then looks at the queue. One of them sees the other.
        if len(self.queue) >= self.maxsize or self._closed:
            self._check_open()
            return False
        self.queue.append(value)
        if self._idle is not None or FREE_THREADED:
            self._wake()
        return True

    def close(self) -> None:
        """Say that no more will come. Fits a full channel too, and never blocks.

        The sending side's one thread. What is queued can still be received; who waits for room gets
        ClosedChannelError. So does a second close: as in Go it is a mistake, and not passed over.
        """
        with self.mutex:
            self._check_open("close of")
            self._closed = True
            self.queue.append(CLOSED)
            if self._waiting:
                self.not_full.notify_all()
        self._wake()

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """`queue.Queue.put`; raises ClosedChannelError as `send` does."""
        if timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        deadline = None if timeout is None else time.monotonic() + timeout
        self._send(item, deadline if block else 0.0)

    def _send(self, value: T, deadline: float | None, *, until_received: bool = False) -> None:
        with self.mutex:
            self._waiting += 1
            try:
                while len(self.queue) >= self.maxsize and not self._closed:
                    timeout = _seconds_until(deadline)
                    if timeout == 0:
                        raise queue.Full
                    self.not_full.wait(timeout)
                self._check_open()
                self.queue.append(value)
                self._wake_locked()
                received = self._received
                while until_received and self._received == received:
                    self._receipt.wait()
            finally:
                self._waiting -= 1

    def _check_open(self, what: str = "send on") -> None:
        if self._closed:
            raise ClosedChannelError(f"{what} closed channel")

    def _wake(self) -> None:
        with self.mutex:
            self._wake_locked()

    def _wake_locked(self) -> None:
        if self._idle is not None:
            receiver, self._idle = self._idle, None
            receiver.wake()

    # Receiving.

    def recv(self) -> tuple[T | None, bool]:
        """Wait for a value: `(value, True)`, or `(None, False)` when closed and drained.

        The receiving thread only.
        """
        _, value, ok = select(self)
        return value, ok

    def drain(self) -> list[T]:
        """Take all that is queued by now, oldest first; never blocks. The receiving thread only."""
        if self.capacity == 0:
            return [self._take()[0] for _ in range(len(self))]  # type: ignore[misc]
        take = self.queue.popleft
        values = [take() for _ in range(len(self.queue))]
        if values and values[-1] is CLOSED:
            self.queue.append(values.pop())
        self._make_room(len(values))
        return values

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """`queue.Queue.get`; gives CLOSED when closed and drained. The receiving thread only."""
        if timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")
        deadline = 0.0 if not block else None if timeout is None else time.monotonic() + timeout
        if self.queue:
            deadline = None
        channel, value, ok = select(self, deadline=deadline)
        if channel is None:
            raise queue.Empty
        return value if ok else CLOSED  # type: ignore[no-any-return]

    def _take(self) -> tuple[T | None, bool]:
        """Receive, where there is something. The sentinel stays, for every later receive."""
        if self.queue[0] is CLOSED:
            return None, False
        if self.capacity > 0:
            value = self.queue.popleft()
            self._make_room(1)
            return value, True
        with self.mutex:
            self._received += 1
            self._receipt.notify()
            self.not_full.notify()
            return self.queue.popleft(), True

    def _make_room(self, places: int) -> None:
        """Wake the senders that wait for room; after it has been made, as they look in turn."""
        if self._waiting or FREE_THREADED:
            with self.mutex:
                self.not_full.notify(places)

    def _set_idle(self, receiver: _Bell | Waiter) -> None:
        """Have the receiver woken by what comes. It has to look at the queue after this."""
        with self.mutex:
            if self._idle not in (None, receiver):
                raise RuntimeError("two threads receive from one channel")
            self._idle = receiver

    def _unset_idle(self, receiver: _Bell | Waiter) -> bool:
        """Have it woken no more. False if it has been: then a turn is on its way."""
        with self.mutex:
            if self._idle is not receiver:
                return False
            self._idle = None
            return True


def select(
    *channels: Channel[Any], deadline: float | None = None
) -> tuple[Channel[Any] | None, Any, bool]:
    """Wait until one of the channels has a value or is closed, and receive from it.

    Returns `(channel, value, True)`; `(channel, None, False)` for one that is closed and drained;
    `(None, None, False)` once `time.monotonic()` has reached `deadline`, in seconds.

    Among several that are ready the choice is by chance: none is starved. A deadline that
    has passed comes before them all, so what is to happen at that time happens in a busy room, too.

    One thread at a time may wait for a channel: RuntimeError if a second one is seen. A channel
    whose receiver takes turns is waited for alone: ValueError.
    """
    if len(channels) == 1 and channels[0]._in_turn:
        return _receive_in_turn(channels[0], deadline)
    if any(channel._in_turn for channel in channels):
        raise ValueError("a channel with turns is waited for alone")
    bell: _Bell | None = None
    try:
        while True:
            if deadline is not None and time.monotonic() >= deadline:
                return None, None, False
            for channel in _in_random_order(channels):
                if bell is not None:
                    channel._set_idle(bell)
                if channel.queue:
                    return channel, *channel._take()
            # Nothing there. Look once more with the bell in place, and only then wait for it: what
            # is sent after the look rings, what was sent before is seen by it.
            if bell is None:
                bell = _Bell()
            else:
                bell.wait(deadline)
    finally:
        if bell is not None:
            for channel in channels:
                channel._unset_idle(bell)


def _receive_in_turn(
    channel: Channel[Any], deadline: float | None
) -> tuple[Channel[Any] | None, Any, bool]:
    """`select` on one channel, with a turn for each value."""
    me = turns.waiter()
    while True:
        if deadline is not None and time.monotonic() >= deadline:
            return None, None, False
        if channel.queue:
            me.line_up()
            break
        channel._set_idle(me)
        if channel.queue and channel._unset_idle(me):
            continue
        timeout = _seconds_until(deadline)
        if not me.wait(-1 if timeout is None else timeout):
            if channel._unset_idle(me):
                return None, None, False
            me.wait()
        # A sender that was slow to wake may have meant a value that has been received meanwhile.
        if channel.queue:
            break
    return channel, *channel._take()


class _Bell:
    """What a receiver waits for, who waits for several channels, or takes no turns."""

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        self._rung: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        self._rung.put(None)

    def wait(self, deadline: float | None) -> None:
        with suppress(queue.Empty):
            self._rung.get(timeout=_seconds_until(deadline))


def _in_random_order(channels: tuple[Channel[Any], ...]) -> tuple[Channel[Any], ...]:
    """The channels, from a place by chance and round."""
    if len(channels) < 2:
        return channels
    start = int(random.random() * len(channels))
    return channels[start:] + channels[:start]


def _seconds_until(deadline: float | None) -> float | None:
    """For waiting: from 0 to what the system can wait for."""
    if deadline is None:
        return None
    return min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)

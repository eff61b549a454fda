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
behind the queued values, so a receiver drains the queue before it sees the end. A receiver that
finds nothing marks itself as idle in each of its channels; whichever thread then sends wakes it.

On an unbuffered channel, a sender that finds an idle receiver hands its value over, and goes on. A
sender that finds neither a receiver nor room joins a line with its value, and goes on when that has
been received. Both are as in Go's chan.go.

Where this is not Go:

- Any number of goroutines may receive from a Go channel; here one thread at a time may.
- `try_send` and `close` are for one thread, the sending side's. In Go the same is a custom for
  `close`.
- `select` only receives; it has no cases that send. `try_send` is the only such case that the chat
  needs. The choice among several ready channels is random, but not uniform: the search begins at a
  random channel and goes round.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

from .turns import FREE_THREADED, Waiter, turns

__all__ = ["CLOSED", "AbandonedChannelError", "Channel", "ClosedChannelError", "select"]

T = TypeVar("T")


class ClosedChannelError(RuntimeError):
    """A send on a closed channel, or a second close: a run-time panic in Go."""


class AbandonedChannelError(ConnectionAbortedError):
    """A send on a channel that nobody will receive from: the end of the program in Go.

    Not a mistake of the sender's, so a pump that sends takes it as the end of its connection.
    """


class _Sentinel:
    def __repr__(self) -> str:
        return "CLOSED"


#: Stands behind the last value of a closed channel. The inherited `get` returns it.
CLOSED: Final[Any] = _Sentinel()


class Channel(queue.Queue[T]):
    """A queue that can be closed, and that a thread can wait for together with others.

    capacity: how many values the channel holds; 0 as in `make(chan T)`: every send is a rendezvous.
    in_turn: the receiver takes turns with the receivers of all such channels, see turns.py. Between
        two receives that thread may wait for nothing but a Conn.

    Any thread may `send`. `try_send` and `close` are for the one thread that is the sending side,
    and one thread at a time may receive. If other threads `send` beside the one that calls
    `try_send`, each of them may bring the channel one value above its capacity.

    Of queue.Queue's methods, `put`, `get` and those made of them work as usual. `qsize` and `full`
    count the sentinel of a closed channel. `task_done` and `join` have nothing to count, and the
    `shutdown` of Python 3.13 does nothing: `close` takes its place.
    """

    def __init__(self, capacity: int = 0, *, in_turn: bool = False) -> None:
        if capacity < 0:
            raise ValueError(f"negative capacity: {capacity}")
        # What queue.Queue's own method sets, without its three conditions: no channel waits for
        # them, and they would cost kilobytes and ten microseconds. They are made if asked for.
        self.maxsize = max(capacity, 1)
        self._init(self.maxsize)
        self.mutex = threading.Lock()
        self.unfinished_tasks = 0
        self.is_shutdown = False
        self.capacity: Final = capacity
        self._in_turn: Final = in_turn
        # Set once, under `mutex`. Two look at it without the lock: `try_send`, which is called by
        # the thread that closes, and so cannot miss it; and a receiver, which only decides by it
        # whether to take a turn for what is left, and learns of the end from the sentinel.
        self._closed = False
        # Set once, under `mutex`, with `_closed`: nobody will receive, so there is no sentinel.
        self._abandoned = False
        # The receiver that has found nothing. Set by the receiver, which can be claimed by then;
        # unset by the thread that claims it, which wakes the receiver, or is the receiver and goes
        # on by itself. (What is left here from an earlier wait cannot be claimed any more.)
        self._idle: _Bell | Waiter | None = None
        # The senders that wait, in line. Guarded by `mutex`; whether there are any is looked at
        # without.
        self._offers: list[_Offer[T]] = []

    not_empty = cached_property(lambda self: threading.Condition(self.mutex))
    not_full = cached_property(lambda self: threading.Condition(self.mutex))
    all_tasks_done = cached_property(lambda self: threading.Condition(self.mutex))

    def __len__(self) -> int:
        """How many values are queued; 0 for an unbuffered channel. Any thread."""
        with self.mutex:
            if self.capacity == 0:
                return 0
            sentinel = self._closed and not self._abandoned
            return len(self.queue) - (sentinel and len(self.queue) > 0)

    @property
    def senders(self) -> int:
        """How many threads wait to send, or did a moment ago. Any thread."""
        return len(self._offers)

    # Sending.

    def send(self, value: T) -> None:
        """Queue a value, and wait for room if there is none; unbuffered, wait for a receiver.

        So values that a thread sends to several unbuffered channels are received in that order. Any
        thread. Raises ClosedChannelError if the channel is closed, or gets closed before the value
        is queued or received.
        """
        self._send(value, None)

    def try_send(self, value: T) -> bool:
        """Queue a value if there is room, and say whether there was. Never blocks.

        Unbuffered: hand the value to a receiver that waits, and say whether there was one. The
        sending side's one thread. Raises ClosedChannelError if the channel is closed, as Go panics
        even where there is a default case.
        """
        # The hub comes here for every client and message, so this takes no lock. The sender first
        # queues its value and then looks for an idle receiver. The receiver first marks itself as
        # idle and then looks at the queue. Whichever comes second sees what the first has done, so
        # no value is left lying before a sleeping receiver.
        if len(self.queue) >= self.capacity or self._closed:
            return self.no_room(value)
        self.queue.append(value)
        if FREE_THREADED:
            with self.mutex:
                self._wake()
        elif self._idle is not None:
            self._wake()
        return True

    def no_room(self, value: T) -> bool:
        """What `try_send` comes to without room: for a subclass that counts how often.

        Hands the value to a receiver that waits for an unbuffered channel, and says whether there
        was one. The sending side's one thread. Raises ClosedChannelError.
        """
        with self.mutex:
            self._check_open()
            return self._hand_over(value)

    def close(self) -> None:
        """Say that no more will come. Fits a full channel too, and never blocks.

        The sending side's one thread. What is queued can still be received. A thread that waits to
        send gets ClosedChannelError. A second close raises ClosedChannelError too, because in Go it
        is a panic.
        """
        with self.mutex:
            self._check_open("close of")
            self._closed = True
            self.queue.append(CLOSED)
            for offer in self._offers:
                offer.answer(accepted=False)
            self._offers.clear()
            if receiver := self._claim():
                receiver.let_go()

    def abandon(self) -> None:
        """Say that nobody will receive any more. Any thread, repeatedly; never blocks.

        Every send raises AbandonedChannelError from now on, also one that waits. A receiver that
        waits all the same goes on waiting.
        """
        with self.mutex:
            self._closed = self._abandoned = True
            for offer in self._offers:
                offer.answer(accepted=False)
            self._offers.clear()

    def shutdown(self, immediate: bool = False) -> None:
        """Do nothing: `close` takes the place of what Python 3.13 has under this name. Any thread.

        The inherited method would throw away what is queued, with the sentinel.
        """

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """`queue.Queue.put`; raises ClosedChannelError as `send` does."""
        if block:
            self._send(item, _deadline_of(timeout))
        elif not self.try_send(item):
            raise queue.Full

    def _send(self, value: T, deadline: float | None) -> None:
        with self.mutex:
            self._check_open()
            if len(self.queue) < self.capacity:
                self.queue.append(value)
                self._wake()
                return
            if self._hand_over(value):
                return
            offer = _Offer(value)
            self._offers.append(offer)
            self._wake()
            # A receiver takes a value without the lock, and then looks at the line. Either it saw
            # this offer there, or it had made room before this line looks for room.
            self._make_room()
        timeout = _seconds_until(deadline)
        try:
            answered = offer.gate.acquire(timeout=-1 if timeout is None else timeout)
        except BaseException:  # a signal handler's
            self._withdraw(offer)
            raise
        if not answered and self._withdraw(offer):
            raise queue.Full
        if not offer.accepted:
            self._check_open()

    def _withdraw(self, offer: _Offer[T]) -> bool:
        """Leave the line. False if it is too late, because the offer was answered."""
        with self.mutex:
            if offer.accepted is not None:
                return False
            self._offers.remove(offer)
            return True

    def _check_open(self, what: str = "send on") -> None:
        if self._abandoned:
            raise AbandonedChannelError("nobody receives any more")
        if self._closed:
            raise ClosedChannelError(f"{what} closed channel")

    # With `mutex` held:

    def _make_room(self) -> None:
        """Queue the values of the senders in line, as far as there is room."""
        while self._offers and len(self.queue) < self.capacity:
            offer = self._offers.pop(0)
            self.queue.append(offer.value)
            offer.answer(accepted=True)

    def _hand_over(self, value: T) -> bool:
        """Give a value to a receiver that waits for an unbuffered channel. Whether there is one."""
        if self.capacity > 0 or (receiver := self._claim()) is None:
            return False
        self.queue.append(value)
        receiver.wake()
        return True

    def _claim(self) -> _Bell | Waiter | None:
        """The receiver, if it is idle: this thread has to wake it, and no other will."""
        receiver = self._idle
        if receiver is None or not receiver.claim(self):
            return None
        self._idle = None
        return receiver

    def _wake(self) -> None:
        if receiver := self._claim():
            receiver.wake()

    # Receiving.

    def recv(self) -> tuple[T | None, bool]:
        """Wait for a value: `(value, True)`, or `(None, False)` when closed and drained.

        The receiving thread only.
        """
        _, value, ok = select(self)
        return value, ok

    def drain(self) -> list[T]:
        """Take all that is queued by now, oldest first; never blocks. The receiving thread only.

        Of an unbuffered channel: the values of the senders in line.
        """
        if self.capacity == 0:
            taken = [self._take() for _ in range(len(self.queue) + len(self._offers))]
            return [pair[0] for pair in taken if pair and pair[1]]  # type: ignore[misc]
        # Without the lock. Senders only append, and this thread alone pops, so the number of values
        # seen here can only grow until they are popped, and each popleft is a single step.
        take = self.queue.popleft
        values = [take() for _ in range(len(self.queue))]
        if values and values[-1] is CLOSED:
            # The sentinel is the last value that ever comes. It is put back for every later
            # receive, which must find it again; nothing can have been queued behind it meanwhile.
            self.queue.append(values.pop())
        if self._offers or FREE_THREADED:
            self._admit()
        return values

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """`queue.Queue.get`; gives CLOSED when closed and drained. The receiving thread only."""
        deadline = _deadline_of(timeout) if block else 0.0
        taken = self._take()
        if taken is None:
            channel, value, ok = select(self, deadline=deadline)
            if channel is None:
                raise queue.Empty
            taken = value, ok
        return CLOSED if not taken[1] else taken[0]  # type: ignore[return-value]

    def _take(self) -> tuple[T | None, bool] | None:
        """Receive, if there is anything. The sentinel stays, for every later receive."""
        while self.queue or self._offers:
            if self.queue:
                if self.queue[0] is CLOSED:
                    return None, False
                value = self.queue.popleft()
                if self._offers or FREE_THREADED:
                    self._admit()
                return value, True
            with self.mutex:
                # A value may have been queued meanwhile, and comes before those of the line.
                if self._offers and not self.queue:
                    offer = self._offers.pop(0)
                    offer.answer(accepted=True)
                    return offer.value, True
        return None

    def _admit(self) -> None:
        """Let senders in after making room. A sender joins the line first, then looks for room."""
        with self.mutex:
            self._make_room()

    def _set_idle(self, receiver: _Bell | Waiter) -> None:
        """Mark the receiver as idle, to be woken. It must look at the queue after this.

        Raises RuntimeError if another thread is marked.
        """
        if FREE_THREADED:
            with self.mutex:
                self._mark(receiver)
        else:
            self._mark(receiver)

    def _mark(self, receiver: _Bell | Waiter) -> None:
        other = self._idle
        if other is not None and other is not receiver and other.is_idle():
            raise RuntimeError("two threads receive from one channel")
        self._idle = receiver

    def _unset_idle(self, receiver: Waiter) -> bool:
        """Withdraw the mark of a receiver that takes turns. False if a sender has claimed it.

        That sender wakes the receiver, so a False must not be ignored: the sender has promised a
        turn, which may come only later. The receiver must wait once more, to take that turn;
        otherwise the turn would be lost, or come in the middle of its next wait.
        """
        if not receiver.claim(self):
            return False
        self._idle = None
        return True


class _Offer(Generic[T]):
    """A value that a sender waits to hand over (Go: sudog)."""

    __slots__ = ("accepted", "gate", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        # The answer: whether the value was taken. None until then. Guarded by the channel's mutex.
        self.accepted: bool | None = None
        # Released with the answer, for the sender that waits.
        self.gate = threading.Lock()
        self.gate.acquire()

    def answer(self, *, accepted: bool) -> None:
        self.accepted = accepted
        self.gate.release()


def select(
    *channels: Channel[Any], deadline: float | None = None
) -> tuple[Channel[Any] | None, Any, bool]:
    """Wait until one of the channels has a value or is closed, and receive from it.

    Returns `(channel, value, True)`; `(channel, None, False)` for one that is closed and drained;
    `(None, None, False)` once `time.monotonic()` has reached `deadline`, in seconds.

    Among several that are ready the choice is random, so none is starved. A deadline that has
    passed comes before them all, so that what is due then happens in a busy room, too.

    Raises RuntimeError if a second thread is seen to wait for a channel, and ValueError if a
    channel whose receiver takes turns is not the only one.
    """
    if channels and channels[0]._in_turn and len(channels) == 1:
        return _receive_in_turn(channels[0], deadline)
    for channel in channels:
        if channel._in_turn:
            raise ValueError("a channel with turns is waited for alone")
    while True:
        if deadline is not None and time.monotonic() >= deadline:
            return None, None, False
        received = _take_any(channels)
        if received is not None:
            return received
        # Nothing there. Look once more with the bell in place, and only then wait for it. A value
        # sent before that second look is seen by it; a value sent after it rings.
        bell = _Bell(channels)
        for channel in channels:
            if channel.queue or channel._offers:
                rung = not bell.disarm() and bell.wait(None)
                break
        else:
            rung = bell.wait(deadline)
        # The sender that has rung may have handed its value over: that one comes first.
        if rung and bell.channel is not None:
            taken = bell.channel._take()
            if taken is not None:
                return bell.channel, *taken


def _take_any(channels: tuple[Channel[Any], ...]) -> tuple[Channel[Any], Any, bool] | None:
    """Receive from one of those that have anything. The search begins at random."""
    for channel in _in_random_order(channels):
        if channel.queue or channel._offers:
            taken = channel._take()
            if taken is not None:
                return channel, *taken
    return None


def _receive_in_turn(
    channel: Channel[Any], deadline: float | None
) -> tuple[Channel[Any] | None, Any, bool]:
    """`select` on one channel, with a turn for each value."""
    me = turns.waiter()
    queue, offers = channel.queue, channel._offers
    timeout: float = -1
    while True:
        if deadline is not None:
            timeout = deadline - time.monotonic()
            if timeout <= 0:
                return None, None, False
            timeout = min(timeout, threading.TIMEOUT_MAX)
        if not queue and not offers:
            me.arm()
            channel._set_idle(me)
            if (queue or offers) and channel._unset_idle(me):
                continue
            if not me.wait(timeout):
                if channel._unset_idle(me):
                    return None, None, False
                me.wait()  # a sender has taken the mark just now: its turn is on the way
        elif not channel._closed or not queue:  # what is left of a closed one needs no turn
            me.line_up()
        # There may be nothing: a sender that is slow to wake this thread may do it for a value that
        # was received meanwhile.
        taken = channel._take()
        if taken is not None:
            value, ok = taken
            return channel, value, ok


class _Bell:
    """One wait of a thread for several channels, or for one without turns.

    The first sender that claims the bell has to ring it, and may hand a value over before, as in Go
    a sender does with a `sudog`. Channels may keep the bell after the wait; nobody can claim it any
    more. So each wait needs a bell of its own: with one bell for many waits, a sender that is slow
    to claim could claim a later wait, which may be for other channels.
    """

    __slots__ = ("_claimed", "_gate", "channel")

    def __init__(self, channels: tuple[Channel[Any], ...]) -> None:
        """Begin to wait. Raises RuntimeError if another thread waits for one of the channels."""
        # Acquired once, by the sender that claims the bell, or by the receiver that ends the wait.
        self._claimed = threading.Lock()
        # Released to wake the receiver.
        self._gate = threading.Lock()
        self._gate.acquire()
        #: The channel whose sender has claimed the bell. Set before the gate is released.
        self.channel: Channel[Any] | None = None
        try:
            for channel in channels:
                channel._set_idle(self)
        except BaseException:
            self.disarm()
            raise

    # Any sender:

    def claim(self, channel: Channel[Any]) -> bool:
        """Whether the calling thread is the one that has to wake the receiver."""
        if not self._claimed.acquire(False):
            return False
        self.channel = channel
        return True

    def is_idle(self) -> bool:
        """Whether the receiver waits."""
        return not self._claimed.locked()

    def wake(self) -> None:
        self._gate.release()

    let_go = wake

    # The receiver:

    def disarm(self) -> bool:
        """End the wait. False if a sender has claimed the bell, and will ring it."""
        return self._claimed.acquire(False)

    def wait(self, deadline: float | None) -> bool:
        """Wait to be rung. False if the deadline came first; then the wait has ended."""
        try:
            timeout = _seconds_until(deadline)
            if self._gate.acquire(timeout=-1 if timeout is None else timeout):
                return True
        except BaseException:  # a signal handler's, perhaps after the gate was acquired
            self.disarm()  # if a sender has come first, its value is there for the next receive
            raise
        return not self.disarm() and self._gate.acquire()


def _in_random_order(channels: tuple[Channel[Any], ...]) -> tuple[Channel[Any], ...]:
    """The channels, from a random one on and round."""
    if len(channels) < 2:
        return channels
    start = int(random.random() * len(channels))
    return channels[start:] + channels[:start]


def _deadline_of(timeout: float | None) -> float | None:
    """The deadline for a timeout of a method of queue.Queue. Raises ValueError below 0."""
    if timeout is None:
        return None
    if timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return time.monotonic() + timeout


def _seconds_until(deadline: float | None) -> float | None:
    """How long to wait: from 0 to what the system can wait for."""
    if deadline is None:
        return None
    return min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)

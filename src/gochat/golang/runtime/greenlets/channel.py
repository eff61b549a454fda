"""Go's channels, for greenlets.

They are used like the channels for threads; see the table in threads/channel.py.

A channel has a queue of values, a line of senders that wait for room, and at most one waiting
receiver. The receiver takes values from the queue first, then from the line. On an unbuffered
channel, a sender that finds a waiting receiver puts its value into the queue and continues. If the
receiver is killed before it runs, the value stays in the queue for the next receiver.

Operations wait only in `park`, and no other greenlet runs between two calls of `park`. But a signal
handler can run at any point. If the handler interrupts a send and calls `try_send`, the channel may
exceed its capacity by one value.
"""

from __future__ import annotations

import random
from collections import deque
from queue import Empty, Full
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from gevent import getcurrent

from ...closed import CLOSED, Closing, deadline_of
from ...goroutine import ChannelStatistics, Observer
from .turns import TurnWaiter, turns
from .waiter import Waiter

__all__ = ["Channel", "select"]

T = TypeVar("T")


class _Offer(Generic[T]):
    """A value and the sender that waits for it to be taken (Go: sudog)."""

    __slots__ = ("taken", "value", "waiter")

    def __init__(self, value: T) -> None:
        self.value = value
        self.taken = False
        self.waiter: Final = Waiter()


class _Receiver(Waiter):
    """A greenlet's single wait for channels without turns."""

    __slots__ = ("channels", "giver")

    def __init__(self, channels: tuple[Channel[Any], ...]) -> None:
        super().__init__()
        self.channels: Final = channels
        #: The channel that woke the greenlet.
        self.giver: Channel[Any] | None = None

    def call(self, giver: Channel[Any]) -> None:
        """End the wait for all channels, and wake the greenlet."""
        self.giver = giver
        self.forget()
        self.wake()

    let_go = call

    def forget(self) -> None:
        """End the wait for all channels."""
        for channel in self.channels:
            channel._forget(self)


class Channel(Closing[T]):
    """A queue that can be closed, and from which `select` can receive.

    capacity: the number of values that the channel can hold. With 0, a send waits for a receive, as
        in Go. Raises ValueError if it is negative.
    in_turn: whether the receiver takes turns with the receivers of all other `in_turn` channels;
        see turns.py.

    Any greenlet may `send`, `try_send` and `close`. Only one greenlet at a time may receive.

    `bool(channel)` is True, even if the channel is empty. The methods of queue.Queue work as usual,
    except that `task_done`, `join` and `shutdown` raise NotImplementedError.
    """

    def __init__(self, capacity: int = 0, *, in_turn: bool = False) -> None:
        super().__init__(capacity)
        #: The queued values, oldest first. The receiver of a channel with turns usually drains the
        #: queue, and a list can be drained faster.
        self.queue: deque[T] | list[T] = [] if in_turn else deque()
        self._in_turn: Final = TurnWaiter() if in_turn else None
        # The line of senders; None before the first sender.
        self._offers: deque[_Offer[T]] | None = None
        # The waiting receiver, until it is woken.
        self._idle: _Receiver | TurnWaiter | None = None
        # `try_send` queues a value without further checks if the queue is shorter than this: 0
        # while a receiver waits, and otherwise `_accepts`.
        self._room = capacity
        # Whether `close` was called, so that the receiver sees the end after the last value.
        # `abandon` does not set this.
        self._ended = False

    @property
    def receiver(self) -> int | None:
        """The ident of the last greenlet that received in turn; None if none has."""
        waiter = self._in_turn
        return None if waiter is None or waiter.greenlet is None else id(waiter.greenlet)

    def statistics(self) -> ChannelStatistics:
        """Return the channel's state, its waiting greenlets and its counters."""
        return self._statistics(
            senders=len(self._offers or ()),
            receiver=self.receiver,
            receiver_waits=self._idle is not None,
        )

    def observe(self, observer: Observer) -> None:
        """Report the channel's events to an observer; see `Closing.observe`."""
        super().observe(observer)
        self._room = self._accepts

    # Sending.

    def try_send(self, value: T) -> bool:
        """Send a value unless that requires a wait, and return whether it was sent. Never blocks.

        A wait is required if the channel is full, or if it is unbuffered and no receiver waits.
        Raises ClosedChannelError if the channel is closed; in Go, even a select with a default case
        panics then.
        """
        queue = self.queue
        if len(queue) < self._room:
            queue.append(value)
            return True
        if self.observers:
            return self._observed(self._try_send, value)
        return self._try_send(value)

    def close(self) -> None:
        """Close the channel, even if it is full. Never blocks.

        Queued values can still be received. Greenlets that wait to send get ClosedChannelError.
        Raises ClosedChannelError if the channel is already closed; in Go, a second close panics.
        """
        self._check_open("close of")
        for observer in self.observers:
            observer.closes(self)
        self._left = len(self)
        self._closed = self._ended = True
        self._accepts = self._room = 0
        self._refuse()
        receiver, self._idle = self._idle, None
        if receiver is not None:
            receiver.let_go(self)

    def abandon(self) -> None:
        """Declare that the channel has lost its receiver. Never blocks.

        From then on, every send raises AbandonedChannelError, even a send that is already waiting.
        A waiting receiver is not woken. May be called more than once.
        """
        self._abandoned = self._closed = True
        self._accepts = self._room = 0
        self._refuse()

    def _try_send(self, value: T) -> bool:
        """Send without a wait, on any channel. Return whether the value was sent."""
        if self._closed:
            self._check_open()
        if len(self.queue) < self.capacity:
            self.queue.append(value)
            self._wake()
            return True
        sent = self.capacity == 0 and self._hand_over(value)
        self._refused += not sent
        return sent

    def _wait_to_send(self, value: T, deadline: float | None) -> None:
        self._check_open()
        if self.capacity:
            if len(self.queue) < self.capacity:
                self.queue.append(value)
                self._wake()
                return
        elif self._hand_over(value):
            return
        offer = _Offer(value)
        if self._offers is None:
            self._offers = deque()
        self._offers.append(offer)
        if self._closed:  # a signal handler has closed the channel since the check above
            offer.waiter.wake()
        try:
            woken = offer.waiter.park_for("send", deadline)
        finally:
            offer.waiter.end()
            if not offer.taken and offer in self._offers:
                self._offers.remove(offer)
        if not offer.taken:
            if not woken:
                raise Full
            self._check_open()

    def _hand_over(self, value: T) -> bool:
        if self._idle is None:
            return False
        self.queue.append(value)
        self._wake()
        return True

    def _wake(self) -> None:
        """Wake the waiting receiver, if there is one."""
        receiver, self._idle = self._idle, None
        if receiver is not None:
            self._room = self._accepts
            receiver.call(self)

    def _refuse(self) -> None:
        while self._offers:
            self._offers.popleft().waiter.wake()

    # Receiving.

    def recv(self) -> tuple[T, bool]:
        """Wait for a value and return `(value, True)`, or `(None, False)` if closed and drained.

        Check the second item first: if it is False, the first item is None, although its type does
        not say so.
        """
        _, value, ok = select(self)
        return value, ok

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Receive a value, with the arguments of `queue.Queue.get`.

        Returns CLOSED if the channel is closed and drained. Raises queue.Empty if there is no value
        in time.
        """
        deadline = deadline_of(timeout) if block else 0.0
        got: list[Any] = []
        if deadline is None or not self._take(got):
            channel, value, ok = select(self, deadline=deadline)
            if channel is None:
                raise Empty
            return value if ok else CLOSED  # type: ignore[no-any-return]
        return got[0]  # type: ignore[no-any-return]

    def drain(self) -> list[T]:
        """Receive all queued values, oldest first. Never blocks.

        On an unbuffered channel, receives the values of all waiting senders.
        """
        queue = self.queue
        if self._in_turn is not None:
            values: list[T] = queue  # type: ignore[assignment]
            self.queue = []
        else:
            self.queue = deque()
            values = list(queue)
        if self._offers:
            if self.capacity:
                self._admit()
            else:
                while self._accept(values):
                    pass
        count = len(values)
        self._received += count
        self._drains[count.bit_length()] += 1
        for observer in self.observers:
            observer.drained(self, values)
        return values

    def _set_idle(self, waiter: _Receiver | TurnWaiter) -> None:
        """Mark a receiver as waiting. Raises RuntimeError if another receiver is waiting."""
        if self._idle is not None and self._idle.parked:
            raise RuntimeError("two threads receive from one channel")
        for observer in self.observers:
            observer.waits(self)
        self._idle = waiter
        self._room = 0
        # Meanwhile, a signal handler may have called `send` or `close`. So may other greenlets, if
        # an observer has waited.
        if self.queue or self._offers or self._ended:
            self._forget(waiter)
            waiter.wake()

    def _forget(self, waiter: _Receiver | TurnWaiter) -> None:
        """Mark a receiver as no longer waiting."""
        if self._idle is waiter:
            self._idle = None
            self._room = self._accepts

    def _take(self, got: list[Any]) -> bool:
        """Append the next value to an empty list, or CLOSED if the channel is closed and drained.

        Return False if there is nothing to receive.
        """
        queue = self.queue
        if queue:
            got.append(queue[0])
            del queue[0]
            self._received += 1
            if self._offers:
                self._admit()
        elif self._offers and self._accept(got):
            self._received += 1
        elif self._ended:
            got.append(CLOSED)
        else:
            return False
        if self.observers:
            value = got[0]
            try:
                for observer in self.observers:
                    observer.received(self, value)
            except BaseException:
                if value is not CLOSED:
                    self._received -= 1
                    self.queue.insert(0, value)
                turns.give_up()
                raise
        return True

    def _admit(self) -> None:
        """Queue the values of waiting senders, in order of arrival, while there is room."""
        while len(self.queue) < self.capacity and self._accept(self.queue):
            pass

    def _accept(self, values: deque[T] | list[T]) -> bool:
        """Append the value of the first waiting sender. Return whether there was one.

        Race: a signal handler that closes the channel empties the line. If the handler ran between
        the check and `popleft`, `popleft` would raise IndexError. But Python runs signal handlers
        only when a function starts, after a call, and when a loop repeats, and none of these
        happens in between.
        """
        if self._offers:
            offer = self._offers.popleft()
            offer.taken = True
            offer.waiter.wake()
            values.append(offer.value)
            return True
        return False


def select(
    *channels: Channel[Any], deadline: float | None = None
) -> tuple[Channel[Any] | None, Any, bool]:
    """Wait until one of the channels has a value or is closed, and receive from it.

    Returns `(channel, value, True)` with a value, `(channel, None, False)` if the channel is closed
    and drained, and `(None, None, False)` at the deadline, a `time.monotonic()` time.

    If several channels are ready, the choice is random, so no channel is starved. Once the deadline
    has passed, it takes precedence over queued values, however many there are.

    Raises RuntimeError if another greenlet is waiting for one of the channels. Raises ValueError if
    there are several channels and one of them has turns.
    """
    if len(channels) != 1 or (place := channels[0]._in_turn) is None:
        return _select_any(channels, deadline)
    channel = channels[0]
    got: list[Any] = []
    while True:
        if turns.holder is not place:
            turns.give_up()
        ready = channel.queue or channel._offers or channel._ended
        if ready:
            if deadline is not None and deadline <= monotonic():
                return None, None, False
            # Values left in a closed channel need no turn.
            if (channel._ended or turns.take(place)) and _take_in_turn(channel, place, got):
                return _received(channel, got)
        if turns.holder is place:
            place.pass_on()
        if ready:
            turns.join(place)
        else:
            channel._set_idle(place)
        try:
            if not place.park(None if ready else deadline):  # a wait in line has no deadline
                channel._forget(place)
                turns.leave(place)  # in case a signal handler has put `place` in line
                return None, None, False
        except BaseException:
            channel._forget(place)
            turns.leave(place)
            place.end()
            raise
        if channel._take(got):
            value = got[0]
            return (channel, value, True) if value is not CLOSED else _received(channel, got)


def _take_in_turn(channel: Channel[Any], place: TurnWaiter, got: list[Any]) -> bool:
    """Receive from a channel that is ready, without waiting; see `Channel._take`."""
    if not channel._ended:
        if place.greenlet is not (me := getcurrent()):
            place.settle(me)
    elif turns.holder is place:  # not `give_up`, because `place` may not be settled yet
        place.pass_on()
    return channel._take(got)


def _select_any(
    channels: tuple[Channel[Any], ...], deadline: float | None
) -> tuple[Channel[Any] | None, Any, bool]:
    """Implement `select` for channels whose receivers take no turns."""
    for channel in channels:
        if channel._in_turn is not None:
            raise ValueError("a channel with turns must be the only one in a select")
    got: list[Any] = []
    start = int(random.random() * len(channels))
    channels = channels[start:] + channels[:start]
    while deadline is None or deadline > monotonic():
        for channel in channels:
            if channel._take(got):
                return _received(channel, got)
        receiver = _Receiver(channels)
        try:
            for channel in channels:
                channel._set_idle(receiver)
            receiver.park_for("recv", deadline)
        finally:
            receiver.end()
            receiver.forget()
        # A value that was handed over is returned even after the deadline.
        if receiver.giver is not None and receiver.giver._take(got):
            return _received(receiver.giver, got)
    return None, None, False


def _received(channel: Channel[Any], got: list[Any]) -> tuple[Channel[Any], Any, bool]:
    (value,) = got
    if value is not CLOSED:
        return channel, value, True
    if channel._in_turn is not None:
        channel._in_turn.end()
    return channel, None, False

"""Passes values from thread to thread, and lets threads sleep until they are woken.

`channel.py` says what a channel promises; this module implements it.

Strategy: a channel is a queue of values, and a line of senders that wait for room in it. The value
of the first in line goes into the queue as soon as there is room. `close` puts a sentinel at the
end of the line, so a receiver drains the queue before it sees the end. A receiver that finds
nothing marks itself as idle in each of its channels; the next thread that sends wakes it.

On an unbuffered channel, a sender that finds an idle receiver hands its value over and continues. A
sender that finds none joins the line, and continues when its value has been received. Go's chan.go
does the same.

There is no lock, so an interrupt cannot leave one held, and a signal handler cannot find one held
by its own thread. A value moves from one place to the next in a single step:
`new.extend(map(pop, (old,)))` is one call, in which no Python code runs. If several threads try to
move a value, the first one gets it, and the others find that it is gone. A thread looks before each
step, and again after it for threads that it may have to wake. An extra wake-up is harmless. With a
GIL all steps have one order; without one (FREE_THREADED) a lock gives them an order.
"""

from __future__ import annotations

import operator
import queue
import random
import threading
import time
from collections import deque
from itertools import compress, repeat
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ...closed import CLOSED
from ...goroutine import waits
from .turns import FREE_THREADED, Gate, Waiter, turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...goroutine import Observer

__all__ = ["END", "Bell", "Handover", "Offer", "wait", "wait_in_turn"]

T = TypeVar("T")

# Python finds a global name faster than an attribute of a class.
_pop: Final = list.pop
_popleft: Final = deque.popleft


class Handover(queue.Queue[T]):
    """The values and waiting threads of a channel, and the steps that make up all operations."""

    def __init__(self, capacity: int = 0, *, in_turn: bool = False) -> None:
        if capacity < 0:
            raise ValueError(f"negative capacity: {capacity}")
        # The attributes that the inherited methods still use. queue.Queue's own conditions would
        # cost kilobytes and ten microseconds.
        self.maxsize = max(capacity, 1)
        self._init(self.maxsize)
        # Without a GIL, gives the steps of all threads one order. Its owner can acquire it again,
        # as in a signal handler.
        self.mutex = threading.RLock()  # type: ignore[assignment]
        self.capacity: Final = capacity
        self._in_turn: Final = in_turn
        # Set once, before `END` joins the line or the waiting senders are refused.
        self._closed = False
        # `try_send` appends while the queue has fewer values than this; 0 from just before close.
        self._accepts = capacity
        # Set once, before `_closed`: nobody will receive, so no `END` joins the line.
        self._abandoned = False
        # The waiting senders in order of arrival, then `END`. Any thread may remove a sender whose
        # value was moved or whose offer was refused.
        self._offers: list[Offer[T]] = []
        # The receiver that has found nothing, set by itself. Unset by the receiver, and by a sender
        # that wakes it, see `_ring`. (A receiver left here from an earlier wait is not armed.)
        self._idle: Bell | Waiter | None = None
        # See _queue_if_room.
        self._room: Iterator[bool] | None = None
        #: Is told of what happens here; None for nobody. Set before the channel is used.
        self.observer: Observer | None = None
        # For `statistics`: the last thread that received in turn. Set by the receiver.
        self._receiver: Waiter | None = None
        # Only for the receiver: how many values it has received; at index b, how many drains found
        # a number of values that has b bits.
        self._received = 0
        self._drains = [0] * 32
        # Only for the sending side: how many values had no room; how many were queued at the close.
        self._refused = 0
        self._left = 0

    # Sending. Thread: any.

    def _stand_in_line(self, offer: Offer[T], deadline: float | None) -> bool:
        """Return when the offer was taken or refused; True if it was refused for the deadline."""
        self._offers.append(offer)
        # The closing thread first marks the channel as closed, then looks at the line. So either it
        # sees this offer there, or this thread sees that the channel is closed.
        if FREE_THREADED:
            self._order()
        if self._closed:
            self._dismiss(offer)
        else:
            if self.capacity:
                self._admit()
            self._wake()
        thread = threading.get_ident()
        try:
            waits[thread] = "send"
            while offer.waits():
                if deadline is None:
                    offer.gate.pass_()
                elif not offer.gate.pass_(_seconds_until(deadline)):
                    return self._dismiss(offer)
            return False
        finally:
            waits.pop(thread, None)

    def _queue_if_room(self, cell: list[T]) -> bool:
        """Move a value into the queue if there is room and no line. Return whether it was moved."""
        if self._room is None:
            # Infinite, without Python code: each `next` compares the lengths at that moment.
            lengths = zip(  # noqa: B905 - both have no end
                map(len, repeat(self._offers)), map(len, repeat(self.queue))
            )
            self._room = map(operator.lt, lengths, repeat((0, self.capacity)))
        # A single step: between a check for room and an append, other threads could fill the
        # channel or close it.
        if FREE_THREADED:
            with self.mutex:
                self.queue.extend(map(_pop, compress((cell,), self._room)))
        else:
            self.queue.extend(map(_pop, compress((cell,), self._room)))
        return not cell

    def _dismiss(self, offer: Offer[T]) -> bool:
        """Remove a sender from the line: refuse its offer, unless the value was moved.

        Return whether the offer was refused. Thread: any.
        """
        offer.refuse()
        offer.gate.open()  # before: an offer that is not in line is forgotten, see _recover
        try:  # noqa: SIM105 - which is faster
            self._offers.remove(offer)
        except ValueError:  # it was out already
            pass
        return bool(offer.refused)

    def _admit(self) -> None:
        """Queue the values of the first in line, as far as there is room. Thread: any."""
        if FREE_THREADED:
            with self.mutex:
                self._move()
        else:
            self._move()

    def _move(self) -> None:
        # Only the first in line may have its value queued, and each thread here finds the first
        # before it checks for room. So if another thread takes the room meanwhile, it is with the
        # same value, and the channel never holds one too many.
        while True:
            try:
                first = self._offers[0]
            except IndexError:
                return
            if first is END or (first.waits() and len(self.queue) >= self.capacity):
                return
            first.move(self.queue.extend)
            self._dismiss(first)

    def _finish(self) -> None:
        """Refuse the waiting senders, and add `END`. Can be repeated after an interrupt."""
        self._admit()
        if FREE_THREADED:
            self._order()
        for offer in self._offers.copy():
            if offer is not END:
                self._dismiss(offer)
        if END not in self._offers:
            self._offers.append(END)
        if FREE_THREADED:
            self._order()
        if (receiver := self._idle) is not None:
            receiver.let_go()

    def _hand_over(self, offer: Offer[T]) -> bool:
        """Give a value to a receiver that waits for an unbuffered channel, if there is one.

        Waiting senders come first.
        """
        receiver = self._idle
        if receiver is None or self._offers:
            return False
        if isinstance(receiver, Bell):
            return receiver.give(self, offer)
        if not receiver.wake():
            return False
        offer.move(self.queue.extend)
        self._wake()  # it may have looked for the value already, and wait again
        return True

    def _wake(self) -> None:
        """Wake the receiver, if it is idle, after a change of queue or line. Thread: any."""
        if FREE_THREADED:
            self._order()
        if (receiver := self._idle) is not None:
            receiver.wake()

    def _ring(self) -> None:
        """Wake the receiver, if it is idle. Thread: the sending side's one.

        A receiver that takes turns is unmarked, so the next sender need not call this. A slow
        sender may unmark a wait that has begun meanwhile, so it also wakes the present receiver. A
        Waiter can be woken for any of its thread's waits; a Bell is for one wait, so it stays
        marked.
        """
        receiver = self._idle
        if receiver is None:
            return
        try:
            if self._in_turn:
                self._idle = None
            receiver.wake()
            if self._receiver is not None and self._receiver is not receiver:
                self._receiver.wake()
        except BaseException:
            for each in (receiver, self._receiver):  # for nobody else knows of it
                if each is not None:
                    each.wake()
            raise

    def _recover(self) -> None:
        """Finish what an interrupted operation may not have done for others. Thread: any."""
        for offer in self._offers.copy():
            if not offer.waits():
                self._dismiss(offer)
        self._admit()
        self._wake()

    def _order(self) -> None:
        """Without a GIL: make this thread's steps visible to others that call this later."""
        with self.mutex:
            pass

    # Receiving. Thread: the receiver.

    def _take(self, got: list[Any]) -> bool:
        """Receive a value into an empty list, if there is one. CLOSED stands for the end."""
        while True:
            if self.queue:
                try:
                    got.extend(map(_popleft, (self.queue,)))
                except IndexError:  # a signal handler has received it
                    continue
                if self._offers or FREE_THREADED:
                    self._admit()
                break
            if not self._offers:
                return False
            if FREE_THREADED:
                with self.mutex:
                    self._take_first(got)
            else:
                self._take_first(got)
            if got:
                break
        self._received += got[0] is not CLOSED
        if self.observer is not None:
            self.observer.received(self, got[0])
        return True

    def _take_all(self, values: list[T]) -> None:
        """Receive all available values into an empty list."""
        # Senders only append, and this thread alone pops, so the number of values seen here can
        # only grow until they are moved.
        try:  # noqa: SIM105 - which is faster
            values.extend(map(_popleft, repeat(self.queue, len(self.queue))))
        except IndexError:  # a signal handler has received some
            pass
        if self._offers or FREE_THREADED:
            if self.capacity:
                self._admit()
                return
            for offer in self._offers.copy():
                if offer is not END:
                    offer.move(values.extend)
                    self._dismiss(offer)

    def _take_first(self, got: list[Any]) -> None:
        """Receive from the first in line, if the queue is empty."""
        try:
            first = self._offers[0]
        except IndexError:
            return
        # Another thread may have moved a value from the line into the queue since it was seen to be
        # empty. Nothing can come into the queue before the first in line from here on.
        if self.queue:
            return
        if first is END:
            got.append(CLOSED)
        else:
            first.move(got.extend)
            self._dismiss(first)

    def _put_back(self, got: Sequence[Any]) -> None:
        """Undo a receive that was interrupted."""
        if got and got[0] is not CLOSED:
            self.queue.appendleft(got[0])
        self._recover()
        if self._in_turn:
            turns.give_up()

    def _set_idle(self, receiver: Bell | Waiter) -> None:
        """Mark the receiver as idle, to be woken. It must look at the queue after this.

        Raises RuntimeError if another thread is marked. Thread: the receiver.
        """
        other = self._idle
        if other is not None and other is not receiver and other.is_idle():
            raise RuntimeError("two threads receive from one channel")
        self._idle = receiver
        if FREE_THREADED:
            self._order()


class Offer(Generic[T]):
    """A value that a sender waits to hand over (Go: sudog).

    The value is moved to its destination or back to its sender. The first thread that moves it
    decides.
    """

    __slots__ = ("_offered", "gate", "refused")

    def __init__(self, value: T) -> None:
        self._offered: Final = [value]
        #: Has the value, if the offer was refused.
        self.refused: Final[list[T]] = []
        #: Where the sender waits for the decision.
        self.gate: Final = Gate()

    def waits(self) -> bool:
        """Return whether the value has not been moved yet. Thread: any."""
        return bool(self._offered)

    def move(self, extend: Any) -> None:
        """Move the value, if it has not been moved yet. extend: the destination's. Thread: any."""
        if self._offered:
            try:  # noqa: SIM105 - which is faster
                extend(map(_pop, (self._offered,)))
            except IndexError:  # another thread was faster
                pass

    def refuse(self) -> None:
        """Take the value back, if it was not moved yet. Thread: any."""
        self.move(self.refused.extend)


#: Stands in the line of a closed channel. It is never moved, so it seems to wait.
END: Final[Offer[Any]] = Offer(CLOSED)


class Bell:
    """One wait of a thread for several channels, or for one channel without turns.

    One sender to an unbuffered channel can hand its value over to the thread, as to a `sudog` in
    Go. Channels may keep the bell after the wait. So each wait needs a new bell: otherwise a slow
    sender could hand its value over to a later wait, which may be for other channels.
    """

    __slots__ = ("_gate", "_given", "armed")

    def __init__(self) -> None:
        self._gate = Gate()
        # Has, under the key None, the channel and the offer that were handed over, or `_NOTHING`
        # when the wait has ended. `setdefault` is a single step, so the first to come decides.
        self._given: dict[None, tuple[Handover[Any] | None, Offer[Any]]] = {}
        #: Whether the thread may be asleep. Unset by the thread.
        self.armed = True

    # Any sender:

    def give(self, channel: Handover[Any], offer: Offer[Any]) -> bool:
        """Hand a value over, unless the bell has one or the wait has ended. Return whether."""
        given = channel, offer
        if self._given.setdefault(None, given) is not given:
            return False
        self._gate.open()
        return True

    def is_idle(self) -> bool:
        """Return whether the receiver still waits for a value."""
        return self.armed and not self._given

    def wake(self) -> None:
        self._gate.open()

    let_go = wake

    # The receiver:

    def wait(self, channels: tuple[Handover[Any], ...], deadline: float | None) -> None:
        """Wait to be woken, or for the deadline, unless one of the channels has something."""
        for channel in channels:
            channel._set_idle(self)
        for channel in channels:
            if channel.queue or channel._offers:
                return
        thread = threading.get_ident()
        try:
            waits[thread] = "recv"
            self._gate.pass_(_seconds_until(deadline))
        finally:
            waits.pop(thread, None)

    def end(self) -> Handover[Any] | None:
        """End the wait. If a value was handed over, queue it and return its channel."""
        self.armed = False
        channel, offer = self._given.setdefault(None, _NOTHING)
        if channel is not None:
            offer.move(channel.queue.extendleft)
        self._given[None] = _NOTHING
        return channel


_NOTHING: Final = (None, END)


def wait(channels: tuple[Any, ...], deadline: float | None) -> Any:
    """Return a channel that has something, or had; None once the deadline has come."""
    for channel in channels:
        if channel._in_turn:
            raise ValueError("a channel with turns is waited for alone")
    while deadline is None or time.monotonic() < deadline:
        for channel in _in_random_order(channels):
            if channel.queue or channel._offers:
                return channel
        # Nothing there. Set up the bell, look again, and only then wait. The second look finds any
        # value sent before it; a later sender rings the bell.
        bell = Bell()
        try:
            bell.wait(channels, deadline)
            giver = bell.end()
        except BaseException:
            bell.end()
            raise
        if giver is not None:  # what was handed over comes first
            return giver
    return None


def wait_in_turn(channel: Handover[Any], deadline: float | None) -> bool:
    """Return True when the channel has something, or had; with a turn unless it is closed.

    Returns False once the deadline has come.
    """
    try:
        me = turns.local.waiter
    except AttributeError:
        me = turns.waiter()
    if me.receiving:
        raise RuntimeError("a signal handler receives in turn, while its thread does")
    channel._receiver = me
    queue, offers = channel.queue, channel._offers
    timeout: float = -1
    try:
        while True:
            me.receiving = True
            if deadline is not None:
                timeout = deadline - time.monotonic()
                if timeout <= 0:
                    me.receiving = False
                    return False
                if timeout > threading.TIMEOUT_MAX:  # noqa: PLR1730 - which is faster than `min`
                    timeout = threading.TIMEOUT_MAX
            if queue or offers:
                if not channel._closed:  # values left in a closed channel need no turn
                    me.line_up()
                break
            me.armed.append(me)
            channel._set_idle(me)
            woken = not ((queue or offers) and me.disarm()) and me.wait(timeout)
            channel._idle = None
            if woken:
                # The channel may be empty: a slow sender may wake this thread for a value that was
                # received meanwhile.
                break
            me.receiving = False  # before the jump back, which Python 3.14 leaves out of the `try`
        me.receiving = False
        return True
    except BaseException:
        if channel._idle is me:
            channel._idle = None
        me.retire()
        me.receiving = False
        raise


def _in_random_order(channels: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the channels, rotated to start at a random one."""
    if len(channels) < 2:
        return channels
    start = int(random.random() * len(channels))
    return channels[start:] + channels[:start]


def _seconds_until(deadline: float | None) -> float:
    """Return how long to wait: from 0 to the system's maximum, or -1 without a deadline."""
    if deadline is None:
        return -1
    return min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)

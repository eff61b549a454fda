"""How a value goes from one thread to another, and how a thread sleeps and wakes meanwhile.

`channel.py` says what a channel promises. This module keeps it.

Strategy: a channel is a queue of values, and a line of senders that wait for room in it. The value
of the first in line goes into the queue as soon as there is room. A closed channel has a sentinel
in the line, where no value can pass it, so a receiver drains the queue before it sees the end. A
receiver that finds nothing marks itself as idle in each of its channels; whichever thread then
sends wakes it.

On an unbuffered channel, a sender that finds an idle receiver hands its value over, and goes on. A
sender that finds none joins the line, and goes on when its value has been received. Both are as in
Go's chan.go.

There is no lock, so none can be left behind by an interrupt, or be held by the thread that a signal
handler runs on. A value moves from one place to the next in a single step:
`new.extend(map(pop, (old,)))` is one call, in which no Python code runs. Whoever moves it first has
it; the others find that it has gone. A thread looks before each step, and looks again after it for
those that it may have to wake. One wake-up too many does no harm. With a GIL all steps have one
order, and without one (FREE_THREADED) a lock makes one.
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

# Python looks for a name in a module faster than in a class.
_pop: Final = list.pop
_popleft: Final = deque.popleft


class Handover(queue.Queue[T]):
    """What is in a channel and who waits for it, with the steps that all operations are made of."""

    def __init__(self, capacity: int = 0, *, in_turn: bool = False) -> None:
        if capacity < 0:
            raise ValueError(f"negative capacity: {capacity}")
        # What queue.Queue's own method sets and its methods that are left use. Its conditions would
        # cost kilobytes and ten microseconds.
        self.maxsize = max(capacity, 1)
        self._init(self.maxsize)
        # Gives the steps of different threads one order, where no GIL does. Can be taken again by
        # the thread that has it, as in a signal handler.
        self.mutex = threading.RLock()  # type: ignore[assignment]
        self.capacity: Final = capacity
        self._in_turn: Final = in_turn
        # Set once, before `END` joins the line, or those in line are refused for good.
        self._closed = False
        # Up to how many values `try_send` appends to the queue: 0 from just before the close.
        self._accepts = capacity
        # Set once, before `_closed`: nobody will receive, so no `END` joins the line.
        self._abandoned = False
        # The senders that wait, first come first, and `END` after the last. Any thread may take a
        # sender out whose value has been moved, or whose offer was refused.
        self._offers: list[Offer[T]] = []
        # The receiver that has found nothing. Set by the receiver. Unset by the receiver, and by a
        # sender that wakes it then, see `_ring`. (What is left here from an earlier wait is no
        # longer armed.)
        self._idle: Bell | Waiter | None = None
        # See _queue_if_room.
        self._room: Iterator[bool] | None = None
        #: Is told of what happens here; None for nobody. Set before the channel is used.
        self.observer: Observer | None = None
        # For `statistics`. The thread that receives in turn, or did last. Set by the receiver.
        self._receiver: Waiter | None = None
        # The receiver's alone: how many values it has received; at place b, how many drains found a
        # number of values that has b bits.
        self._received = 0
        self._drains = [0] * 32
        # The sending side's one thread's alone: how many values had no room; what was queued at the
        # close.
        self._refused = 0
        self._left = 0

    # Sending. Thread: any.

    def _stand_in_line(self, offer: Offer[T], deadline: float | None) -> bool:
        """Return when the offer was taken or refused; True if it was refused for the deadline."""
        self._offers.append(offer)
        # Whoever closes says so first, and then looks at the line. Either that thread sees this
        # offer there, or this one sees that the channel is closed.
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
        """Move a value into the queue, if there is room, and nobody in line. Return whether."""
        if self._room is None:
            # Infinite, without Python code: each `next` compares the lengths at that moment.
            lengths = zip(  # noqa: B905 - both have no end
                map(len, repeat(self._offers)), map(len, repeat(self.queue))
            )
            self._room = map(operator.lt, lengths, repeat((0, self.capacity)))
        # A single step: to look for room and then to append would be two, and other threads may
        # come between them, and fill the room or close the channel.
        if FREE_THREADED:
            with self.mutex:
                self.queue.extend(map(_pop, compress((cell,), self._room)))
        else:
            self.queue.extend(map(_pop, compress((cell,), self._room)))
        return not cell

    def _dismiss(self, offer: Offer[T]) -> bool:
        """Send a sender out of the line: refuse its offer, unless the value has been moved.

        Return whether it is refused. Thread: any.
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
        # Only the value of the first in line may go into the queue, and each thread here looks who
        # that is before it looks for room. So if another thread fills the room meanwhile, it is
        # with the same value, and there is never one too many.
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
        """Refuse those in line, and put `END` there. Can be repeated after an interrupt."""
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

        Those in line come before.
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

        One that takes turns is unmarked, so the next sender does not come here. A slow sender may
        unmark a wait that has begun meanwhile, so it wakes whoever receives then, too: a Waiter is
        woken for any of its thread's waits, but a Bell only for one, so that stays marked.
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
        """Do for others what an operation that was interrupted may not have done. Thread: any."""
        for offer in self._offers.copy():
            if not offer.waits():
                self._dismiss(offer)
        self._admit()
        self._wake()

    def _order(self) -> None:
        """Without a GIL: have other threads see all that this one has done when they come here."""
        with self.mutex:
            pass

    # Receiving. Thread: the receiver.

    def _take(self, got: list[Any]) -> bool:
        """Receive into an empty list, if there is anything. CLOSED stands for the end."""
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
        """Receive all that is there into an empty list."""
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

    The value is moved to where it goes, or is refused, which moves it as well. Whoever comes first
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
        """Return whether nothing is decided yet. Thread: any."""
        return bool(self._offered)

    def move(self, extend: Any) -> None:
        """Move the value, if nothing is decided yet. extend: of where to. Thread: any."""
        if self._offered:
            try:  # noqa: SIM105 - which is faster
                extend(map(_pop, (self._offered,)))
            except IndexError:  # another thread was faster
                pass

    def refuse(self) -> None:
        """Take the value back, if nothing is decided yet. Thread: any."""
        self.move(self.refused.extend)


#: Stands in the line of a closed channel. It is never moved, so it seems to wait.
END: Final[Offer[Any]] = Offer(CLOSED)


class Bell:
    """One wait of a thread for several channels, or for one without turns.

    A sender to an unbuffered channel may hand its value over to the thread, as in Go to a `sudog`,
    but only one such sender can. Channels may keep the bell after the wait, when it is of no use.
    So each wait needs a new bell: with one bell for many waits, a slow sender could hand its
    value over to a later wait, which may be for other channels.
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
        """Hand a value over, unless another one was, or the wait has ended. Return whether."""
        given = channel, offer
        if self._given.setdefault(None, given) is not given:
            return False
        self._gate.open()
        return True

    def is_idle(self) -> bool:
        """Return whether the receiver waits, and has not been given anything."""
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
        """End the wait. Return the channel of which a value was handed over, and queue that."""
        self.armed = False
        channel, offer = self._given.setdefault(None, _NOTHING)
        if channel is not None:
            offer.move(channel.queue.extendleft)
        self._given[None] = _NOTHING
        return channel


_NOTHING: Final = (None, END)


def wait(channels: tuple[Any, ...], deadline: float | None) -> Any:
    """Return one of the channels that has something, or had; None once the deadline has come."""
    for channel in channels:
        if channel._in_turn:
            raise ValueError("a channel with turns is waited for alone")
    while deadline is None or time.monotonic() < deadline:
        for channel in _in_random_order(channels):
            if channel.queue or channel._offers:
                return channel
        # Nothing there. Look once more with the bell in place, and only then wait for it. A value
        # sent before that second look is seen by it; a value sent after it rings.
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
    """Return True when the channel has something, or had, and with a turn unless it is closed.

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
                if not channel._closed:  # what is left of a closed one needs no turn
                    me.line_up()
                break
            me.armed.append(me)
            channel._set_idle(me)
            woken = not ((queue or offers) and me.disarm()) and me.wait(timeout)
            channel._idle = None
            if woken:
                # There may be nothing: a sender that is slow to wake this thread may do it for a
                # value that was received meanwhile.
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
    """How long to wait: from 0 to what the system can wait for, or -1 without a deadline."""
    if deadline is None:
        return -1
    return min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)

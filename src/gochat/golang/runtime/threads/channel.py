"""Go's channels, on `queue.Queue`.

| Go                                   | here                                          |
| ------------------------------------ | --------------------------------------------- |
| `make(chan T, n)`                    | `Channel(n)`                                  |
| `ch <- v`                            | `ch.send(v)`                                  |
| `v, ok := <-ch`                      | `v, ok = ch.recv()`                           |
| `for v := range ch`                  | `for v in ch`                                 |
| `select { case ch <- v: default: }`  | `ch.try_send(v)`, False for `default`         |
| `select { case v, ok := <-a: ... }`  | `channel, v, ok = select(a, b, deadline=...)` |
| `close(ch)`                          | `ch.close()`                                  |
| `len(ch)`, `cap(ch)`                 | `len(ch)`, `ch.capacity`                      |

`handover.py` explains the steps at the end of this module and has the classes for waiting.

Interrupts: any operation can be interrupted by an exception at any moment, from a signal handler on
the main thread or from `PyThreadState_SetAsyncExc` on others. The operation has then either
happened completely or not at all: a value is in the channel or was received, never both or neither.
An interrupted send that has not happened has taken its value back. An interrupted receive has put
its value back, no longer waits, and has no turn. Other threads do not notice. A signal handler may
use any channel, even one with an operation that it has interrupted, as long as it need not wait for
its own thread. (All this holds for one exception at a time. A second exception, raised while the
first is being handled, may break it.)

Differences from Go:

- Any number of goroutines may receive from a Go channel; here only one thread at a time may.
- Only one thread, the sending side, may call `try_send` and `close`. Go has this rule for `close`,
  by convention.
- `select` only receives. The chat needs only one case that sends, which is `try_send`. The choice
  among several ready channels is random, but not uniform: the search starts at a random channel.
"""

from __future__ import annotations

import operator
import queue
import threading
from collections import deque
from functools import partial
from itertools import compress, repeat, starmap, takewhile
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from ...closed import CLOSED, Closing, deadline_of
from ...goroutine import ChannelStatistics, waits
from .handover import END, Bell, Offer, seconds_until, wait, wait_in_turn
from .turns import FREE_THREADED, Waiter, turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...goroutine import Observer

__all__ = ["Channel", "select"]

T = TypeVar("T")

# Python finds a global name faster than an attribute of a class.
_pop: Final = list.pop
_popleft: Final = deque.popleft


class Channel(Closing, queue.Queue[T]):
    """A `queue.Queue` that can be closed; a thread can wait for several channels at the same time.

    capacity: how many values the channel holds; with 0 every send is a rendezvous, as in Go.
    in_turn: the receiver takes turns with those of all other `in_turn` channels, see turns.py.
        Between two receives, the receiving thread may wait only for a Conn.

    Any thread may `send`. Only one thread, the sending side, may `try_send` and `close`, and only
    one thread at a time may receive. If other threads `send` during `try_send`, the channel may
    exceed its capacity by one value. Raises ValueError for a negative capacity.

    Even an empty channel is true. The methods of queue.Queue work as usual, but `task_done`, `join`
    and `shutdown` raise NotImplementedError.
    """

    def __init__(self, capacity: int = 0, *, in_turn: bool = False) -> None:
        if capacity < 0:
            raise ValueError(f"negative capacity: {capacity}")
        # The attributes that the inherited methods still use. The condition variables of
        # queue.Queue are left out, because they would take kilobytes and ten microseconds.
        self.maxsize = max(capacity, 1)
        self._init(self.maxsize)
        # Without a GIL, puts the steps of all threads in one order. Reentrant, because a signal
        # handler may acquire it while the interrupted thread holds it.
        self.mutex = threading.RLock()  # type: ignore[assignment]
        self.capacity: Final = capacity
        self._in_turn: Final = in_turn
        # Set once, before `END` joins the line or the waiting senders are refused.
        self._closed = False
        # `try_send` appends while the queue has fewer values than this; 0 from just before the
        # close.
        self._accepts = capacity
        # Set once, before `_closed`, if nobody will receive. Then no `END` joins the line.
        self._abandoned = False
        # The waiting senders in order of arrival, then `END`. Any thread may remove a sender whose
        # value was moved or whose offer was refused.
        self._offers: list[Offer[T]] = []
        # The receiver that has found nothing. Set by the receiver; unset by it, or by a sender that
        # wakes it, see `_ring`. (A receiver left here from an earlier wait is not armed.)
        self._idle: Bell | Waiter | None = None
        # See _queue_if_room.
        self._room: Iterator[bool] | None = None
        #: The observer of this channel, if any. Set before the channel is used.
        self.observer: Observer | None = None
        # For `statistics`: the last thread that received in turn. Set by the receiver.
        self._receiver: Waiter | None = None
        # Only for the receiver: how many values it has received; and the number of drains, by the
        # bit length of the number of values found.
        self._received = 0
        self._drains = [0] * 32
        # Only for the sending side: how many values had no room; and how many were queued at the
        # close.
        self._refused = 0
        self._left = 0

    def __len__(self) -> int:
        """Return how many values are queued; 0 for an unbuffered channel. Thread: any."""
        return len(self.queue) if self.capacity else 0

    def __bool__(self) -> bool:
        """Return True; without this method, an empty channel would be false. Thread: any."""
        return True

    def full(self) -> bool:
        """Return whether there is no room; always True for an unbuffered channel. Thread: any."""
        return len(self.queue) >= self.capacity

    @property
    def receiver(self) -> int | None:
        """The ident of the last thread that received in turn; None if none has. Thread: any."""
        return None if self._receiver is None else self._receiver.thread

    def statistics(self) -> ChannelStatistics:
        """Return the contents of the channel, who waits for it, and its counts. Thread: any."""
        idle = self._idle
        queued, received = len(self), self._received
        return ChannelStatistics(
            capacity=self.capacity,
            queued=queued,
            closed=self._closed,
            senders=sum(offer is not END for offer in self._offers.copy()),
            receiver=self.receiver,
            receiver_waits=idle is not None and idle.is_idle(),
            sent=received + queued,
            received=received,
            refused=self._refused,
            drains=tuple(self._drains),
            queued_at_close=self._left,
        )

    # Sending.

    def send(self, value: T) -> None:
        """Queue a value, and wait for room if there is none; if unbuffered, wait for a receiver.

        So values that one thread sends to several unbuffered channels are received in that order.
        Raises ClosedChannelError if the channel is closed, now or before the value is queued or
        received. Thread: any.
        """
        self._send(value, None)

    def try_send(self, value: T) -> bool:
        """Queue a value if there is room, and return whether there was. Never blocks.

        Unbuffered: hand the value to a waiting receiver, and return whether there was one. Raises
        ClosedChannelError if the channel is closed; Go panics, even with a default case. Thread:
        the sending side.
        """
        # The hub calls this for every client and message. The sender first queues its value, then
        # looks for an idle receiver. The receiver first marks itself as idle, then looks at the
        # queue. Whichever of them looks last sees what the other did, so no receiver sleeps while a
        # value is queued.
        values = self.queue
        if len(values) >= self._accepts:
            return self._no_room(value)
        try:
            values.append(value)
            if FREE_THREADED:
                self._order()
            if self._idle is not None:
                self._ring()
        except BaseException:
            self._recover()
            raise
        return True

    def _no_room(self, value: T) -> bool:
        """Queue or hand over a value that had no room at first. Return whether that succeeded."""
        self._check_open()
        offer = Offer(value)
        try:
            if self.capacity == 0:
                sent = self._hand_over(offer)
            else:
                self._admit()
                sent = not self._offers and len(self.queue) < self.capacity
                if sent:
                    offer.move(self.queue.extend)
                    self._wake()
            self._refused += not sent
            return sent
        except BaseException:
            offer.refuse()
            self._recover()
            raise

    def close(self) -> None:
        """Close the channel. Works on a full channel too, and never blocks.

        Queued values can still be received. A thread that waits to send gets ClosedChannelError. A
        second close also raises ClosedChannelError (in Go, it panics). Thread: the sending side.
        """
        self._check_open("close of")
        try:
            self._left = len(self)
            self._accepts = 0
            self._closed = True
            self._finish()
            if self.observer is not None:
                self.observer.closed(self)
        except BaseException:
            if self._closed:
                self._finish()
            self._recover()
            raise

    def abandon(self) -> None:
        """Declare that nobody will receive. Can be repeated; never blocks. Thread: any.

        From now on every send raises AbandonedChannelError, even a send that is already waiting. A
        waiting receiver is not affected.
        """
        self._abandoned = True
        self._accepts = 0
        self._closed = True
        if FREE_THREADED:
            self._order()
        for offer in self._offers.copy():
            if offer is not END:
                self._dismiss(offer)

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Send as in `queue.Queue`; raises ClosedChannelError as `send` does."""
        if block:
            self._send(item, deadline_of(timeout))
        elif not self.try_send(item):
            raise queue.Full

    def _send(self, value: T, deadline: float | None) -> None:
        self._check_open()
        offer = None
        try:
            if self.capacity > 0:
                if self._queue_if_room([value]):
                    self._wake()
                    return
                offer = Offer(value)
            else:
                offer = Offer(value)
                if self._hand_over(offer):
                    return
            late = self._stand_in_line(offer, deadline)
            if not offer.refused:
                return
        except BaseException:
            if offer is not None:
                self._dismiss(offer)
            self._recover()
            raise
        if late:
            raise queue.Full
        self._check_open()

    # Receiving.

    def recv(self) -> tuple[T, bool]:
        """Wait for a value: `(value, True)`, or `(None, False)` when closed and drained.

        The first part has the type of a value, as in Go, so check the second part first. Thread:
        the receiver.
        """
        got: list[Any] = []
        try:
            _receive(self, None, got)
            (value,) = got
            return (cast("T", None), False) if value is CLOSED else (value, True)
        except BaseException:
            self._put_back(got)
            raise

    def __iter__(self) -> Iterator[T]:
        """Receive until the channel is closed and drained (Go: range). Thread: the receiver."""
        # No Python code runs between `get` and the loop, where an interrupt would lose a value.
        return takewhile(partial(operator.is_not, CLOSED), starmap(self.get, repeat(())))

    def drain(self) -> list[T]:
        """Take all values that are queued now, oldest first; never blocks. Thread: the receiver.

        From an unbuffered channel, take the values of the waiting senders.
        """
        values: list[T] = []
        try:
            self._take_all(values)
            count = len(values)
            self._received += count
            self._drains[count.bit_length()] += 1
            return values
        except BaseException:
            self.queue.extendleft(reversed(values))
            self._recover()
            raise

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Receive as in `queue.Queue`; returns CLOSED at the end. Thread: the receiver."""
        deadline = deadline_of(timeout) if block else 0.0
        got: list[Any] = []
        try:
            if deadline is None or not self._take(got):
                _receive(self, deadline, got)
            if got:
                return got[0]  # type: ignore[no-any-return]
        except BaseException:
            self._put_back(got)
            raise
        raise queue.Empty

    # The steps. To know what a channel promises, a reader can stop here.

    # Sending. Thread: any.

    def _stand_in_line(self, offer: Offer[T], deadline: float | None) -> bool:
        """Return once the offer is taken or refused; True if it was refused at the deadline."""
        self._offers.append(offer)
        # The closing thread first marks the channel as closed, then looks at the line. So either
        # that thread sees this offer there, or this thread sees that the channel is closed.
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
                elif not offer.gate.pass_(seconds_until(deadline)):
                    return self._dismiss(offer)
            return False
        finally:
            waits.pop(thread, None)

    def _queue_if_room(self, cell: list[T]) -> bool:
        """Move a value into the queue if there is room and no line. Return whether it was moved."""
        if self._room is None:
            # An endless iterator that runs no Python code: each `next` compares the lengths at that
            # moment.
            lengths = zip(  # noqa: B905 - both have no end
                map(len, repeat(self._offers)), map(len, repeat(self.queue))
            )
            self._room = map(operator.lt, lengths, repeat((0, self.capacity)))
        # A single step: between a separate check and append, other threads could fill or close the
        # channel.
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
        offer.gate.open()  # before the removal: _recover finds only offers in line
        try:  # noqa: SIM105 - `suppress` is slower
            self._offers.remove(offer)
        except ValueError:  # it was already removed
            pass
        return bool(offer.refused)

    def _admit(self) -> None:
        """Queue the values of the first senders in line, as far as there is room. Thread: any."""
        if FREE_THREADED:
            with self.mutex:
                self._move()
        else:
            self._move()

    def _move(self) -> None:
        # Only the value of the first sender in line may be queued, and each thread here looks up
        # that sender before it checks for room. So if another thread uses the room meanwhile, it
        # queues the same value, and the channel never exceeds its capacity.
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
        """Refuse the waiting senders and add `END`. Can be repeated after an interrupt."""
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

        Senders that are waiting go first.
        """
        receiver = self._idle
        if receiver is None or self._offers:
            return False
        if isinstance(receiver, Bell):
            return receiver.give(self, offer)
        if not receiver.wake():
            return False
        offer.move(self.queue.extend)
        self._wake()  # the receiver may have looked for the value too early, and be waiting again
        return True

    def _wake(self) -> None:
        """Wake the receiver, if it is idle, after a change of queue or line. Thread: any."""
        if FREE_THREADED:
            self._order()
        if (receiver := self._idle) is not None:
            receiver.wake()

    def _ring(self) -> None:
        """Wake the receiver, if it is idle. Thread: the sending side.

        A receiver that takes turns is unmarked here, so that the next sender need not call this. A
        slow sender may unmark a wait that began after it looked, so it also wakes the current
        receiver. A Waiter can be woken for any of its thread's waits. A Bell is for one wait, and
        stays marked.
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
            for each in (receiver, self._receiver):  # nobody else knows that it has to be woken
                if each is not None:
                    each.wake()
            raise

    def _recover(self) -> None:
        """Complete what an interrupted operation may have left undone for others. Thread: any."""
        for offer in self._offers.copy():
            if not offer.waits():
                self._dismiss(offer)
        self._admit()
        self._wake()

    def _order(self) -> None:
        """Without a GIL: make this thread's steps visible to threads that call this later."""
        with self.mutex:
            pass

    # Receiving. Thread: the receiver.

    def _take(self, got: list[Any]) -> bool:
        """Receive a value into an empty list, if there is one; CLOSED if closed and drained."""
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
        # Senders only append, and only this thread pops, so the number of values can only grow
        # until they are moved.
        try:  # noqa: SIM105 - `suppress` is slower
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
        """Receive from the first sender in line, if the queue is empty."""
        try:
            first = self._offers[0]
        except IndexError:
            return
        # Another thread may have moved a value from the line into the queue since the queue was
        # found empty. From here on, the next value to enter the queue is that of the first in line.
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
        """Mark the receiver as idle, to be woken. The receiver must look at the queue after this.

        Raises RuntimeError if another thread is marked as idle. Thread: the receiver.
        """
        other = self._idle
        if other is not None and other is not receiver and other.is_idle():
            raise RuntimeError("two threads receive from one channel")
        self._idle = receiver
        if FREE_THREADED:
            self._order()


def select(
    *channels: Channel[Any], deadline: float | None = None
) -> tuple[Channel[Any] | None, Any, bool]:
    """Wait until one of the channels has a value or is closed, and receive from it.

    Returns `(channel, value, True)`; `(channel, None, False)` if the channel is closed and drained;
    `(None, None, False)` once `time.monotonic()` has reached `deadline`, in seconds.

    If several channels are ready, it chooses one at random, so that none is starved. A deadline
    that has passed takes precedence over values, so it is met even in a busy room.

    Raises RuntimeError if it sees a second thread waiting for a channel, and ValueError if there
    are several channels and the receiver of one takes turns.
    """
    if len(channels) == 1 and channels[0]._in_turn:
        return _select_in_turn(channels[0], deadline)
    channel: Channel[Any] | None = None
    got: list[Any] = []
    try:
        while (channel := wait(channels, deadline)) is not None:
            if channel._take(got):
                (value,) = got
                return (channel, None, False) if value is CLOSED else (channel, value, True)
        return None, None, False
    except BaseException:
        for each in channels:
            each._put_back(got if each is channel else [])
        raise


def _select_in_turn(
    channel: Channel[Any], deadline: float | None
) -> tuple[Channel[Any] | None, Any, bool]:
    """`select` on one channel whose receiver takes turns."""
    got: list[Any] | tuple[()] = ()
    try:
        while wait_in_turn(channel, deadline):
            got = []
            if channel._take(got):
                (value,) = got
                return (channel, None, False) if value is CLOSED else (channel, value, True)
            # Before the jump back to `while`: in Python 3.12 the jump is outside the `try`, so an
            # exception there would leave this thread with the turn.
            turns.give_up()
        return None, None, False
    except BaseException:
        channel._put_back(got)
        raise


def _receive(channel: Channel[Any], deadline: float | None, got: list[Any]) -> None:
    """Receive into an empty list; it stays empty if the deadline comes first."""
    while (
        wait_in_turn(channel, deadline)
        if channel._in_turn
        else wait((channel,), deadline) is not None
    ):
        if channel._take(got):
            return

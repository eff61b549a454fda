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

`handover.py` explains the implementation.

Interrupts: an exception can interrupt any operation at any moment. On the main thread, the
exception comes from a signal handler; on other threads, from `PyThreadState_SetAsyncExc`. Even
then, no value is lost or duplicated:

- An interrupted send has either sent its value or taken it back.
- An interrupted receive has put its value back, and its thread has no turn.

Other threads are not affected. A signal handler may use any channel, even if it has interrupted an
operation on that channel, but must not wait for the thread that it has interrupted. These promises
hold for one exception at a time: a second exception, raised while the first is being handled, can
break them.

Differences from Go:

- Only one thread at a time may receive. In Go, any number of goroutines may.
- Only one thread, the sending side, may call `try_send` and `close`. For `close`, this is also
  customary in Go.
- `select` only receives. `try_send` replaces the only select that sends in Go's chat.
- `select` starts its search at a random channel, so its choice is random, but not uniform.
"""

from __future__ import annotations

import operator
import queue
import threading
from collections import deque
from itertools import compress, repeat
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from ...closed import CLOSED, Closing, deadline_of
from ...goroutine import ChannelStatistics, waits
from .handover import END, Bell, Offer, seconds_until, wait
from .turns import FREE_THREADED, Waiter, turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Channel", "select"]

T = TypeVar("T")

# Python finds a global name faster than an attribute of a class.
_pop: Final = list.pop
_popleft: Final = deque.popleft


class Channel(Closing[T]):
    """A `queue.Queue` that can be closed, and from which `select` can receive.

    capacity: the number of values that the channel can hold. With 0, a send waits for a receive, as
        in Go. Raises ValueError if it is negative.
    in_turn: whether the receiver takes turns with the receivers of all other `in_turn` channels;
        see turns.py. Between two receives, the receiver must not wait, except in methods of a Conn.

    Any thread may `send`. Only one thread, the sending side, may `try_send` and `close`. Only one
    thread at a time may receive. If other threads `send` during a `try_send`, the channel may
    exceed its capacity by one value.

    `bool(channel)` is True, even if the channel is empty. The methods of queue.Queue work as usual,
    except that `task_done`, `join` and `shutdown` raise NotImplementedError.
    """

    def __init__(self, capacity: int = 0, *, in_turn: bool = False) -> None:
        super().__init__(capacity)
        #: The queued values, oldest first.
        self.queue: deque[T] = deque()
        # Without a GIL, this lock serializes the steps of all threads. It is reentrant because a
        # signal handler may acquire it while the interrupted thread holds it.
        if FREE_THREADED:
            self.mutex = threading.RLock()  # type: ignore[assignment]
        self._in_turn: Final = in_turn
        # The waiting senders in order of arrival, followed by `END` after a close. Any thread may
        # remove a sender whose offer has been taken or refused.
        #
        # `close` sets `_accepts` to 0, then `_closed`, before it refuses these senders and adds
        # `END`. `abandon` does the same, but sets `_abandoned` first and does not add `END`.
        self._offers: list[Offer[T]] = []
        # The receiver that waits for a value. The receiver sets this; the receiver, or a sender in
        # `_ring`, clears it. A receiver left over from an earlier wait is not armed.
        self._idle: Bell | Waiter | None = None
        # Used by `_queue_if_room`.
        self._room: Iterator[bool] | None = None
        # The last thread that received in turn. Only the receiver writes this.
        self._receiver: Waiter | None = None

    @property
    def receiver(self) -> int | None:
        """The ident of the last thread that received in turn; None if none has. Thread: any."""
        return None if self._receiver is None else self._receiver.thread

    def statistics(self) -> ChannelStatistics:
        """Return the channel's state, its waiting threads and its counters. Thread: any."""
        idle = self._idle
        return self._statistics(
            senders=sum(offer is not END for offer in self._offers.copy()),
            receiver=self.receiver,
            receiver_waits=idle is not None and idle.is_idle(),
        )

    # Sending.

    def try_send(self, value: T) -> bool:
        """Send a value unless that requires a wait, and return whether it was sent. Never blocks.

        A wait is required if the channel is full, or if it is unbuffered and no receiver waits.
        Raises ClosedChannelError if the channel is closed; in Go, even a select with a default case
        panics then. Thread: the sending side.
        """
        # This must be fast, because the hub calls it for each message and client.
        #
        # Race: this thread sends while the receiver is about to sleep. This thread first queues the
        # value, then looks for an idle receiver. The receiver first marks itself as idle, then
        # looks at the queue. So at least one of them sees what the other has done, and no receiver
        # sleeps while a value is queued.
        values = self.queue
        if len(values) >= self._accepts:
            if self.observers:
                return self._observed(self._try_send, value)
            return self._try_send(value)
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

    def _try_send(self, value: T) -> bool:
        """Send without a wait, on any channel. Return whether the value was sent."""
        self._check_open()
        offer = None
        try:
            if self.capacity == 0:
                offer = Offer(value)
                sent = self._hand_over(offer)
            else:
                if self._offers or FREE_THREADED:
                    self._admit()
                # No signal handler can run between the last check and the append.
                room = not self._offers and len(self.queue) < self.capacity
                sent = room and not self._closed
                if sent:
                    self.queue.append(value)
                    if FREE_THREADED:
                        self._order()
                    self._ring()
            if not sent:
                self._check_open()  # meanwhile, a signal handler may have called `close`
                self._refused += 1
            return sent
        except BaseException:
            if offer is not None:
                offer.refuse()
            self._recover()
            raise

    def close(self) -> None:
        """Close the channel, even if it is full. Never blocks. Thread: the sending side.

        Queued values can still be received. Threads that wait to send get ClosedChannelError.
        Raises ClosedChannelError if the channel is already closed; in Go, a second close panics.
        """
        self._check_open("close of")
        for observer in self.observers:
            observer.closes(self)
        try:
            self._left = len(self)
            self._accepts = 0
            self._closed = True
            self._finish()
        except BaseException:
            if self._closed:
                self._finish()
            self._recover()
            raise

    def abandon(self) -> None:
        """Declare that the channel has lost its receiver. Never blocks. Thread: any.

        From then on, every send raises AbandonedChannelError, even a send that is already waiting.
        A waiting receiver is not woken. May be called more than once.
        """
        self._abandoned = True
        self._accepts = 0
        self._closed = True
        self._refuse_senders()

    def _wait_to_send(self, value: T, deadline: float | None) -> None:
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
                if offer.refused:  # the receiver was no longer waiting
                    offer = Offer(value)
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
        """Wait for a value and return `(value, True)`, or `(None, False)` if closed and drained.

        Check the second item first: if it is False, the first item is None, although its type does
        not say so. Thread: the receiver.
        """
        got: list[Any] = []
        try:
            self._await_value(None, got)
            (value,) = got
            return (cast("T", None), False) if value is CLOSED else (value, True)
        except BaseException:
            self._put_back(got)
            raise

    def drain(self) -> list[T]:
        """Receive all queued values, oldest first. Never blocks. Thread: the receiver.

        On an unbuffered channel, receives the values of all waiting senders.
        """
        values: list[T] = []
        try:
            self._take_all(values)
            count = len(values)
            self._received += count
            self._drains[count.bit_length()] += 1
            for observer in self.observers:
                observer.drained(self, values)
            return values
        except BaseException:
            self.queue.extendleft(reversed(values))
            self._recover()
            raise

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Receive a value, with the arguments of `queue.Queue.get`.

        Returns CLOSED if the channel is closed and drained. Raises queue.Empty if there is no value
        in time. Thread: the receiver.
        """
        deadline = deadline_of(timeout) if block else 0.0
        got: list[Any] = []
        try:
            if deadline is None or not self._take(got):
                self._await_value(deadline, got)
            if got:
                return got[0]  # type: ignore[no-any-return]
        except BaseException:
            self._put_back(got)
            raise
        raise queue.Empty

    # The rest is the implementation, which handover.py explains.

    # Sending. Thread: any.

    def _stand_in_line(self, offer: Offer[T], deadline: float | None) -> bool:
        """Wait until the offer is taken or refused. Return True if it expired at the deadline."""
        self._offers.append(offer)
        # Race: another thread closes the channel. This thread joins the line, then checks whether
        # the channel is closed. The other thread marks the channel as closed, then refuses the
        # offers in line. So at least one of them sees what the other has done, and the offer is
        # refused.
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
        """Queue a value if there is room and no sender waits. Return whether it was queued.

        cell: a list that contains only the value.
        """
        if self._room is None:
            # An endless iterator that runs no Python code. Each `next` returns whether the line is
            # empty and the queue has room at that moment.
            lengths = zip(  # noqa: B905 - neither ends
                map(len, repeat(self._offers)), map(len, repeat(self.queue))
            )
            self._room = map(operator.lt, lengths, repeat((0, self.capacity)))
        # The check and the append are a single step, so no other thread can fill or close the
        # channel between them.
        if FREE_THREADED:
            with self.mutex:
                self.queue.extend(map(_pop, compress((cell,), self._room)))
        else:
            self.queue.extend(map(_pop, compress((cell,), self._room)))
        return not cell

    def _dismiss(self, offer: Offer[T]) -> bool:
        """Refuse an offer unless it was taken, remove it from the line, and wake its sender.

        Return whether the offer was refused. Thread: any.
        """
        offer.refuse()
        # If this method is interrupted, `_recover` repeats it, but only for an offer that is still
        # in line. So the gate opens before the removal.
        offer.gate.open()
        try:  # noqa: SIM105 - `suppress` is slower
            self._offers.remove(offer)
        except ValueError:  # another thread was faster
            pass
        return bool(offer.refused)

    def _admit(self) -> None:
        """Queue the values of waiting senders, in order of arrival, while there is room."""
        if FREE_THREADED:
            with self.mutex:
                self._move()
        else:
            self._move()

    def _move(self) -> None:
        # Race: two threads run this when there is room for one value. Each thread looks up the
        # first sender, then checks for room. If both threads find the same sender, its value moves
        # only once. If one thread finds the second sender, the first sender's value is already in
        # the queue, so that thread sees that the queue is full. If the threads checked for room
        # before they looked up the sender, both values could move.
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
        """Do the rest of `close`: refuse waiting senders, add `END`, and wake the receiver.

        Can run again after an interrupt.
        """
        self._admit()
        self._refuse_senders()
        if END not in self._offers:
            self._offers.append(END)
        if FREE_THREADED:
            self._order()
        if (receiver := self._idle) is not None:
            receiver.let_go()

    def _refuse_senders(self) -> None:
        """Refuse and remove all waiting senders. Thread: any."""
        if FREE_THREADED:
            self._order()
        for offer in self._offers.copy():
            if offer is not END:
                self._dismiss(offer)

    def _hand_over(self, offer: Offer[T]) -> bool:
        """Give a value to the idle receiver of an unbuffered channel. Return whether it was given.

        Does nothing if other senders are waiting, because their values come first. If the value was
        not given, the offer may be refused.
        """
        receiver = self._idle
        if receiver is None or self._offers:
            return False
        if isinstance(receiver, Bell):
            return receiver.give(self, offer)
        # Race: another thread closes the channel after the wake-up and before the value is queued.
        # The woken receiver would see the end and miss the value. So the offer joins the line
        # before the wake-up. Then either `close` refuses it, or the receiver finds it before `END`.
        self._offers.append(offer)
        if FREE_THREADED:
            self._order()
        if not self._closed and receiver.wake():
            offer.move(self.queue.extend)
            # The woken receiver may receive from another channel by now, and this channel may have
            # a new receiver.
            self._wake()
        return not self._dismiss(offer)

    def _wake(self) -> None:
        """Wake the receiver if it is idle. Call when the queue or line has changed. Thread: any."""
        if FREE_THREADED:
            self._order()
        if (receiver := self._idle) is not None:
            receiver.wake()

    def _ring(self) -> None:
        """Wake the receiver if it is idle. Thread: the sending side.

        If the receiver takes turns, also clear `_idle`, so that the next `try_send` is faster.

        Race: this thread reads `_idle` and is then delayed. Another sender wakes that receiver,
        which receives a value. The same receiver, or another one, then begins a new wait and sets
        `_idle`. When this thread now clears `_idle`, later senders can no longer see the new wait.
        So this thread also wakes the current receiver, which marks itself as idle again if it finds
        nothing.

        This works because waking a Waiter ends whichever of its waits is in progress. A Bell serves
        only one wait, so `_idle` is not cleared if the receiver uses Bells.
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
            for each in (receiver, self._receiver):  # because no other thread will wake them
                if each is not None:
                    each.wake()
            raise

    def _recover(self) -> None:
        """Do what an interrupted operation may have left undone for other threads. Thread: any."""
        for offer in self._offers.copy():
            if not offer.waits():
                self._dismiss(offer)
        self._admit()
        self._wake()

    def _order(self) -> None:
        """Without a GIL, make this thread's steps visible to later callers of this method."""
        with self.mutex:
            pass

    # Receiving. Thread: the receiver.

    def _await_value(self, deadline: float | None, got: list[Any]) -> None:
        """Wait for a value and append it to an empty list; at the deadline, append nothing."""
        while wait((self,), deadline) is not None and not self._take(got):
            pass

    def _take(self, got: list[Any]) -> bool:
        """Append the next value to an empty list, or CLOSED if the channel is closed and drained.

        Return False if there is nothing to receive.
        """
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
        for observer in self.observers:
            observer.received(self, got[0])
        return True

    def _take_all(self, values: list[T]) -> None:
        """Append all available values to an empty list."""
        # Senders only append values, and only this thread removes them. So the queue does not
        # become shorter in the meantime.
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
        """If the queue is empty, append the first sender's value, or CLOSED, to an empty list."""
        try:
            first = self._offers[0]
        except IndexError:
            return
        # Race: after this thread found the queue empty, another thread may have moved the value of
        # an earlier sender from the line into the queue. That value must be received first, so look
        # at the queue again. If the queue is still empty, the only value that another thread can
        # move is that of `first`, and then the move below does nothing.
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
        """Mark a receiver as idle. Before it sleeps, it must look at the queue once more.

        Raises RuntimeError if another receiver is idle. Thread: the receiver.
        """
        other = self._idle
        if other is not None and other is not receiver and other.is_idle():
            raise RuntimeError("two threads receive from one channel")
        for observer in self.observers:
            observer.waits(self)
        self._idle = receiver
        if FREE_THREADED:
            self._order()


def select(
    *channels: Channel[Any], deadline: float | None = None
) -> tuple[Channel[Any] | None, Any, bool]:
    """Wait until one of the channels has a value or is closed, and receive from it.

    Returns `(channel, value, True)` with a value, `(channel, None, False)` if the channel is closed
    and drained, and `(None, None, False)` at the deadline, a `time.monotonic()` time.

    If several channels are ready, the choice is random, so no channel is starved. Once the deadline
    has passed, it takes precedence over queued values, however many there are.

    Raises RuntimeError if it finds another thread waiting for one of the channels. Raises
    ValueError if there are several channels and one of them has turns. Thread: the receiver.
    """
    channel: Channel[Any] | None = None
    got: list[Any] | tuple[()] = ()
    try:
        while (channel := wait(channels, deadline)) is not None:
            got = []
            if channel._take(got):
                (value,) = got
                return (channel, None, False) if value is CLOSED else (channel, value, True)
            # Give up the turn before the jump back to `while`. In Python 3.12, that jump is not
            # inside the `try`, so an exception there would leave this thread with the turn.
            if channel._in_turn:
                turns.give_up()
        return None, None, False
    except BaseException:
        for each in set(channels):  # a channel may be named twice
            each._put_back(got if each is channel else ())
        raise

"""Waiting for channels, and an explanation of how channels work.

A channel has a queue of values, and a line of senders that wait for room in the queue. As soon as
there is room, the value of the first sender in line moves into the queue. `close` adds the sentinel
`END` to the line, so a receiver gets all values before it sees the close. A receiver that finds no
value marks itself as idle in each channel that it waits for, and the next sender wakes it.

On an unbuffered channel, a sender that finds an idle receiver hands its value over and continues.
Otherwise, the sender joins the line, and continues when its value has been received. Go's chan.go
works the same way.

With a GIL, there are no locks. So an interrupt cannot leave a lock held, and a signal handler never
has to wait for a lock that the interrupted thread holds. Instead, every change is a single step.
For example, the call `new.extend(map(pop, (old,)))` moves a value and runs no Python code. If
several threads try to move the same value, only the first succeeds. After each step, a thread
checks which other threads it must wake. An extra wake-up has no effect, because the woken thread
checks whether there is something to do.

Without a GIL (FREE_THREADED), a lock serializes the steps of all threads.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ...closed import CLOSED
from ...goroutine import waits
from .turns import Gate, turns

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["END", "Bell", "Offer", "seconds_until", "wait"]

T = TypeVar("T")

# Python finds a global name faster than an attribute of a class.
_pop: Final = list.pop


class Offer(Generic[T]):
    """A value and the sender that waits for it to be taken (Go: sudog).

    If several threads try to take or refuse an offer, only the first succeeds.
    """

    __slots__ = ("_offered", "gate", "refused")

    def __init__(self, value: T) -> None:
        self._offered: Final = [value]
        #: Contains the value if the offer was refused; otherwise empty.
        self.refused: Final[list[T]] = []
        #: The sender sleeps here until the offer is taken or refused.
        self.gate: Final = Gate()

    def waits(self) -> bool:
        """Return whether the offer is neither taken nor refused. Thread: any."""
        return bool(self._offered)

    def move(self, extend: Any) -> None:
        """Take the offer: move the value, unless another thread has moved it. Thread: any.

        extend: the `extend` method of the destination.
        """
        if self._offered:
            try:  # noqa: SIM105 - `suppress` is slower
                extend(map(_pop, (self._offered,)))
            except IndexError:  # another thread was faster
                pass

    def refuse(self) -> None:
        """Refuse the offer, unless it was taken. Thread: any."""
        self.move(self.refused.extend)


#: The last offer in the line of a closed channel. It is never taken or refused.
END: Final[Offer[Any]] = Offer(CLOSED)


class Bell(Gate):
    """A receiver's single wait for channels without turns.

    If some of the channels are unbuffered, the first sender to one of those can hand its value
    directly to the receiver (Go: sudog).

    Race: a slow sender may find the bell in a channel, but hand over its value only after the wait
    has ended. If the receiver used the same bell for its next wait, perhaps for other channels,
    that wait would get the value. So each wait has a new bell.
    """

    __slots__ = ("_given", "armed")

    def __init__(self) -> None:
        super().__init__()
        # Maps None to the channel and the offer that a sender has handed over, or to `_NOTHING` if
        # the wait ended first. `setdefault` is a single step, so the first caller decides.
        self._given: dict[None, tuple[Channel[Any] | None, Offer[Any]]] = {}
        #: Whether the wait is in progress. Only the receiver writes this.
        self.armed = True

    # Any sender:

    def give(self, channel: Channel[Any], offer: Offer[Any]) -> bool:
        """Hand over a value. Return False if another sender was faster or the wait has ended."""
        given = channel, offer
        if self._given.setdefault(None, given) is not given:
            return False
        self.open()
        return True

    def is_idle(self) -> bool:
        """Return whether the receiver is waiting and has not been handed a value."""
        return self.armed and not self._given

    wake = let_go = Gate.open

    # The receiver:

    def wait(self, channels: tuple[Channel[Any], ...], deadline: float | None) -> None:
        """Mark the receiver as idle, and sleep until a wake-up or the deadline.

        Does not sleep if one of the channels has something to receive.
        """
        for channel in channels:
            channel._set_idle(self)
        for channel in channels:
            if channel.queue or channel._offers:
                return
        thread = threading.get_ident()
        try:
            waits[thread] = "recv"
            self.pass_(seconds_until(deadline))
        finally:
            waits.pop(thread, None)

    def end(self) -> Channel[Any] | None:
        """End the wait. If a value was handed over, queue it and return its channel."""
        self.armed = False
        channel, offer = self._given.setdefault(None, _NOTHING)
        if channel is not None:
            offer.move(channel.queue.extendleft)
        self._given[None] = _NOTHING
        return channel


_NOTHING: Final = (None, END)


def wait(channels: tuple[Any, ...], deadline: float | None) -> Any:
    """Wait until a channel has something to receive. Return that channel; None at the deadline.

    The caller must check whether the value is still there: a signal handler may have received it,
    or a waiting sender may have taken it back at its deadline. When this function returns a channel
    with turns, the calling thread has a turn, unless the channel is closed.
    """
    for channel in channels:
        if channel._in_turn:
            if len(channels) == 1:
                return _wait_in_turn(channel, deadline)
            raise ValueError("a channel with turns must be the only one in a select")
    while deadline is None or time.monotonic() < deadline:
        for channel in _in_random_order(channels):
            if channel.queue or channel._offers:
                return channel
        # All channels are empty. `Bell.wait` marks the receiver as idle, looks at the channels
        # again, and only then sleeps. A sender queues its value, then looks for an idle receiver.
        # So either the second look finds the value, or the sender finds the bell and rings it.
        bell = Bell()
        try:
            bell.wait(channels, deadline)
            giver = bell.end()
        except BaseException:
            bell.end()
            raise
        if giver is not None:  # a value that was handed over is returned even after the deadline
            return giver
    return None


def _wait_in_turn(channel: Channel[Any], deadline: float | None) -> Channel[Any] | None:
    """Implement `wait` for a single channel with turns."""
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
                    return None
                if timeout > threading.TIMEOUT_MAX:  # noqa: PLR1730 - `min` is slower
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
                # The channel may be empty if a slow sender has woken this thread for a value that
                # the thread has already received.
                break
            # Reset this before the jump back, which is not inside the `try` in Python 3.14.
            me.receiving = False
        me.receiving = False
        return channel
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


def seconds_until(deadline: float | None) -> float:
    """Return the seconds until the deadline, from 0 to the system's maximum; -1 for None."""
    if deadline is None:
        return -1
    return min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)

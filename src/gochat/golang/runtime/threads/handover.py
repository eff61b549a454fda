"""Passes values between threads and lets threads sleep until they are woken.

`channel.py` says what a channel promises and contains the steps of its operations. This module
explains these steps and has the classes with which threads wait for each other.

Strategy: a channel is a queue of values, and a line of senders that wait for room in it. The value
of the first sender in line goes into the queue as soon as there is room. `close` puts a sentinel at
the end of the line, so a receiver drains the queue before it sees the close. A receiver that finds
nothing marks itself as idle in each of its channels; the next thread that sends wakes it.

On an unbuffered channel, a sender that finds an idle receiver hands its value over and continues. A
sender that finds none joins the line and continues when its value has been received. Go's chan.go
does the same.

There is no lock, so an interrupt cannot leave a lock held, and a signal handler cannot find a lock
held by its own thread. A value moves from one place to the next in a single step:
`new.extend(map(pop, (old,)))` is one call, in which no Python code runs. If several threads try to
move a value, the first one moves it, and the others find it gone. A thread looks before each step
and, after the step, looks again for threads that it may have to wake. An extra wake-up is harmless.
With a GIL all steps have one order; without a GIL (FREE_THREADED) a lock gives them an order.
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

__all__ = ["END", "Bell", "Offer", "seconds_until", "wait", "wait_in_turn"]

T = TypeVar("T")

# Python finds a global name faster than an attribute of a class.
_pop: Final = list.pop


class Offer(Generic[T]):
    """A value that a sender waits to hand over (Go: sudog).

    The value is moved to its destination or back to its sender; the first thread that moves it
    decides.
    """

    __slots__ = ("_offered", "gate", "refused")

    def __init__(self, value: T) -> None:
        self._offered: Final = [value]
        #: Contains the value if the offer was refused.
        self.refused: Final[list[T]] = []
        #: Where the sender waits for the decision.
        self.gate: Final = Gate()

    def waits(self) -> bool:
        """Return whether the value has not been moved yet. Thread: any."""
        return bool(self._offered)

    def move(self, extend: Any) -> None:
        """Move the value, if not yet moved. extend: the destination's method. Thread: any."""
        if self._offered:
            try:  # noqa: SIM105 - `suppress` is slower
                extend(map(_pop, (self._offered,)))
            except IndexError:  # another thread was faster
                pass

    def refuse(self) -> None:
        """Take the value back, if not yet moved. Thread: any."""
        self.move(self.refused.extend)


#: The last in line of a closed channel. Its value is never moved, so it always waits.
END: Final[Offer[Any]] = Offer(CLOSED)


class Bell:
    """One wait of a thread for several channels, or for one channel without turns.

    One sender to an unbuffered channel can hand its value to the thread, as to a `sudog` in Go.
    Channels may keep the bell after the wait. So each wait needs a new bell: otherwise a slow
    sender could hand its value to a later wait, which may be for other channels.
    """

    __slots__ = ("_gate", "_given", "armed")

    def __init__(self) -> None:
        self._gate = Gate()
        # Has, under the key None, the channel and the offer that were handed over, or `_NOTHING`
        # once the wait has ended. `setdefault` is a single step, so the first caller decides.
        self._given: dict[None, tuple[Channel[Any] | None, Offer[Any]]] = {}
        #: Whether the thread may be asleep. Cleared by the thread.
        self.armed = True

    # Any sender:

    def give(self, channel: Channel[Any], offer: Offer[Any]) -> bool:
        """Hand over a value; return False if the bell has one or the wait has ended."""
        given = channel, offer
        if self._given.setdefault(None, given) is not given:
            return False
        self._gate.open()
        return True

    def is_idle(self) -> bool:
        """Return whether the receiver is still waiting for a value."""
        return self.armed and not self._given

    def wake(self) -> None:
        self._gate.open()

    let_go = wake

    # The receiver:

    def wait(self, channels: tuple[Channel[Any], ...], deadline: float | None) -> None:
        """Wait to be woken, or for the deadline, unless one of the channels has something."""
        for channel in channels:
            channel._set_idle(self)
        for channel in channels:
            if channel.queue or channel._offers:
                return
        thread = threading.get_ident()
        try:
            waits[thread] = "recv"
            self._gate.pass_(seconds_until(deadline))
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
    """Return a channel that has, or had, something to receive; None at the deadline."""
    for channel in channels:
        if channel._in_turn:
            raise ValueError("a channel with turns must be the only one in a select")
    while deadline is None or time.monotonic() < deadline:
        for channel in _in_random_order(channels):
            if channel.queue or channel._offers:
                return channel
        # All are empty. Set up the bell, look again, and only then wait. The second look finds any
        # value sent before it; a later sender rings the bell.
        bell = Bell()
        try:
            bell.wait(channels, deadline)
            giver = bell.end()
        except BaseException:
            bell.end()
            raise
        if giver is not None:  # a value that was handed over takes precedence
            return giver
    return None


def wait_in_turn(channel: Channel[Any], deadline: float | None) -> bool:
    """Return True when the channel has, or had, something to receive.

    The thread then has a turn, unless the channel is closed. Returns False at the deadline.
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
                # The channel may be empty: a slow sender may wake this thread for a value that has
                # already been received.
                break
            me.receiving = False  # before the jump back, which in Python 3.14 is outside the `try`
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


def seconds_until(deadline: float | None) -> float:
    """Return how long to wait, from 0 to the system's maximum; -1 without a deadline."""
    if deadline is None:
        return -1
    return min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)

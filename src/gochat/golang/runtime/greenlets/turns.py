"""Turns: only one write pump at a time is ready to run.

In a room of a thousand clients, a message gives a thousand write pumps something to do. If all of
them were ready, they would run before the hub and the readers run again, and each would write a
frame with one message. So the pumps line up, and the pump that has the turn passes it on when it
has nothing left to write or is about to wait. Before the next pump, the hub and the readers run if
they are ready. So while a pump waits in line, messages gather in its channel, and it writes them in
one frame.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from gevent import getcurrent

from ...goroutine import TurnsStatistics
from .waiter import Waiter

__all__ = ["DEFAULT_GOMAXPROCS", "TurnWaiter", "Turns", "turns"]

#: The number of turns, which is fixed.
DEFAULT_GOMAXPROCS: Final = 1


class Turns:
    """One turn and the line of pumps that wait for it."""

    def __init__(self) -> None:
        #: The places of the pumps that wait for the turn.
        self.line: Final[deque[TurnWaiter]] = deque()
        #: The place of the pump that has the turn, or will have the turn when it runs.
        self.holder: TurnWaiter | None = None

    def gomaxprocs(self, limit: int) -> int:
        """Return the number of turns, which is 1. Raises ValueError for a limit above 1."""
        if limit > 1:
            raise ValueError(f"gomaxprocs {limit}: greenlets run one at a time")
        return DEFAULT_GOMAXPROCS

    def give_up(self) -> None:
        """Pass on the turn if the calling greenlet has it. Call this before the greenlet waits."""
        holder = self.holder
        if holder is not None and holder.greenlet is getcurrent():
            holder.pass_on()

    def gosched(self) -> None:
        """Return when every pump now in line has had a turn (Go: runtime.Gosched)."""
        self.give_up()
        if self.holder is None:
            return
        place = TurnWaiter()
        place.greenlet = getcurrent()  # without `settle`: this greenlet always leaves the line
        self.line.append(place)
        try:
            place.park()
        finally:
            self.leave(place)

    def join(self, waiter: TurnWaiter) -> None:
        """Put a pump that waits for a value in line; it wakes when it has the turn."""
        if self.holder is None:
            self.holder = waiter
            waiter.wake()
        else:
            self.line.append(waiter)

    def take(self, waiter: TurnWaiter) -> bool:
        """Let a running pump take or keep the turn, if nobody else wants it."""
        if self.holder is None:
            self.holder = waiter
            return True
        return self.holder is waiter and not self.line

    def leave(self, waiter: TurnWaiter) -> None:
        """Leave the line, or pass on the turn, because the wait was interrupted."""
        if self.holder is waiter:
            waiter.pass_on()
        elif waiter in self.line:
            self.line.remove(waiter)

    def ended(self, greenlet: Any) -> None:
        """Pass on the turn of a greenlet that ended while it had the turn."""
        holder = self.holder
        if holder is not None and holder.greenlet is greenlet:
            holder.pass_on()

    def statistics(self) -> TurnsStatistics:
        """Return who has the turn or was woken to take it, and who waits for it."""
        holder = self.holder
        return TurnsStatistics(
            limit=DEFAULT_GOMAXPROCS,
            holders=() if holder is None else (id(holder.greenlet),),
            line=tuple(id(waiter.greenlet) for waiter in self.line),
        )


class TurnWaiter(Waiter):
    """The place where a write pump waits for a value and then for the turn."""

    __slots__ = ()

    def settle(self, greenlet: Any) -> None:
        """Note which greenlet waits here, and make it pass on its turn when it ends."""
        self.greenlet = greenlet
        # A Thread's greenlet has no such method, but calls `ended`; the main greenlet does not end.
        if hasattr(greenlet, "rawlink"):
            greenlet.rawlink(turns.ended)

    def call(self, _: object) -> None:
        """Put the pump in line."""
        self._due = None  # the turn has no deadline
        # Inlines the common case of `join`: in a busy room this saves a call for each frame.
        if turns.holder is None:
            turns.join(self)
        else:
            turns.line.append(self)

    def pass_on(self) -> None:
        """Pass on the turn. Only for the pump that has it."""
        line = turns.line
        # Python 3.10 calls signal handlers at jumps, too. If one joined the line between the check
        # and the next step, nobody would wake it.
        if not line:  # if so, Python does not jump
            turns.holder = None
        else:
            turns.holder = following = line.popleft()
            following.wake()

    def let_go(self, _: object) -> None:
        """Wake the pump without a turn, because its channel is closed."""
        self.wake()


#: The turns of the write pumps.
turns: Final = Turns()

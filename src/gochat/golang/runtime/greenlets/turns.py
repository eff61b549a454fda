"""Turns, which let only one write pump work at a time.

A message in a room of a thousand clients gives work to a thousand write pumps. If all became ready,
they would run before the hub and the readers ran again, and each would write a single message. So
the pumps wait in line instead, and only one has the turn. When that pump has nothing left to write,
or is about to wait, it passes the turn on. Between two turns, the hub and the readers run if they
are ready. So while a pump waits in line, messages gather in its channel, and it later writes them
all in one frame.
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
    """The turn and the line of pumps that wait for it."""

    def __init__(self) -> None:
        #: The pumps that wait for the turn.
        self.line: Final[deque[TurnWaiter]] = deque()
        #: The pump that has the turn or was woken to take it; None if the turn is free.
        self.holder: TurnWaiter | None = None

    def gomaxprocs(self, limit: int) -> int:
        """Return the number of turns, which is 1. Raises ValueError for a limit above 1."""
        if limit > 1:
            raise ValueError(f"gomaxprocs {limit}: greenlets run one at a time")
        return DEFAULT_GOMAXPROCS

    def give_up(self) -> None:
        """Pass on the turn if the calling greenlet has it. Call this before a wait."""
        holder = self.holder
        if holder is not None and holder.greenlet is getcurrent():
            holder.pass_on()

    def gosched(self) -> None:
        """Wait until every pump that is in line now has had a turn (Go: runtime.Gosched)."""
        self.give_up()
        if self.holder is None:
            return
        place = TurnWaiter()
        place.greenlet = getcurrent()  # no `settle`, because this greenlet always leaves the line
        self.line.append(place)
        try:
            place.park()
        finally:
            self.leave(place)

    def join(self, waiter: TurnWaiter) -> None:
        """Put a waiting pump in line. The pump wakes up when it has the turn."""
        if self.holder is None:
            self.holder = waiter
            waiter.wake()
        else:
            self.line.append(waiter)

    def take(self, waiter: TurnWaiter) -> bool:
        """Let a running pump take the turn if it is free, or keep it if no other pump wants it.

        Return whether the pump may work now. If not, the pump may still have the turn, and must
        pass it on.
        """
        if self.holder is None:
            self.holder = waiter
            return True
        return self.holder is waiter and not self.line

    def leave(self, waiter: TurnWaiter) -> None:
        """End a pump's wait: remove the pump from the line, or pass on its turn."""
        if self.holder is waiter:
            waiter.pass_on()
        elif waiter in self.line:
            self.line.remove(waiter)

    def ended(self, greenlet: Any) -> None:
        """Pass on the turn if a greenlet had it when it ended."""
        holder = self.holder
        if holder is not None and holder.greenlet is greenlet:
            holder.pass_on()

    def statistics(self) -> TurnsStatistics:
        """Return which greenlet has the turn and which are waiting for it."""
        holder = self.holder
        return TurnsStatistics(
            limit=DEFAULT_GOMAXPROCS,
            holders=() if holder is None else (id(holder.greenlet),),
            line=tuple(id(waiter.greenlet) for waiter in self.line),
        )


class TurnWaiter(Waiter):
    """A write pump that waits for a value, and then for the turn."""

    __slots__ = ()

    def settle(self, greenlet: Any) -> None:
        """Record which greenlet waits here, and make it pass on its turn when it ends."""
        self.greenlet = greenlet
        # Only gevent's own greenlets have `rawlink`. The greenlet of a Thread calls `ended` itself,
        # and the main greenlet does not end.
        if hasattr(greenlet, "rawlink"):
            greenlet.rawlink(turns.ended)

    def call(self, _: object) -> None:
        """Put the pump in line."""
        self._due = None  # a wait in line has no deadline
        # `join`, with its usual case inlined for speed.
        if turns.holder is None:
            turns.join(self)
        else:
            turns.line.append(self)

    def pass_on(self) -> None:
        """Pass on the turn. The pump must have it."""
        line = turns.line
        # Race: this method finds the line empty. If a signal handler then put a pump in line before
        # this method set `holder` to None, that pump would never be woken. But Python does not run
        # signal handlers between these two steps, because they contain no call and no loop.
        if not line:
            turns.holder = None
        else:
            turns.holder = following = line.popleft()
            following.wake()

    def let_go(self, _: object) -> None:
        """Wake the pump without giving it the turn, because its channel is closed."""
        self.wake()


#: The turns of the write pumps.
turns: Final = Turns()

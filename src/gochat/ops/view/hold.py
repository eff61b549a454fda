"""Holding a client's write pump and slowing it down.

The write pump receives one message, and then drains the channel for the rest of the frame. Between
the two, the channel tells its Hold about the message, and the Hold can stop the pump. So a held
pump has one message while its queue fills. The write deadline does not run, because it is set after
the drain. A held pump has given up its turn, as if it waited for its socket. A pump in slow motion
keeps its turn, so that the view shows the pumps in line for a turn.

The hub closes a client's channel whenever it drops the client, for whatever reason. Closing the
channel also ends a hold and slow motion, so no hold outlasts the client or the chat.
"""

from __future__ import annotations

import threading
from typing import Final

from ...golang.channel import CLOSED
from ...golang.turns import turns

__all__ = ["Hold", "Pace"]


class Pace:
    """The delay that slow motion adds to each frame of a write pump, in seconds; 0 for none."""

    def __init__(self) -> None:
        self.seconds = 0.0


class Hold:
    """Holds or slows down the receiver of one channel, as the channel's Observer.

    tab: the name by which a page asks for the channel's client; empty for none.
    """

    def __init__(self, pace: Pace, tab: str = "") -> None:
        self.tab: Final = tab
        #: The name in the client's last message that began with one. Set by the read pump.
        self.name = b""
        self._pace = pace
        # Guards `on` and wakes the receiver when `on` changes or the channel is closed. A thread
        # that holds it never waits, so the hub acquires it without delay.
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        #: Whether the receiver should wait. Any thread may read it without the lock. The receiver
        #: also does, so it may notice a change one frame late.
        self.on = False
        #: What the receiver is doing in `received`; None outside it. Set by the receiver.
        self.doing: str | None = None

    def switch(self, on: bool) -> None:
        """Hold the receiver at its next value, or release it. Thread: any."""
        with self._changed:
            self.on = on
            self._changed.notify()

    def received(self, channel: object, value: object) -> None:  # noqa: ARG002
        """Hold or delay the receiver. Thread: the receiver."""
        if value is CLOSED:
            return
        try:
            if seconds := self._pace.seconds:
                self.doing = "at work, in slow motion"
                with self._changed:
                    self._changed.wait_for(lambda: self.on or self._closed, seconds)
            if self.on and not self._closed:
                self.doing = "is held, with one message received"
                turns.give_up()
                with self._changed:
                    self._changed.wait_for(lambda: not self.on or self._closed)
        finally:
            self.doing = None

    def closed(self, channel: object) -> None:  # noqa: ARG002
        """Release the receiver. Thread: the sending side."""
        with self._changed:
            self._closed = True
            self._changed.notify()

"""Holds a client's write pump, or slows it down.

For each frame, a write pump receives one message and then drains the channel. In between, the
channel calls its observer, the Hold, which can stop the pump. So a held pump has received one
message while its queue fills up. The write deadline is set after the hold, so a hold does not use
up the time for the write.

A held pump has given up its turn, like a pump that waits for its socket. A pump in slow motion
keeps its turn, so that the view shows other pumps in line for a turn.

The hub closes a client's channel when it drops the client. That also ends the client's hold or slow
motion.
"""

from __future__ import annotations

import threading
from typing import Final

from ...golang.channel import CLOSED
from ...golang.goroutine import Observer
from ...golang.turns import turns

__all__ = ["Hold", "Pace"]


class Pace:
    """The delay of slow motion: how long to delay each frame, in seconds; 0 for none."""

    def __init__(self) -> None:
        self.seconds = 0.0


class Hold(Observer):
    """The observer that holds or slows down the receiver of one channel.

    tab: identifies the page that the client belongs to; empty if the page is unknown.
    """

    def __init__(self, pace: Pace, tab: str = "") -> None:
        self.tab: Final = tab
        #: The name at the beginning of the client's latest message that had one. Set by the read
        #: pump.
        self.name = b""
        self._pace = pace
        # Guards `on`, and wakes the receiver when `on` changes or the channel is closed. No thread
        # that holds this lock waits, so the hub gets the lock without delay.
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        #: Whether to hold the receiver. Thread: any. The receiver reads this without the lock, and
        #: may notice a change one frame late.
        self.on = False
        #: What the receiver does in `received`; None at other times. Set by the receiver.
        self.doing: str | None = None

    def switch(self, on: bool) -> None:
        """Hold the receiver when it has its next value, or release it. Thread: any."""
        with self._changed:
            self.on = on
            self._changed.notify()

    def received(self, channel: object, value: object) -> None:  # noqa: ARG002
        """Hold or delay the receiver, as switched. Thread: the receiver."""
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

    def closes(self, channel: object) -> None:  # noqa: ARG002
        """Release the receiver for good. Thread: the one that closes the channel."""
        with self._changed:
            self._closed = True
            self._changed.notify()

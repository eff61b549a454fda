"""How a client's write pump is held, and slowed down.

The write pump receives one message, and then drains the channel for the rest of the frame. Between
the two a Hold, which the channel tells of the first message, can keep the pump. So a pump that is
held has one message in its hands, while the queue behind it fills, and the time to write begins
when the pump goes on: the write deadline is set after the drain. A pump that is held has given up
its turn, as one that waits for its socket. A pump in slow motion keeps its turn, so that the line
for it can be seen.

The hub closes a client's channel whenever it drops the client, for whatever reason. That ends a
hold and slow motion too, so nobody is held beyond the end of the client, or of the chat.
"""

from __future__ import annotations

import threading
from typing import Final

from ...golang.channel import CLOSED
from ...golang.turns import turns

__all__ = ["Hold", "Pace"]


class Pace:
    """How long each write pump takes over a frame in slow motion, in seconds; 0 without."""

    def __init__(self) -> None:
        self.seconds = 0.0


class Hold:
    """Holds the receiver of one channel, whose Observer it is, and slows it down.

    tab: the name by which a page asks for the client of the channel; empty for none.
    """

    def __init__(self, pace: Pace, tab: str = "") -> None:
        self.tab: Final = tab
        #: The name before the last message that had one. Set by the read pump.
        self.name = b""
        self._pace = pace
        # Guards `on`, and wakes the receiver when that changes or the channel is closed. Nothing is
        # waited for with this lock, so the hub takes it without delay.
        self._changed = threading.Condition(threading.Lock())
        self._closed = False
        #: Whether the receiver is to wait. Any thread may look without the lock, and so does the
        #: receiver, which may see that a frame late.
        self.on = False
        #: What the receiver is doing here, if it is here. Set by the receiver.
        self.doing: str | None = None

    def switch(self, on: bool) -> None:
        """Hold the receiver with its next value, or let it go on. Thread: any."""
        with self._changed:
            self.on = on
            self._changed.notify()

    def received(self, channel: object, value: object) -> None:  # noqa: ARG002
        """Keep the receiver. Thread: the receiver."""
        if value is CLOSED:
            return
        try:
            if seconds := self._pace.seconds:
                self.doing = "at work, in slow motion"
                with self._changed:
                    self._changed.wait_for(lambda: self.on or self._closed, seconds)
            if self.on and not self._closed:
                self.doing = "is held, with one message in its hands"
                turns.give_up()
                with self._changed:
                    self._changed.wait_for(lambda: not self.on or self._closed)
        finally:
            self.doing = None

    def closed(self, channel: object) -> None:  # noqa: ARG002
        """Let the receiver go on. Thread: the sending side's one."""
        with self._changed:
            self._closed = True
            self._changed.notify()

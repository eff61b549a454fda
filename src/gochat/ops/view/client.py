"""A client that can be looked at, held and slowed down; who is there, and who has gone and why.

Strategy: the write pump receives one message, and then drains the channel for the rest of the
frame. Between the two a ViewedChannel can keep it. So a pump that is held has one message in its
hands, while the queue behind it fills, and the time to write begins when the pump goes on: the
write deadline is set after the drain. A pump that is held has given up its turn, as one that waits
for its socket. A pump in slow motion keeps its turn, so that the line for it can be seen.

The hub closes a client's channel whenever it drops the client, for whatever reason. That ends
a hold and slow motion too, so nobody is held beyond the end of the client, or of the chat.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

from ...client import Client, Settings
from ...golang.channel import Channel
from ...golang.turns import turns
from ...golang.websocket import (
    CLOSE_ABNORMAL_CLOSURE,
    CloseError,
    Conn,
)
from ..clients import drop_reason

if TYPE_CHECKING:
    from ...anyhub import AnyHub

__all__ = ["Gone", "ViewedChannel", "ViewedClient", "Watch"]

# A drop_reason in words.
_DROPPED: Final = {
    "message_too_big": "its message was too big",
    "protocol_error": "it broke the protocol",
    "full_send_buffer": "its queue was full",
    "write_deadline": "a write was not done in time",
    "read_deadline": "no pong came in time",
}

# How many of those that have gone are remembered.
_GONE: Final = 50


class Gone(NamedTuple):
    """A client that has gone. at: when, in seconds of `time.time()`. queued: what waited for it."""

    number: int
    addr: str
    reason: str
    queued: int
    at: float


class ViewedChannel(Channel[bytes]):
    """A client's channel whose receiver can be held, and slowed down.

    watch: has the pace.
    """

    def __init__(self, capacity: int, watch: Watch) -> None:
        super().__init__(capacity, in_turn=True)
        self._watch = watch
        # Guards `held`, and wakes the receiver when that changes or the channel is closed. Nothing
        # is waited for with this lock, so the hub takes it without delay.
        self._changed = threading.Condition(threading.Lock())
        #: Whether the receiver is to wait. Any thread may look without the lock, and so does the
        #: receiver, which may see that a frame late.
        self.held = False

    def hold(self, held: bool) -> None:
        """Hold the receiver with its next value, or let it go on. Any thread."""
        with self._changed:
            self.held = held
            self._changed.notify()

    def close(self) -> None:
        super().close()
        with self._changed:
            self._changed.notify()

    def drain(self) -> list[bytes]:
        if self._watch.pace:
            self._slow_down(self._watch.pace)
        if self.held:
            self._wait_while_held()
        return super().drain()

    def _slow_down(self, seconds: float) -> None:
        """Take time, and keep the turn. The receiver."""
        with self._changed:
            self._changed.wait_for(lambda: self.held or self._closed, seconds)

    def _wait_while_held(self) -> None:
        """Wait to be let go, without a turn. The receiver."""
        turns.give_up()
        with self._changed:
            self._changed.wait_for(lambda: not self.held or self._closed)


class ViewedClient(Client):
    """A Client that the view knows, and that has a ViewedChannel.

    Until the read pump ends, `watch` knows it under its number.
    """

    send: ViewedChannel

    def __init__(self, hub: AnyHub, conn: Conn, settings: Settings, watch: Watch) -> None:
        super().__init__(hub, conn, settings)
        self.send = ViewedChannel(settings.send_buffer, watch)
        self.watch: Final = watch
        self.number: Final = next(watch.numbers)
        # The idents of the threads while they run the pumps. Each is set by its own thread, and may
        # be read by any: idents are used again, but not before they are unset here.
        self.reader: int | None = None
        self.writer: int | None = None

    def read_pump(self) -> None:
        self.reader = threading.get_ident()
        self.watch.enter(self)
        try:
            super().read_pump()
        finally:
            self.watch.leave(self)
            self.reader = None

    def write_pump(self) -> None:
        self.writer = threading.get_ident()
        try:
            super().write_pump()
        finally:
            self.writer = None

    def reason(self) -> str:
        """Why the hub has parted with the client, which it has. Any thread."""
        if (reason := drop_reason(self)) is not None:
            return _DROPPED[reason]
        read = self.conn.read_error
        if isinstance(read, CloseError) and read.code != CLOSE_ABNORMAL_CLOSURE:
            return "it left"
        return "the server stops" if self.hub.farewell else "its connection was lost"


class Watch:
    """What the view knows of the clients, and the pace. Any thread may use it."""

    def __init__(self) -> None:
        #: How long each write pump takes over a frame in slow motion, in seconds; 0 without.
        self.pace = 0.0
        #: The numbers of clients that come.
        self.numbers: Final = count(1)
        # Guards the two below.
        self._lock = threading.Lock()
        self._clients: dict[int, ViewedClient] = {}
        self._gone: deque[Gone] = deque(maxlen=_GONE)

    def enter(self, client: ViewedClient) -> None:
        """A client is there. Its read pump's thread."""
        with self._lock:
            self._clients[client.number] = client

    def leave(self, client: ViewedClient) -> None:
        """A client has gone. Its read pump's thread."""
        gone = Gone(
            client.number,
            client.conn.remote_addr,
            client.reason(),
            client.send.statistics().queued_at_close,
            time.time(),
        )
        with self._lock:
            del self._clients[client.number]
            self._gone.append(gone)

    def find(self, number: int) -> ViewedClient | None:
        """The client of this number, if it is there."""
        with self._lock:
            return self._clients.get(number)

    def read(self) -> tuple[list[ViewedClient], list[Gone]]:
        """Who is there, in the order of coming, and who went last, in the order of going."""
        with self._lock:
            return list(self._clients.values()), list(self._gone)

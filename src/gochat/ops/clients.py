"""The clients of a chat, for those who look: who is there, and what all have done so far.

They are plain clients. `Clients.new_client` makes them, and so knows them until the server says
that their connection has ended; then their figures are added to the totals. A client comes and goes
under a lock, so it is always either among those that are there or in the totals.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from ..client import Client, Settings
from ..golang.websocket import ProtocolError, ReadLimitError

if TYPE_CHECKING:
    from ..anyhub import AnyHub
    from ..golang.websocket import Conn

__all__ = ["DROP_REASONS", "Clients", "Totals", "drop_reason"]

#: Why this side drops a client.
DROP_REASONS: Final = (
    "full_send_buffer",
    "write_deadline",
    "read_deadline",
    "protocol_error",
    "message_too_big",
)


def drop_reason(client: Client) -> str | None:
    """Return why this side has dropped a client, a DROP_REASON; None if it has not.

    Several reasons can be true, as when the hub drops a client whose last frame cannot be written
    either. Then the answer is what came first: a client that has broken the protocol is read no
    more, and so may overflow; one that overflows is likely to be stuck; and a write that fails ends
    the reading. Thread: any.
    """
    conn = client.conn.statistics()
    if isinstance(conn.read_error, ReadLimitError):
        return "message_too_big"
    if isinstance(conn.read_error, ProtocolError):
        return "protocol_error"
    if client.send.statistics().refused:
        return "full_send_buffer"
    if conn.given_up or isinstance(conn.write_error, TimeoutError):
        return "write_deadline"
    if isinstance(conn.read_error, TimeoutError):
        return "read_deadline"
    return None


@dataclass
class Totals:
    """What clients have done so far."""

    messages_in: int = 0
    #: Messages that were received for frames, and these frames.
    messages_out: int = 0
    #: At place b, frames whose messages after the first have a number of b bits.
    frames_out: list[int] = field(default_factory=lambda: [0] * 32)
    stalls: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DROP_REASONS, 0))

    def add(self, client: Client) -> None:
        """Add what a client has done."""
        conn, send = client.conn.statistics(), client.send.statistics()
        self.messages_in += conn.messages_in
        self.stalls += conn.stalls
        # The write pump receives the first message of a frame, and drains the others.
        self.messages_out += send.received
        self.frames_out = [a + b for a, b in zip(self.frames_out, send.drains, strict=True)]

    def copy(self) -> Totals:
        return replace(self, dropped=self.dropped.copy())


class Clients:
    """The clients of a chat. Thread: any."""

    def __init__(self, new_client: Callable[[AnyHub, Conn, Settings], Client] = Client) -> None:
        self._new_client = new_client
        # Guards the two below. No other lock is waited for while this one is held.
        self._lock = threading.Lock()
        # By their sockets.
        self._there: dict[socket.socket, Client] = {}
        self._gone = Totals()

    def new_client(self, hub: AnyHub, conn: Conn, settings: Settings) -> Client:
        """Make a client: for `client_class`."""
        client = self._new_client(hub, conn, settings)
        with self._lock:
            self._there[conn.sock] = client
        return client

    def closed(self, sock: socket.socket) -> None:
        """Take a client out whose connection has ended: for `on_close`. Any other is ignored."""
        with self._lock:
            client = self._there.pop(sock, None)
            if client is None:
                return
            self._gone.add(client)
            reason = drop_reason(client)
            if reason is not None:
                self._gone.dropped[reason] += 1

    def read(self) -> tuple[list[Client], Totals]:
        """Return those who are there, and what they and those who have gone have done."""
        with self._lock:
            there = list(self._there.values())
            totals = self._gone.copy()
        # A client that goes from here on is in the list, and was not in the totals.
        for client in there:
            totals.add(client)
        return there, totals

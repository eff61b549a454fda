"""Keeps track of a chat's clients: the connected ones, and totals over all clients.

When the server reports that a client's connection has ended, the client's counts are added to the
totals. A lock makes this one step, so a client is always either connected or in the totals.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple

from ..anyhub import AnyHub
from ..client import Client, Settings
from ..golang.goroutine import Observer
from ..golang.runtime import Lock
from ..golang.websocket import (
    CLOSE_ABNORMAL_CLOSURE,
    CloseError,
    Conn,
    ProtocolError,
    ReadLimitError,
)

__all__ = ["DROP_REASONS", "Clients", "Gone", "Totals", "drop_reason", "reason"]

#: Reasons for dropping a client. Each has a label for metrics, and a description.
DROP_REASONS: Final = {
    "full_send_buffer": "its queue was full",
    "write_deadline": "a write was not done in time",
    "read_deadline": "no pong came in time",
    "protocol_error": "it broke the protocol",
    "message_too_big": "its message was too big",
}

# How many departed clients are remembered.
_GONE: Final = 50


def drop_reason(client: Client) -> str | None:
    """Return the key in DROP_REASONS if the server dropped a client; otherwise, None.

    If more than one reason applies, the key is that of the first. For example, after a client
    breaks the protocol, nothing more is read from it, so its queue may fill up. And after the hub
    drops a client for a full queue, writing the client's last frame may time out. Thread: any.
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


def reason(client: Client, dropped: str | None) -> str:
    """Describe why a client's channel was closed. Call only after the channel was closed.

    dropped: the client's `drop_reason`. Thread: any.
    """
    if dropped is not None:
        return DROP_REASONS[dropped]
    read = client.conn.read_error
    if isinstance(read, CloseError) and read.code != CLOSE_ABNORMAL_CLOSURE:
        return "it left"
    return "the server stops" if client.hub.farewell else "its connection was lost"


class Gone(NamedTuple):
    """A client that has left.

    queued: how many messages its channel held when it was closed. at: when it left, in seconds
    since the epoch.
    """

    number: int
    addr: str
    reason: str
    queued: int
    at: float


@dataclass
class Totals:
    """Counts, summed over all clients."""

    messages_in: int = 0
    #: Messages that write pumps have put into frames.
    messages_out: int = 0
    #: Counts of frames. A frame of n messages is counted at the index `(n - 1).bit_length()`.
    frames_out: list[int] = field(default_factory=lambda: [0] * 32)
    stalls: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DROP_REASONS, 0))

    def add(self, client: Client) -> None:
        """Add a client's counts."""
        conn, send = client.conn.statistics(), client.send.statistics()
        self.messages_in += conn.messages_in
        self.stalls += conn.stalls
        # A write pump receives the first message of each frame and drains the others.
        self.messages_out += send.received
        self.frames_out = [a + b for a, b in zip(self.frames_out, send.drains, strict=True)]


class Clients:
    """The clients of a chat. client_class: a function that makes a client. Thread: any."""

    def __init__(self, client_class: Callable[[AnyHub, Conn, Settings], Client] = Client) -> None:
        self._client_class = client_class
        # Guards the fields below. A thread that holds this lock does not wait for any other lock.
        self._lock = Lock()
        # Each client and its number, by socket, in the order in which they connected.
        self._there: dict[socket.socket, tuple[int, Client]] = {}
        self._numbers = count(1)
        self._totals = Totals()
        self._gone: deque[Gone] = deque(maxlen=_GONE)

    def new_client(
        self, hub: AnyHub, conn: Conn, settings: Settings, observer: Observer | None = None
    ) -> Client:
        """Make a client; pass this as `client_class`. observer: observes the client's channel."""
        client = self._client_class(hub, conn, settings)
        if observer is not None:  # before other threads can find the client
            client.send.observe(observer)
        with self._lock:
            self._there[conn.sock] = next(self._numbers), client
        return client

    def closed(self, sock: socket.socket) -> None:
        """Handle the end of a connection; pass this as `on_close`. Ignores other sockets."""
        with self._lock:
            if sock not in self._there:
                return
            number, client = self._there.pop(sock)
            self._totals.add(client)
            dropped = drop_reason(client)
            if dropped is not None:
                self._totals.dropped[dropped] += 1
            queued = client.send.statistics().queued_at_close
            addr = client.conn.remote_addr
            self._gone.append(Gone(number, addr, reason(client, dropped), queued, time.time()))

    def find(self, sock: socket.socket) -> Client | None:
        """Return the connected client with this socket, or None."""
        with self._lock:
            return self._there[sock][1] if sock in self._there else None

    def there(self) -> dict[int, Client]:
        """Return the connected clients by number, in the order in which they connected."""
        with self._lock:
            return dict(self._there.values())

    def gone(self) -> list[Gone]:
        """Return the clients that left most recently, in the order in which they left."""
        with self._lock:
            return list(self._gone)

    def read(self) -> tuple[list[Client], Totals]:
        """Return the connected clients, and totals that include them."""
        with self._lock:
            there = [client for _, client in self._there.values()]
            totals = deepcopy(self._totals)
        # A client that leaves now is counted once: it is in the list, but not in the copied totals.
        for client in there:
            totals.add(client)
        return there, totals

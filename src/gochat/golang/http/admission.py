"""Admission: which connections are served, by whose address they count, and how others are refused.

A connection is admitted when it is accepted, unless there are too many of them, and counts until it
is closed. If there is a limit for each address, it counts for the client's address too: at once for
a client that came directly, and for one behind a trusted proxy as soon as its request is read.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from .address import unmapped

__all__ = ["Admission", "Refusal"]

log = logging.getLogger("gochat")

# The answer to a connection that is not served. Made beforehand: there may be no memory for it.
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 20\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"Service Unavailable\n"
)

# Why a connection is not served: the keys of `Admission.refusals`.
_REASONS: Final = ("max_connections", "max_connections_per_address", "threads", "descriptors")


class Refusal(NamedTuple):
    """Why a connection is not served."""

    #: A key of `Admission.refusals`.
    reason: str
    #: The same for the log, with numbers.
    text: str


class Admission:
    """Counts connections, and decides which are served. Any thread may use it.

    max_connections, max_connections_per_address, trusted_proxies: see `Server`.
    """

    def __init__(
        self,
        max_connections: int | None = None,
        max_connections_per_address: int | None = None,
        trusted_proxies: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = (),
    ) -> None:
        self.max_connections: Final = max_connections
        self.max_connections_per_address: Final = max_connections_per_address
        self.trusted_proxies: Final = tuple(trusted_proxies)
        #: How many connections were refused with 503, by reason. Written under _lock. Any thread
        #: may read it without, because no key comes or goes.
        self.refusals: Final = dict.fromkeys(_REASONS, 0)
        # Guards refusals and the two below.
        self._lock = threading.Lock()
        # The connections that are admitted; with the address that each counts for, if any.
        self._admitted: dict[socket.socket, str | None] = {}
        # How many of them count for each address.
        self._addresses: Counter[str] = Counter()
        # When a refusal was last logged, on the monotonic clock. No lock: two threads that come at
        # the same time log two lines, which is harmless.
        self._logged_at = -math.inf

    def admit(self, request: socket.socket, address: str) -> Refusal | None:
        """Admit a connection from this IP address, until `release`; or say why not."""
        with self._lock:
            limit = self.max_connections
            if limit is not None and len(self._admitted) >= limit:
                return Refusal("max_connections", f"{limit} are being served")
            self._admitted[request] = None
        # Which client a proxy stands for is known when the request is read.
        return None if self.trusts(address) else self.count(request, address)

    def count(self, request: socket.socket, address: str) -> Refusal | None:
        """Count an admitted connection for this IP address, or say why it is one too many."""
        limit = self.max_connections_per_address
        if limit is not None:
            with self._lock:
                if self._addresses[address] >= limit:
                    text = f"{limit} of {address} are being served"
                    return Refusal("max_connections_per_address", text)
                self._addresses[address] += 1
                self._admitted[request] = address
        return None

    def release(self, request: socket.socket) -> None:
        """Count a connection no longer, if it was counted."""
        with self._lock:
            address = self._admitted.pop(request, None)
            if address is not None:
                self._addresses[address] -= 1
                if self._addresses[address] == 0:
                    del self._addresses[address]

    # Proxies.

    def trusts(self, address: str) -> bool:
        """Whether this is the IP address of a proxy that is believed."""
        ip = ipaddress.ip_address(address.partition("%")[0])
        return any(ip in network for network in self.trusted_proxies)

    def forwarded_for(self, headers: Iterable[str]) -> str:
        """The client's IP address in X-Forwarded-For of a trusted proxy; empty if there is none.

        Each proxy appends the address of its own client. What stands before the first address that
        belongs to no proxy was sent by that client, which may write anything there.
        """
        for entry in reversed(",".join(headers).split(",")):
            try:
                # A zone may be any text, and means nothing on another machine.
                address = unmapped(str(ipaddress.ip_address(entry.partition("%")[0].strip(" \t"))))
            except ValueError:
                break
            if not self.trusts(address):
                return address
        return ""

    # Refusing.

    def refuse(self, request: socket.socket) -> None:
        """Answer 503 to a connection that is not served. Never blocks."""
        with suppress(OSError):
            request.send(_REFUSAL, socket.MSG_DONTWAIT)
            request.shutdown(socket.SHUT_WR)
            # Closing a socket with input unread resets the connection, and a reset may overtake
            # the answer.
            request.recv(65536, socket.MSG_DONTWAIT)

    def refused(self, refusal: Refusal) -> None:
        """Count a connection that was refused, and log why: at most one line a second."""
        with self._lock:
            self.refusals[refusal.reason] += 1
        self.log("http: refused a connection (503): %s", refusal.text)

    def log(self, message: str, text: str) -> None:
        """Log what may go wrong many times a second: at most one line a second."""
        if time.monotonic() - self._logged_at >= 1.0:
            self._logged_at = time.monotonic()
            log.info(message, text)

"""Admission: which connections are served, and how the others are refused.

A connection is admitted after it was accepted, unless too many are open, and counts until it is
closed. If there is a limit for each client address, a connection also counts for the address of its
client: for a direct client from the start, and for a client of a trusted proxy from the moment that
its request has been read. net/http has no such limits.
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

# The answer to a connection that is refused. A constant, because memory may be short then.
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 20\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"Service Unavailable\n"
)

# The reasons for refusing a connection: the keys of `Admission.refusals`.
_REASONS: Final = ("max_connections", "max_connections_per_address", "threads", "descriptors")

# How many trusted proxies a request may have passed. X-Forwarded-For can have a megabyte of them.
_MAX_PROXIES: Final = 100

# One character more than the longest IP address has: of longer text, this much is not an address.
_ADDRESS_LENGTH: Final = 46


class Refusal(NamedTuple):
    """Why a connection is refused."""

    #: A key of `Admission.refusals`.
    reason: str
    #: The same reason for the log, with numbers.
    text: str


class Admission:
    """Counts connections, and decides which are served. Any thread may call its methods.

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
        #: How many connections were refused with 503, by reason. Written under _lock. Reading needs
        #: no lock, because the keys never change.
        self.refusals: Final = dict.fromkeys(_REASONS, 0)
        # Guards refusals, _admitted and _addresses.
        self._lock = threading.Lock()
        # The admitted connections, each with the client address that it counts for, if any.
        self._admitted: dict[socket.socket, str | None] = {}
        # How many admitted connections count for each client address.
        self._addresses: Counter[str] = Counter()
        # When a refusal was last logged, on the monotonic clock. There is no lock: at worst, two
        # threads log a line each.
        self._logged_at = -math.inf

    def admit(self, request: socket.socket, address: str) -> Refusal | None:
        """Admit a connection from this IP address until `release`, or return why it is refused."""
        with self._lock:
            limit = self.max_connections
            if limit is not None and len(self._admitted) >= limit:
                return Refusal("max_connections", f"{limit} are being served")
            self._admitted[request] = None
        # For a proxy, the client's address is not known before the request has been read.
        return None if self.trusts(address) else self.count(request, address)

    def count(self, request: socket.socket, address: str) -> Refusal | None:
        """Count an admitted connection for a client's IP address, or return why it is refused."""
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
        """Stop counting a connection. Does nothing if it was never admitted."""
        with self._lock:
            address = self._admitted.pop(request, None)
            if address is not None:
                self._addresses[address] -= 1
                if self._addresses[address] == 0:
                    del self._addresses[address]

    def trusts(self, address: str) -> bool:
        """Whether this IP address belongs to a trusted proxy. Raises ValueError for other text."""
        if not self.trusted_proxies:
            return False
        ip = ipaddress.ip_address(address.partition("%")[0])
        return any(ip in network for network in self.trusted_proxies)

    def forwarded_for(self, headers: Iterable[str]) -> str:
        """The client's IP address from X-Forwarded-For of a trusted proxy, or "" if there is none.

        Each proxy appends the address of its own client. So the client is the last address that is
        not a trusted proxy's; what stands before it came from that client, and may be false.
        """
        value = ",".join(headers)
        for _ in range(_MAX_PROXIES + 1):
            value, _, entry = value.rpartition(",")
            try:
                # A zone (RFC 4007) can be any text, and has no meaning on another machine.
                text = entry.partition("%")[0].strip(" \t")[:_ADDRESS_LENGTH]
                address = unmapped(str(ipaddress.ip_address(text)))
            except ValueError:
                break
            if not self.trusts(address):
                return address
        return ""

    def refuse(self, request: socket.socket) -> None:
        """Send the answer 503 to a connection. Never blocks, never raises OSError."""
        with suppress(OSError):
            request.send(_REFUSAL, socket.MSG_DONTWAIT)
            request.shutdown(socket.SHUT_WR)
            # If a socket is closed with unread input, the system resets the connection, and the
            # client may lose the answer.
            request.recv(65536, socket.MSG_DONTWAIT)

    def refused(self, refusal: Refusal) -> None:
        """Count a refused connection, and log the reason, with at most one line per second."""
        with self._lock:
            self.refusals[refusal.reason] += 1
        self.log("http: refused a connection (503): %s", refusal.text)

    def log(self, message: str, text: str) -> None:
        """Log a message that may come many times per second, with at most one line per second."""
        if time.monotonic() - self._logged_at >= 1.0:
            self._logged_at = time.monotonic()
            log.info(message, text)

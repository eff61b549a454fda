"""Admission: decides which connections are served, and refuses the others.

There are two limits, neither of which exists in net/http. The total limit counts all open
connections. The limit per client address counts only connections whose request was read, for two
reasons. Behind a trusted proxy, only the request shows who the client is. And browsers open idle
connections in advance; if these counted, reloading a page could be refused. To keep idle
connections from using up the total limit, an address may have at most six open connections above
its own limit.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from ..runtime import Lock, nonblocking
from .address import unmapped

__all__ = ["Admission", "Refusal", "ServerStatistics"]

log = logging.getLogger("gochat")

# The answer to a refused connection. A constant, because memory may have run out.
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 20\r\n"
    b"Connection: close\r\n"
    b"\r\n"
    b"Service Unavailable\n"
)

# The reasons for refusing a connection: the keys of `ServerStatistics.refused`.
_REASONS: Final = ("max_connections", "max_connections_per_address", "threads", "descriptors")

# How many open connections an address may have above its limit. Browsers open up to six
# connections to a server.
_SPARE: Final = 6

# The maximum number of proxies to skip in X-Forwarded-For. The header may be a megabyte long.
_MAX_PROXIES: Final = 100

# Entries of X-Forwarded-For are truncated to this length. The longest IP address with brackets and
# a port is one character shorter, so a truncated entry is never valid.
_ADDRESS_LENGTH: Final = 54

# Some proxies add a port: `192.0.2.7:5000`, `[2001:db8::7]:5000`. IPv6 addresses may also have
# brackets without a port.
_WITH_PORT: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)(?:%[^]]*)?\]|(?P<v4>[0-9.]+)(?=:))(?::[0-9]{1,5})?"
)


class Refusal(NamedTuple):
    """The reason for refusing a connection."""

    #: A key of `ServerStatistics.refused`.
    reason: str
    #: A description for the log.
    text: str


@dataclass(frozen=True)
class ServerStatistics:
    """Counters of a server."""

    #: Connections admitted so far, including open ones.
    served: int
    #: Connections that are open now, including those without a request.
    open: int
    #: Connections and requests refused with 503, by reason. Every possible reason is a key.
    refused: Mapping[str, int]


class Admission:
    """Counts connections, and decides which are served.

    max_connections, max_connections_per_address, trusted_proxies: see `Server`. Thread: any.
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
        # Guards everything below except _logged_at.
        self._lock = Lock()
        # `served` and `refused` of `ServerStatistics`.
        self._total = 0
        self._refused = dict.fromkeys(_REASONS, 0)
        # The open connections. Each has two addresses, for which `_open` and `_served` count it. An
        # address is None if that counter does not count the connection.
        self._admitted: dict[socket.socket, tuple[str | None, str | None]] = {}
        # For each address: `_open` counts its open connections, and `_served` counts those whose
        # request has been read. Both are used only if there is a limit per address.
        self._open: Counter[str] = Counter()
        self._served: Counter[str] = Counter()
        # When each message was last logged, by `time.monotonic()`. The lock does not guard this: at
        # worst, two threads log the same message.
        self._logged_at: dict[str, float] = {}

    def admit(self, request: socket.socket, address: str) -> Refusal | None:
        """Admit a new connection, or return the reason for refusing it.

        address: the peer's IP address. An admitted connection is counted until `release`.
        """
        most, limit = self.max_connections, self.max_connections_per_address
        # A proxy's connections are not counted for the proxy's address: many clients share them.
        counts = limit is not None and not self.trusts(address)
        with self._lock:
            if most is not None and len(self._admitted) >= most:
                return Refusal("max_connections", f"{most} are being served")
            if limit is not None and counts:
                if self._open[address] >= limit + _SPARE:
                    return _too_many(self._open[address], address)
                self._open[address] += 1
            self._admitted[request] = (address if counts else None, None)
            self._total += 1
        return None

    def count(self, request: socket.socket, address: str) -> Refusal | None:
        """Count a connection whose request was read, or return the reason for refusing the request.

        request: an admitted connection. address: the client's IP address. Call this only once for
        each connection.
        """
        limit = self.max_connections_per_address
        if limit is not None:
            with self._lock:
                if self._served[address] >= limit:
                    return _too_many(limit, address)
                self._served[address] += 1
                self._admitted[request] = (self._admitted[request][0], address)
        return None

    def release(self, request: socket.socket) -> None:
        """Stop counting a connection. Does nothing if it was not admitted."""
        with self._lock:
            opened, served = self._admitted.pop(request, (None, None))
            _drop(self._open, opened)
            _drop(self._served, served)

    def statistics(self) -> ServerStatistics:
        """Return the counters, all read at the same moment."""
        with self._lock:
            return ServerStatistics(self._total, len(self._admitted), self._refused.copy())

    def trusts(self, address: str) -> bool:
        """Return whether an IP address belongs to a trusted proxy.

        Raises ValueError if the address is malformed, unless there are no trusted proxies.
        """
        if not self.trusted_proxies:
            return False
        ip = ipaddress.ip_address(address.partition("%")[0])
        return any(ip in network for network in self.trusted_proxies)

    def forwarded_for(self, headers: Iterable[str]) -> str:
        """Return the client's IP address from X-Forwarded-For; "" if there is none.

        headers: the values of the header in a request from a trusted proxy. Each proxy appends the
        address that its request came from. So the last address that is not a trusted proxy's is the
        client's. Earlier addresses were sent by the client, and may be forged.
        """
        value = ",".join(headers)
        for _ in range(_MAX_PROXIES + 1):
            value, _, entry = value.rpartition(",")
            try:
                address = _address(entry)
            except ValueError:
                if entry.strip(" \t"):
                    self.log(
                        "http: no address in X-Forwarded-For of a proxy: %s", ascii(entry[:100])
                    )
                break
            if not self.trusts(address):
                return address
        return ""

    def refuse(self, request: socket.socket) -> None:
        """Answer a connection with 503. Never blocks and never raises OSError."""
        request = nonblocking(request)
        with suppress(OSError):
            request.send(_REFUSAL, socket.MSG_DONTWAIT)
            request.shutdown(socket.SHUT_WR)
            # If the request were left unread, closing the socket could reset the connection before
            # the client gets the answer.
            request.recv(65536, socket.MSG_DONTWAIT)

    def refused(self, refusal: Refusal) -> None:
        """Count a refused connection and log the reason."""
        with self._lock:
            self._refused[refusal.reason] += 1
        self.log("http: refused a connection (503): %s", refusal.text)

    def log(self, message: str, text: str) -> None:
        """Log a message, unless the same message was logged within the last second.

        message: a constant format with a %s for the text.
        """
        if time.monotonic() - self._logged_at.get(message, -math.inf) >= 1.0:
            self._logged_at[message] = time.monotonic()
            log.info(message, text)


def _too_many(count: int, address: str) -> Refusal:
    return Refusal("max_connections_per_address", f"{count} of {address} are being served")


def _drop(counter: Counter[str], address: str | None) -> None:
    """Subtract one from an address's count, and remove a count of zero."""
    if address is not None:
        counter[address] -= 1
        if not counter[address]:
            del counter[address]


def _address(entry: str) -> str:
    """Parse an entry of X-Forwarded-For. Raises ValueError if it is not an IP address."""
    text = entry.strip(" \t")[:_ADDRESS_LENGTH]
    with_port = _WITH_PORT.fullmatch(text)
    if with_port and with_port["v6"]:
        return unmapped(str(ipaddress.IPv6Address(with_port["v6"])))
    if with_port:
        text = with_port["v4"]
    # Drop the zone (RFC 4007). It may be any string, and has no meaning on another machine.
    return unmapped(str(ipaddress.ip_address(text.partition("%")[0])))

"""Admission: decides which connections are served and refuses the others.

An accepted connection is admitted unless too many are open, and counts until it is closed. The
limit per client address counts a connection only after its request has been read, for two reasons.
Only then is the client of a trusted proxy known. And browsers open connections in advance, which
stay idle until needed: if these counted, a reload of a page could be refused. But an address may
have only six more open connections than its limit; otherwise idle connections could use up the
total limit. net/http has no such limits.
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

# The answer to a refused connection. It is a constant because memory may be short.
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

# How many idle connections an address may have in addition to its limit: as many as browsers open
# to one server. A request over the limit gets 503.
_SPARE: Final = 6

# How many trusted proxies a request may pass. X-Forwarded-For could list a megabyte of them.
_MAX_PROXIES: Final = 100

# One character more than the longest IP address with brackets and a port: anything longer is not an
# address.
_ADDRESS_LENGTH: Final = 54

# An address with a port, as some proxies write it: `192.0.2.7:5000`, `[2001:db8::7]:5000`.
# Brackets may also appear without a port.
_WITH_PORT: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)(?:%[^]]*)?\]|(?P<v4>[0-9.]+)(?=:))(?::[0-9]{1,5})?"
)


class Refusal(NamedTuple):
    """The reason for refusing a connection."""

    #: A key of `ServerStatistics.refused`.
    reason: str
    #: The same reason for the log, with numbers.
    text: str


@dataclass(frozen=True)
class ServerStatistics:
    """Counters of a server."""

    #: Connections served so far, including open ones.
    served: int
    #: Connections that are open now, including those without a request.
    open: int
    #: Connections and requests refused with 503, by reason. A reason that has not occurred has the
    #: value 0.
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
        # How many connections were admitted, and how many refused, by reason.
        self._total = 0
        self._refused = dict.fromkeys(_REASONS, 0)
        # The admitted connections, each with the addresses that it counts for in _open and _served.
        self._admitted: dict[socket.socket, tuple[str | None, str | None]] = {}
        # How many connections each address has open, including idle ones, and how many requests of
        # each client's address are being served. Both are empty without a limit.
        self._open: Counter[str] = Counter()
        self._served: Counter[str] = Counter()
        # When a message was last logged, on the monotonic clock. There is no lock: at worst, two
        # threads log a line each.
        self._logged_at: dict[str, float] = {}

    def admit(self, request: socket.socket, address: str) -> Refusal | None:
        """Admit a connection from this IP address until `release`, or return why it is refused."""
        most, limit = self.max_connections, self.max_connections_per_address
        # A proxy's connections belong to many clients.
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
        """Count a request for its client's IP address, or return why the request is refused.

        request: an admitted connection. Call once for each.
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
        """Stop counting a connection. Does nothing if it was never admitted."""
        with self._lock:
            opened, served = self._admitted.pop(request, (None, None))
            _drop(self._open, opened)
            _drop(self._served, served)

    def statistics(self) -> ServerStatistics:
        """Return the counts, all from the same moment."""
        with self._lock:
            return ServerStatistics(self._total, len(self._admitted), self._refused.copy())

    def trusts(self, address: str) -> bool:
        """Return whether this IP address is a trusted proxy's. Raises ValueError for other text."""
        if not self.trusted_proxies:
            return False
        ip = ipaddress.ip_address(address.partition("%")[0])
        return any(ip in network for network in self.trusted_proxies)

    def forwarded_for(self, headers: Iterable[str]) -> str:
        """Return the client's IP address from a trusted proxy's X-Forwarded-For, or "".

        Each proxy appends the address of its own client. So the client is the last address that is
        not a trusted proxy's; everything before it came from that client and may be false.
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
            # If a socket is closed with unread input, the system resets the connection, and the
            # client might not get the answer.
            request.recv(65536, socket.MSG_DONTWAIT)

    def refused(self, refusal: Refusal) -> None:
        """Count a refused connection, and log the reason, at most once per second."""
        with self._lock:
            self._refused[refusal.reason] += 1
        self.log("http: refused a connection (503): %s", refusal.text)

    def log(self, message: str, text: str) -> None:
        """Log a message that may occur many times per second, at most once per second.

        message: a constant format with a %s for the text.
        """
        if time.monotonic() - self._logged_at.get(message, -math.inf) >= 1.0:
            self._logged_at[message] = time.monotonic()
            log.info(message, text)


def _too_many(count: int, address: str) -> Refusal:
    return Refusal("max_connections_per_address", f"{count} of {address} are being served")


def _drop(counter: Counter[str], address: str | None) -> None:
    """Subtract one and remove a count of zero."""
    if address is not None:
        counter[address] -= 1
        if not counter[address]:
            del counter[address]


def _address(entry: str) -> str:
    """Return the IP address in an entry of X-Forwarded-For. Raises ValueError if there is none."""
    text = entry.strip(" \t")[:_ADDRESS_LENGTH]
    with_port = _WITH_PORT.fullmatch(text)
    if with_port and with_port["v6"]:
        return unmapped(str(ipaddress.IPv6Address(with_port["v6"])))
    if with_port:
        text = with_port["v4"]
    # A zone (RFC 4007) can be any text and has no meaning on another machine.
    return unmapped(str(ipaddress.ip_address(text.partition("%")[0])))

"""Addresses in Go's notation: `host:port`, `:port`, `[::1]:port` (Go: net.Listen)."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import ExitStack, suppress
from typing import Final

__all__ = [
    "is_ipv6",
    "join_host_port",
    "listen",
    "listen_shared",
    "next_port",
    "page_url",
    "split_host_port",
    "unmapped",
]

# How many connections may wait to be accepted. The system may have a lower limit.
_BACKLOG: Final = 4096


def listen(addr: str) -> socket.socket:
    """Open a TCP socket that listens on an address, `host:port`.

    An empty host means all interfaces, with IPv4 and IPv6 if the system has both. If a host name
    has more than one address, the socket listens on one of them, preferably an IPv4 address. An
    IPv4-mapped IPv6 address counts as IPv4. Port 0 or an empty port means any free port. Unlike in
    Go, the port cannot be the name of a service.

    Raises ValueError if the address is malformed, and OSError if the system cannot listen on it.
    Both messages name the address. Thread: any.
    """
    host, port = split_host_port(addr)
    try:
        if host:
            found = socket.getaddrinfo(unmapped(host), port, type=socket.SOCK_STREAM)
            family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
            return socket.create_server(address, family=family, backlog=_BACKLOG)
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        return socket.create_server(("", port), backlog=_BACKLOG)  # pragma: no cover - no IPv6
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise OSError(error.errno, f"listen tcp {addr}: {reason}") from error


def listen_shared(addr: str, count: int) -> list[socket.socket]:
    """Open `count` sockets that listen on the same address. Linux spreads connections over them.

    Like `listen`, this fails if another program already listens on the address. With SO_REUSEPORT
    from the start, the first socket could silently share the port with another program of the same
    user. So it gets the option only after it listens.

    Raises the same exceptions as `listen`. Thread: any.
    """
    with ExitStack() as stack:
        first = stack.enter_context(listen(addr))
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        address, family = first.getsockname(), first.family
        dualstack = family == socket.AF_INET6 and not first.getsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
        )
        sockets = [first]
        for _ in range(count - 1):
            other = socket.create_server(
                address, family=family, backlog=_BACKLOG, reuse_port=True, dualstack_ipv6=dualstack
            )
            sockets.append(stack.enter_context(other))
        stack.pop_all()  # they stay open
    return sockets


def next_port(addr: str, number: int) -> str:
    """Add `number` to the port of an address. Port 0, which means any free port, stays 0.

    Raises ValueError if the address is malformed. Only `listen` reports a port that is too high.
    Thread: any.
    """
    _, port = split_host_port(addr)
    return f"{addr.rpartition(':')[0]}:{port + number if port else 0}"


def split_host_port(addr: str) -> tuple[str, int]:
    """Split `host:port` (Go: net.SplitHostPort). The host may be empty. An empty port becomes 0.

    Raises ValueError if the address is malformed. Does not look the host up. Thread: any.
    """
    host, colon, port = addr.rpartition(":")
    port = port or "0"
    if not colon or not (port.isascii() and port.isdigit()) or not addr.isprintable():
        raise ValueError(f"address {addr!r} is not host:port, as in :8080 or localhost:8080")
    if len(port) > 5 or int(port) > 65535:
        raise ValueError(f"address {addr!r}: the port is over 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif is_ipv6(host):
        raise ValueError(f"address {addr!r}: an IPv6 address is written [{host}]:{port}")
    if any(char in host for char in "[]") or (":" in host and not is_ipv6(host)):
        raise ValueError(f"address {addr!r} is not host:port, as in :8080 or [::1]:8080")
    if not _is_host(host):
        raise ValueError(f"address {addr!r}: {host!r} is not the name of a host")
    return host, int(port)


def _is_host(host: str) -> bool:
    """Return whether a string is empty or could be a host name."""
    # The length is checked first, because encoding a long string is slow. The C library accepts "*"
    # but treats it as this machine only, not as all interfaces.
    if len(host) > 253 or any(char in " /?#@*" for char in host):
        return False
    with suppress(UnicodeError):
        host.encode("idna")
        return True
    return False


def is_ipv6(host: str) -> bool:
    """Return whether the host is an IPv6 address without brackets."""
    with suppress(ValueError):
        return bool(ipaddress.IPv6Address(host))
    return False


def unmapped(host: str) -> str:
    """Convert an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) to IPv4.

    Other hosts are returned unchanged. A socket for IPv6 and IPv4 reports such addresses for IPv4
    clients. Raises ValueError if the host contains a colon but is not an IP address.
    """
    if ":" not in host:
        return host
    mapped = ipaddress.IPv6Address(host.partition("%")[0]).ipv4_mapped
    return str(mapped) if mapped else host


def join_host_port(host: str, port: int) -> str:
    """Join an IP address and a port to `host:port` (Go: net.JoinHostPort)."""
    host = unmapped(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def page_url(host: str, port: int) -> str:
    """Return the URL at which a browser on this machine finds a server.

    host: the IP address that the server listens on.
    """
    shown = f"localhost:{port}" if host in ("::", "0.0.0.0") else join_host_port(host, port)
    return f"http://{shown}/"

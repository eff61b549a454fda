"""Addresses as Go writes them: `host:port`, `:port`, `[::1]:port` (Go: net.Listen)."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from typing import Final

__all__ = ["is_ipv6", "join_host_port", "listen", "unmapped"]

# Connections that the system completes before they are accepted. The system cuts this to its own
# limit.
_BACKLOG: Final = 4096


def listen(addr: str) -> socket.socket:
    """Open a listening TCP socket at an address.

    An empty host is every interface, by IPv6 and IPv4 in one socket where the system has both. Port
    0, like a colon with no port, is a free port. A port is a number; Go knows names of services,
    too. A name that has several addresses is listened on at one of them, preferably IPv4.

    Raises ValueError if the text is no address, OSError if nothing can listen there. Both have a
    text that names the address.
    """
    host, port = _split_host_port(addr)
    try:
        if host:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
            return socket.create_server(address, family=family, backlog=_BACKLOG)
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        return socket.create_server(("", port), backlog=_BACKLOG)  # pragma: no cover - no IPv6
    except UnicodeError as error:
        raise ValueError(f"listen tcp {addr}: no such host") from error
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise OSError(error.errno, f"listen tcp {addr}: {reason}") from error


def _split_host_port(addr: str) -> tuple[str, int]:
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
    return host, int(port)


def is_ipv6(host: str) -> bool:
    """Whether the text is an IPv6 address, without brackets."""
    with suppress(ValueError):
        return bool(ipaddress.IPv6Address(host))
    return False


def unmapped(host: str) -> str:
    """The IP address of a peer: IPv4 if it came by IPv4 to a socket for both."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return host


def join_host_port(host: str, port: int) -> str:
    """An IP address and a port as one text (Go: net.JoinHostPort)."""
    host = unmapped(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

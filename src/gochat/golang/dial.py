"""Addresses and connection errors, for `gochat talk` and `gochat bench` (Go: websocket.Dialer)."""

from __future__ import annotations

import argparse
import base64
import os
import re
import socket
import ssl
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

__all__ = ["Address", "add_url", "address", "reason"]

_PORTS: Final = {"ws": 80, "wss": 443}
_SCHEMES: Final = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}


class Address(NamedTuple):
    """The address of a server."""

    tls: bool
    host: str
    port: int
    #: Host and port, as in the Host header.
    authority: str
    #: Path and query.
    target: str
    #: `user:password` for HTTP basic authentication, or empty.
    login: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse ws://HOST:PORT/PATH, the page's http:// URL, HOST:PORT or :PORT.

        - wss:// and https:// use TLS.
        - The host defaults to localhost. USER:PASSWORD@ may precede it.
        - A path that is empty or ends in a slash is the page's path, to which `ws` is added, or
          `ws/ROOM` if the query contains room=ROOM. After ws:// and wss://, this applies only to an
          empty path and to /.

        Raises ValueError.
        """
        scheme, mark, rest = text.partition("://")
        if not mark:
            scheme, rest = "http", text
        kind = _SCHEMES.get(scheme.lower(), "")
        if not kind or not text.isprintable() or " " in text or rest.startswith("/"):
            raise ValueError("not an address")
        rest = re.sub(r"^([^/?#]*@)?:", r"\1localhost:", rest)
        parts = urlsplit(f"{kind}://{rest}")
        host = parts.hostname or ""
        if not host or len(host) > 253 or parts.port == 0 or parts.netloc.endswith(":"):
            raise ValueError("not an address")
        port = parts.port or _PORTS[kind]
        # `encode` may raise UnicodeError, which is a ValueError.
        bare = f"[{host}]" if ":" in host else host.encode("idna").decode()
        authority = bare if port == _PORTS[kind] else f"{bare}:{port}"
        path = parts.path if parts.path.strip("/") else "/"
        target = quote(path, safe="/%:@!$&'()*+,;=~")
        query = parts.query
        if path == "/" or (path.endswith("/") and scheme.lower() not in _PORTS):
            rooms = [value for name, value in parse_qsl(query) if name == "room"]
            target += f"ws/{quote(rooms[0], safe='')}" if rooms else "ws"
            query = "&".join(each for each in query.split("&") if not each.startswith("room="))
        if query:
            target += "?" + quote(query, safe="/%:@!$&'()*+,;=~?")
        login = ""
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return cls(kind == "wss", host, port, authority, target, login)

    @property
    def url(self) -> str:
        """The WebSocket URL, without the login."""
        return f"{'wss' if self.tls else 'ws'}://{self.authority}{self.target}"

    @property
    def authorization(self) -> list[tuple[str, str]]:
        """The Authorization header (RFC 7617), as a list; empty without a login."""
        if not self.login:
            return []
        return [("Authorization", f"Basic {base64.b64encode(self.login.encode()).decode()}")]

    def context(self) -> ssl.SSLContext | None:
        """Return a TLS context that checks the server's certificate; None without TLS."""
        return ssl.create_default_context() if self.tls else None


def add_url(parser: argparse.ArgumentParser) -> None:
    """Add the argument `url`, an Address, to a command's parser."""
    parser.add_argument(
        "url",
        type=address,
        metavar="URL",
        help="the server, as in :8080, chat.example.org or wss://chat.example.org/ws",
    )


def address(text: str) -> Address:
    """Convert an argument to an Address.

    Raises ValueError with a message that does not contain the password.
    """
    try:
        return Address.parse(text)
    except ValueError:
        _, at, rest = text.rpartition("@")
        shown = f"...@{rest}" if at else text
        raise ValueError(
            f"{shown!r} is not an address such as :8080, chat.example.org or"
            " wss://chat.example.org/ws"
        ) from None


def reason(error: OSError) -> str:
    """Return a short description of why a connection failed.

    Removes the addresses that asyncio adds. If asyncio has joined several errors, describes only
    the first.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason}"
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    found = re.search(r"\[Errno (\d+)\]", str(error))
    return os.strerror(int(found[1])) if found else str(error)

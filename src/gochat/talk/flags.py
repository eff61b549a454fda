"""The flags of `gochat talk`, and what they take: addresses and names."""

from __future__ import annotations

import argparse
import re
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from ..golang.flag import seconds

if TYPE_CHECKING:
    from ..golang.flag import Parser

__all__ = ["Address", "add_talk_flags", "name"]

# As on the page, in characters.
_LONGEST_NAME: Final = 40

_PORTS: Final = {"ws": 80, "wss": 443}
_SCHEMES: Final = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}


class Address(NamedTuple):
    """Where a server is."""

    tls: bool
    host: str
    port: int
    #: The host and the port, as in the header Host.
    authority: str
    #: The path and the query.
    target: str
    #: `user:password`, for HTTP's basic authentication; empty for none.
    login: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse ws://HOST:PORT/PATH, or the page's http:// URL, or HOST:PORT, or :PORT.

        wss:// and https:// are over TLS. No path is /ws, and no host is localhost. USER:PASSWORD@
        may stand before the host. Raises ValueError.
        """
        scheme, mark, rest = text.partition("://")
        if not mark:
            scheme, rest = "ws", text
        kind = _SCHEMES.get(scheme.lower(), "")
        if not kind or not text.isprintable() or " " in text or rest.startswith("/"):
            raise ValueError("not an address")
        rest = re.sub(r"^([^/?#]*@)?:", r"\1localhost:", rest)
        parts = urlsplit(f"{kind}://{rest}")
        host = parts.hostname or ""
        if not host or len(host) > 253 or parts.port == 0 or parts.netloc.endswith(":"):
            raise ValueError("not an address")
        port = parts.port or _PORTS[kind]
        # A UnicodeError is a ValueError.
        bare = f"[{host}]" if ":" in host else host.encode("idna").decode()
        authority = bare if port == _PORTS[kind] else f"{bare}:{port}"
        target = quote(parts.path if parts.path.strip("/") else "/ws", safe="/%:@!$&'()*+,;=~")
        if parts.query:
            target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?")
        login = ""
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return cls(kind == "wss", host, port, authority, target, login)


def address(text: str) -> Address:
    """A flag's value: a server. The error does not repeat a password."""
    try:
        return Address.parse(text)
    except ValueError:
        _, at, rest = text.rpartition("@")
        shown = f"...@{rest}" if at else text
        raise argparse.ArgumentTypeError(
            f"{shown!r} is not an address such as :8080, chat.example.org or"
            " wss://chat.example.org/ws"
        ) from None


def name(text: str) -> str:
    """A name, as on the page, without spaces around it. Raises ValueError."""
    short = text.strip()
    if not 0 < len(short) <= _LONGEST_NAME or not short.isprintable() or ": " in short:
        raise ValueError(
            f"{text[:99]!r} is not a name of 1 to {_LONGEST_NAME} characters without ': ' in it"
        )
    return short


def name_flag(text: str) -> str:
    """A flag's value: a name. Raises ArgumentTypeError."""
    try:
        return name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_talk_flags(talk: Parser) -> None:
    """Add the flags of `gochat talk`."""
    talk.description = (
        "Talks in a chat, from a terminal; /help says what can be typed there. From a pipe or a"
        " file, each line is a message."
    )
    talk.add_argument(
        "url",
        type=address,
        metavar="URL",
        help="the server, as in :8080, chat.example.org or wss://chat.example.org/ws",
    )
    talk.add_flag(
        "name", name_flag, None, "name to put before each message (default: none)", "NAME"
    )
    talk.add_argument(
        "--frames",
        "-frames",
        action="store_true",
        help="print each frame: the time, < from the server or > to it, the opcode, FIN, the"
        " length, the mask, and how many messages are joined in it",
    )
    for flag, kind, value, text in (
        ("connect-timeout", seconds, 10.0, "seconds that a connection may take to be made"),
        (
            "ping-period",
            seconds,
            30.0,
            "seconds of silence after which the server is sent a ping; after the same time once"
            " more, the connection counts as lost",
        ),
        (
            "wait",
            partial(seconds, zero=True),
            3.0,
            "seconds to wait, at the end of a pipe, for what was sent to come back",
        ),
    ):
        talk.add_flag(flag, kind, value, text, "S")
    talk.set_defaults(error=talk.error)

"""The flags of `gochat talk`, and the form of a name."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Final

from ..golang.dial import address
from ..golang.flag import seconds

if TYPE_CHECKING:
    from ..golang.flag import Parser

__all__ = ["add_talk_flags", "name"]

# As on the page, in characters.
_LONGEST_NAME: Final = 40


def name(text: str) -> str:
    """Return a name, as on the page, without spaces around it. Raises ArgumentTypeError."""
    short = text.strip()
    if not 0 < len(short) <= _LONGEST_NAME or not short.isprintable() or ": " in short:
        raise argparse.ArgumentTypeError(
            f"{text[:99]!r} is not a name of 1 to {_LONGEST_NAME} characters without ': ' in it"
        )
    return short


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
    talk.add_flag("name", name, None, "name to put before each message", "NAME")
    talk.add_option(
        "frames",
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

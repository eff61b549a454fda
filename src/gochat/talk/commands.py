"""Runs a line typed at a terminal as a command, or sends it."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import AsyncGenerator
from contextlib import aclosing

from .session import Session, name, note, show

__all__ = ["converse"]

_HELP = """\
/name NAME  use NAME from now on; /name alone shows the current name
/history    show past messages again, with their times
/quit       end, like Ctrl-D
/help       show this
Any other line is sent. To send a line that begins with /, put a space first."""


async def converse(lines: AsyncGenerator[str, None], session: Session) -> int:
    """Run or send each line. Returns the exit status.

    The status is 0 after /quit or the last line, and 130 after Ctrl-C. If this coroutine is
    canceled, it restores the terminal.
    """
    try:
        async with aclosing(lines):
            async for line in lines:
                if not _go_on(line, session):
                    break
    except KeyboardInterrupt:
        return 130
    return 0


def _go_on(line: str, session: Session) -> bool:
    """Run or send a line. Returns False after /quit."""
    # A line that begins with a space is always a message. Other whitespace does not count, because
    # a pasted line may begin with a newline or a tab.
    words = line.rstrip() if line.startswith(" ") else line.strip()
    word, _, rest = words.partition(" ")
    if word == "/quit":
        return False
    if word == "/help":
        for each in _HELP.splitlines():
            note(each)
    elif word == "/history":
        for clock, message in session.history:
            show(f"{clock} {message}")
    elif word == "/name":
        _rename(session, rest.strip())
    elif word.startswith("/"):
        note(
            f"not sent: there is no command {word[:40]}; there are /name, /history, /quit"
            " and /help. Put a space first to send the line as it is"
        )
    else:
        session.say(line)
    return True


def _rename(session: Session, text: str) -> None:
    if text:
        try:
            session.name = name(text)
        except ArgumentTypeError as error:
            note(str(error))
            return
    note(f"your name is {session.name}" if session.name else "you have no name")

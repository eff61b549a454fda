"""The command `gochat talk`, its flags, and what can be typed at a terminal."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from io import TextIOWrapper
from typing import cast

from ..golang.dial import add_url
from ..golang.flag import Parser, seconds
from .connection import dial
from .frames import Describer, Frame
from .lines import read_lines
from .session import Session, name, note, show

__all__ = ["add_flags", "talk"]

_HELP = """\
/name NAME  use NAME from now on; /name alone shows the current name
/history    show past messages again, with their times
/quit       end, like Ctrl-D
/help       show this
Any other line is sent. To send a line that begins with /, put a space first."""


def add_flags(parser: Parser) -> None:
    """Add the flags of `gochat talk`."""
    parser.set_defaults(run=talk)
    parser.description = (
        "Talks in a chat, from a terminal; /help says what can be typed there. From a pipe or a"
        " file, each line is a message."
    )
    add_url(parser)
    parser.add_flag("name", name, None, "name to put before each message", "NAME")
    parser.add_option(
        "frames",
        action="store_true",
        help="print a line for each frame: the time, < for received or > for sent, the opcode, FIN,"
        " the length, the mask, and how many messages are joined in the frame",
    )
    parser.add_flag("connect-timeout", seconds, 10.0, "seconds allowed to connect", "S")
    parser.add_flag(
        "ping-period",
        seconds,
        30.0,
        "seconds of silence before a ping to the server; after the same time again, the"
        " connection counts as lost",
        "S",
    )
    parser.add_flag(
        "wait",
        partial(seconds, zero=True),
        3.0,
        "seconds to wait for sent messages to return after the input from a pipe has ended",
        "S",
    )


def talk(args: argparse.Namespace) -> None:
    """Talk until the input ends or a signal arrives.

    After a signal, exits with status 128 plus the signal's number. If input from a pipe may be
    lost, prints a line that says so, and exits with status 1. Raises ConnectionError if the first
    connection fails, and OSError if the input cannot be read or the output cannot be written.
    Thread: the main one.
    """
    if sys.stdin is None or sys.stdout is None:
        raise OSError("stdin and stdout must be open")
    # If the terminal's encoding lacks a character, print the character as a Python escape.
    cast(TextIOWrapper, sys.stdout).reconfigure(errors="backslashreplace")
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        speak = partial(_type, args.url.authority) if at_terminal else partial(_send, args.wait)
        status = asyncio.run(_talk(args, speak))
    except KeyboardInterrupt:  # before the signal handlers were set
        status = 130
    except BrokenPipeError:
        # At exit, Python flushes stdout again, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
    if status:
        raise SystemExit(status)


async def _talk(args: argparse.Namespace, speak: Callable[[Session], Awaitable[int]]) -> int:
    """Talk and return the exit status. speak: sends the input and returns an exit status."""
    describers = {arrow: Describer(arrow) for arrow in "<>"}

    def trace(arrow: str, frame: Frame) -> None:
        if args.frames:
            show(describers[arrow].line(frame))

    session = Session(
        args.name or "", lambda: dial(args.url, args.connect_timeout, args.ping_period, trace)
    )
    connection = await session.dial()
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    signalled = asyncio.create_task(signals.get())
    talking = asyncio.ensure_future(speak(session))  # first, because it reports the connection
    running = asyncio.create_task(session.run(connection))
    await asyncio.wait({running, talking, signalled}, return_when=asyncio.FIRST_COMPLETED)
    talking.cancel()
    await asyncio.wait({talking})
    certain = await session.end(running)
    if signalled.done():
        return 128 + signalled.result()
    # At a terminal, the user has seen which messages may be lost, so the status is 0.
    return talking.result() or int(not certain and not sys.stdin.isatty())


async def _type(server: str, session: Session) -> int:
    """Handle typed lines, with a line editor if one is installed. Returns the exit status.

    The status is 0 after /quit or the last line, and 130 after Ctrl-C. If this coroutine is
    canceled, it restores the terminal.
    """
    where = f"connected to {server}; /help says what can be typed"
    try:
        from .terminal import edit_lines  # noqa: PLC0415 - a package that a pipe does not need
    except ImportError:
        note(f"{where}; pip install 'gochat[talk]' brings a line editor")
        lines = read_lines(sys.stdin.fileno())
    else:
        note(where)
        lines = edit_lines(session)
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
    # A line that begins with a space is always a message. Other leading whitespace is ignored,
    # because a pasted line may begin with a newline or a tab.
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
        except ValueError as error:
            note(str(error))
            return
    note(f"your name is {session.name}" if session.name else "you have no name")


async def _send(wait: float, session: Session) -> int:
    """Send the lines of stdin, then wait up to `wait` seconds for them to come back. Returns 0."""
    async for line in read_lines(sys.stdin.fileno()):
        await session.drain()
        session.say(line)
    with suppress(TimeoutError):
        await asyncio.wait_for(session.settled.wait(), wait)
    return 0

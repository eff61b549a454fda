"""A talk, which reconnects after it loses a connection."""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TextIO

from .connection import Connection, LostError

__all__ = ["Session", "name", "note", "show"]

# The maximum length of a name, in characters. The page has the same limit.
_LONGEST_NAME: Final = 40

# How many messages `/history` shows.
_HISTORY: Final = 500
# How many messages are kept while there is no connection.
_KEPT: Final = 100

# How many sent messages are remembered until they come back.
_UNCONFIRMED: Final = 500

# The maximum number of messages shown in a note about lost messages.
_SHOWN: Final = 5

# How many times the pause between attempts to connect can double. The first pause is at most 1 s.
_DOUBLINGS: Final = 5

# How long the server may take to answer the close frame, in seconds.
_CLOSE_WAIT: Final = 1.0

# Characters that affect a terminal: control characters, Unicode line ends, surrogates, and marks
# that change the direction of text.
_HARMFUL: Final = re.compile(
    "[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def show(text: str, file: TextIO | None = None) -> None:
    """Print a line, with characters that affect a terminal escaped.

    file: None for stdout. Raises OSError if the output cannot be written.
    """
    print(_HARMFUL.sub(lambda found: repr(found[0])[1:-1], text), file=file, flush=True)


def note(text: str) -> None:
    """Print a line about the talk to stderr, escaped as in `show`."""
    show(f"gochat: {text}", sys.stderr)


def name(text: str) -> str:
    """Return a valid name, stripped. The page has the same rules. Raises ValueError."""
    short = text.strip()
    if not 0 < len(short) <= _LONGEST_NAME or not short.isprintable() or ": " in short:
        raise ValueError(
            f"{text[:99]!r} is not a name of 1 to {_LONGEST_NAME} characters without ': ' in it"
        )
    return short


def _clean(text: str) -> str:
    """Return a text as a single line of valid Unicode, without surrounding spaces."""
    text = re.sub("[\ud800-\udfff]", "\ufffd", text)
    return re.sub("[\r\n\x85]", " ", text).strip()


class Session:
    """A talk. Thread: the event loop's.

    name: put before each message, as on the page; "" for no name. dial: makes a connection, or
    raises LostError.
    """

    def __init__(self, name: str, dial: Callable[[], Awaitable[Connection]]) -> None:
        self.name = name
        self.dial = dial
        #: The latest messages, each with the time when it arrived.
        self.history: deque[tuple[str, str]] = deque(maxlen=_HISTORY)
        #: The connection; None if there is none.
        self.connection: Connection | None = None
        #: Set while there is a connection.
        self.online = asyncio.Event()
        #: Set while no message is waiting to be sent or to come back from the server.
        self.settled = asyncio.Event()
        self.settled.set()
        # Messages that wait for a connection.
        self._kept: deque[str] = deque()
        # Messages that were sent but have not come back.
        self._unconfirmed: deque[str] = deque(maxlen=_UNCONFIRMED)
        # Whether a message may have been lost.
        self._lost = False
        self._ending = False

    def say(self, text: str) -> None:
        """Send a message. If there is no connection, keep it, unless too many are kept already."""
        text = _clean(text)
        if not text:
            return
        text = f"{self.name}: {text}" if self.name else text
        if self.connection:
            self._send(self.connection, text)
        elif len(self._kept) < _KEPT:
            self._kept.append(text)
            note(f"not connected, kept for later: {text}")
        else:
            note(f"not connected, and {_KEPT} messages are kept already, so this is lost: {text}")
            self._lost = True
        self._look_whether_settled()

    async def drain(self) -> None:
        """Wait until all messages have been sent and there is room for more."""
        if self._kept:
            await self.online.wait()
        if self.connection:
            await self.connection.drain()

    async def run(self, connection: Connection) -> bool:
        """Read messages, and reconnect after each lost connection, until `end` is called.

        connection: the first connection. Returns whether the server has answered the close frame,
        and so has read everything sent before it. Raises OSError if messages cannot be printed.
        """
        attempts = 0
        while True:
            began = time.monotonic()
            reason = await self._read(connection)
            if self._ending:
                return not reason
            # Each second that the connection lasted undoes one doubling of the pause.
            attempts = max(0, attempts - int(time.monotonic() - began))
            while True:
                # Random, so that the clients of a restarted server do not all reconnect at the same
                # time.
                pause = 2 ** min(attempts, _DOUBLINGS) * random.uniform(0.5, 1)
                attempts += 1
                note(f"{reason}; trying again in {pause:.1f} s")
                self._give_up()
                await asyncio.sleep(pause)
                try:
                    connection = await self.dial()
                except LostError as error:
                    reason = str(error)
                else:
                    break
            note("connected again; what others have said meanwhile is not shown")

    async def _read(self, connection: Connection) -> str:
        """Use a connection until it ends. Returns why it was lost, or "" after a regular close."""
        self.connection = connection
        self.online.set()
        while self._kept:
            self._send(connection, self._kept.popleft())
        try:
            while (messages := await connection.read()) is not None:
                self._receive(messages)
        except LostError as error:
            return str(error)
        finally:
            self.connection = None
            self.online.clear()
            connection.end()
        return ""

    def _send(self, connection: Connection, text: str) -> None:
        self._unconfirmed.append(text)
        connection.write(text)

    def _receive(self, messages: Iterable[str]) -> None:
        clock = time.strftime("%H:%M:%S")
        for message in messages:
            self.history.append((clock, message))
            show(message)
            # The server may have put a name before the message. Messages come back in the order in
            # which they were sent, so this message also settles all earlier ones.
            for i, text in enumerate(self._unconfirmed):
                if message.endswith(text):
                    for _ in range(i + 1):
                        self._unconfirmed.popleft()
                    break
        self._look_whether_settled()

    def _look_whether_settled(self) -> None:
        if self._kept or self._unconfirmed:
            self.settled.clear()
        else:
            self.settled.set()

    def _give_up(self) -> None:
        """Report the messages that have not come back, because they may be lost."""
        if self._unconfirmed:
            last = " / ".join(list(self._unconfirmed)[-_SHOWN:])
            note(f"{_count(self._unconfirmed)} not come back and may be lost: {last}")
            self._unconfirmed.clear()
            self._lost = True
        self._look_whether_settled()

    async def end(self, running: asyncio.Task[bool]) -> bool:
        """Disconnect. Returns whether it is certain that the server has read everything.

        running: the task of `run`, which this method ends. Raises what `run` raises.
        """
        self._ending = True
        if self.connection:
            self.connection.close()
            await asyncio.wait({running}, timeout=_CLOSE_WAIT)
        running.cancel()
        await asyncio.wait({running})
        if running.cancelled() or not running.result():
            self._give_up()
        if self._kept:
            last = " / ".join(list(self._kept)[-_SHOWN:])
            note(f"{_count(self._kept)} not been sent: {last}")
        return not (self._lost or self._kept)


def _count(messages: deque[str]) -> str:
    return "1 message has" if len(messages) == 1 else f"{len(messages)} messages have"

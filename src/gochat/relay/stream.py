"""The stream of Redis or Valkey. Nothing else knows redis-py.

A Stream has one connection, and is for one thread. Nothing is repeated behind its back: redis-py's
own retries would append an entry twice. Every wait is bounded, and looks every quarter of a second
whether it is to end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

__all__ = ["AuthenticationError", "EndedError", "Entry", "Id", "Info", "Stream", "StreamError"]

#: What goes wrong with Redis: it is away, or refuses a command.
StreamError = (RedisError, OSError)

#: The id of an entry: milliseconds and a number within them. Ids only grow.
Id = tuple[int, int]

# How long Redis may take to answer, beyond what it was asked to wait, in seconds.
_ANSWER_WAIT: Final = 3.0

# How often a wait looks whether it is to end, in seconds.
_LOOK: Final = 0.25


class EndedError(Exception):
    """The wait was ended by this side."""


class Entry(NamedTuple):
    """An entry of the stream."""

    id: Id
    #: Who has appended it, the number of its first message, and the messages.
    process: bytes
    first: int
    messages: list[bytes]


class Info(NamedTuple):
    """Where the stream stands."""

    #: The newest id that it has ever given. (0, 0) if there is no stream.
    last: Id
    #: How many entries were ever added, and how many of them are there.
    added: int
    length: int


class Stream:
    """A connection to one stream, made when it is first needed. For one thread.

    url: as redis-py takes it, redis:// or rediss://. key: the stream's. ended: whether a wait is to
    end. Raises ValueError if the URL makes no sense.
    """

    def __init__(self, url: str, key: str, ended: Callable[[], bool]) -> None:
        pool = ConnectionPool.from_url(
            url,
            socket_timeout=_ANSWER_WAIT,
            socket_connect_timeout=_ANSWER_WAIT,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        try:
            self._connection: Any = pool.make_connection()  # whose methods have no types
        except TypeError:
            raise ValueError("the URL of the relay has an option that is not known") from None
        self._key = key
        self._ended = ended

    def close(self) -> None:
        """Close the connection. The next command makes a new one."""
        self._connection.disconnect()

    def append(self, maxlen: int, process: bytes, first: int, messages: Iterable[bytes]) -> Id:
        """Append an entry, whole or not at all; the stream is cut to about so many entries.

        Returns the entry's id. Raises StreamError, after which the entry may be there or not.
        """
        text = b"\n".join(messages)
        fields = (b"p", process, b"n", first, b"m", text)
        return parse_id(self._ask("XADD", self._key, "MAXLEN", "~", maxlen, "*", *fields))

    def read(self, after: Id, count: int, block: float) -> list[Entry]:
        """The next entries behind an id, so many at most; waits for one, in seconds, and may come
        back with none. Raises StreamError.
        """
        milliseconds = int(block * 1000)
        options = ("COUNT", count, "BLOCK", milliseconds, "STREAMS", self._key, text_of(after))
        reply = self._ask("XREAD", *options, wait=block)
        return [entry_of(*item) for item in reply[0][1]] if reply else []

    def info(self) -> Info:
        """Where the stream stands. Raises StreamError."""
        try:
            reply = self._ask("XINFO", "STREAM", self._key)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return Info((0, 0), 0, 0)
        fields: dict[bytes, Any] = dict(zip(reply[::2], reply[1::2], strict=True))
        length = fields[b"length"]
        # Redis counts what was added from version 7 on.
        added = fields.get(b"entries-added", length)
        return Info(parse_id(fields[b"last-generated-id"]), added, length)

    def _ask(self, *command: Any, wait: float = 0.0) -> Any:
        """Send a command and wait for its reply. Raises StreamError, or EndedError."""
        deadline = time.monotonic() + wait + _ANSWER_WAIT
        connection = self._connection
        try:
            connection.send_command(*command, check_health=False)
            while True:
                try:
                    return connection.read_response(
                        disable_decoding=True, timeout=_LOOK, disconnect_on_error=False
                    )
                except RedisTimeoutError:
                    if self._ended():
                        raise EndedError from None
                    if time.monotonic() >= deadline:
                        raise
        except ResponseError:
            raise  # a reply like any other: the connection is in order
        except BaseException:
            connection.disconnect()
            raise


def parse_id(text: bytes) -> Id:
    """An id as Redis writes it."""
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)


def text_of(entry: Id) -> str:
    """An id for Redis."""
    return f"{entry[0]}-{entry[1]}"


def entry_of(entry: bytes, fields: list[bytes]) -> Entry:
    """An entry from a reply; one that no gochat has made has no messages."""
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        messages = named[b"m"].split(b"\n")
        return Entry(parse_id(entry), named[b"p"], int(named[b"n"]), messages)
    except (KeyError, ValueError):
        return Entry(parse_id(entry), b"", 0, [])

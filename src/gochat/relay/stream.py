"""A connection to the Redis or Valkey stream. The only module that imports redis-py.

A Stream never retries a failed command. Redis may have executed the command, so an automatic retry
could append an entry twice without the caller's knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import AuthenticationError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from ..golang import clock
from .entry import Id, parse_id, text_of

__all__ = [
    "AuthenticationError",
    "EndedError",
    "Info",
    "OutOfMemoryError",
    "RefusedError",
    "Stream",
    "StreamError",
]

#: Raised when Redis is unavailable or refuses a command.
StreamError = (RedisError, OSError)

#: Raised when Redis answers that it refuses a command.
RefusedError = ResponseError

# Time allowed for a reply, in addition to the wait that a command asks for, in seconds.
_ANSWER_WAIT: Final = 3.0

# Time between two checks of whether a wait should end, in seconds.
_LOOK: Final = 0.25


class EndedError(Exception):
    """Raised when a wait ends because `ended` returned True."""


class Info(NamedTuple):
    """The state of the stream."""

    #: The highest id that the stream has ever had; (0, 0) if there is no stream.
    last: Id
    #: Number of entries ever added.
    added: int
    #: Number of entries that the stream still contains.
    length: int


class Stream:
    """A connection to one stream, opened by the first command. Used by one thread.

    url: a redis:// or rediss:// URL for redis-py. key: the stream's key. ended: returns whether a
    wait should end. Raises ValueError if the URL is invalid.
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
            self._connection: Any = pool.make_connection()  # its methods have no types
        except TypeError:
            raise ValueError("the URL of the relay has an unknown option") from None
        self._key = key
        self._ended = ended

    def drop(self) -> None:
        """Close the connection. The next command opens a new one, perhaps to another server."""
        self._connection.disconnect()

    def append(self, fields: Sequence[bytes | int], length: int) -> Id:
        """Append an entry and trim the stream to about `length` entries. Returns the entry's id.

        Raises StreamError. The entry may have been appended nevertheless.
        """
        return parse_id(self._ask("XADD", self._key, "MAXLEN", "~", length, "*", *fields))

    def trim(self, length: int) -> int:
        """Keep the newest `length` entries; return how many were removed. Raises StreamError."""
        return int(self._ask("XTRIM", self._key, "MAXLEN", length))

    def read(self, after: Id, count: int, block: float) -> list[tuple[bytes, list[bytes]]]:
        """Return the ids and fields of up to `count` entries that follow the id `after`.

        Waits up to `block` seconds for an entry. Returns an empty list if none arrives. Raises
        StreamError.
        """
        milliseconds = int(block * 1000)
        options = ("COUNT", count, "BLOCK", milliseconds, "STREAMS", self._key, text_of(after))
        reply = self._ask("XREAD", *options, wait=block)
        entries: list[tuple[bytes, list[bytes]]] = reply[0][1] if reply else []
        return entries

    def info(self) -> Info:
        """Return the state of the stream. Raises StreamError."""
        try:
            reply = self._ask("XINFO", "STREAM", self._key)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return Info((0, 0), 0, 0)
        fields: dict[bytes, Any] = dict(zip(reply[::2], reply[1::2], strict=True))
        length = fields[b"length"]
        # Redis has counted the entries ever added only since version 7.
        added = fields.get(b"entries-added", length)
        return Info(parse_id(fields[b"last-generated-id"]), added, length)

    def size(self) -> int:
        """Return the stream's size in bytes, or 0 if there is no stream. Raises StreamError."""
        return self._ask("MEMORY", "USAGE", self._key, "SAMPLES", 0) or 0

    def clock(self) -> Id:
        """Return the server's time as the id of an entry. Raises StreamError."""
        seconds, microseconds = self._ask("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000, 0

    def _ask(self, *command: Any, wait: float = 0.0) -> Any:
        """Send a command and wait for its reply. Raises StreamError or EndedError."""
        connection = self._connection
        try:
            connection.send_command(*command, check_health=False)  # connects first if necessary
            deadline = clock.after(wait + _ANSWER_WAIT)
            while True:
                try:
                    return connection.read_response(
                        disable_decoding=True, timeout=_LOOK, disconnect_on_error=False
                    )
                except RedisTimeoutError:
                    if self._ended():
                        raise EndedError from None
                    if clock.now() >= deadline:
                        raise
        except ResponseError:
            raise  # Redis has replied, so the connection still works
        except BaseException:
            self.drop()
            raise

"""The relay: the hub as clients see it, with other processes behind it.

    read pumps --> relay.broadcast --> relay out --> the stream --> relay in --> hub.broadcast

What a client says goes round by the stream, and so comes to the hub in the stream's one order, also
for the clients of this process. `relay out` appends all that waits as one entry, and waits until
the entry has come back, of which `relay in` tells it. What does not come back is appended again.
`relay in` drops what it has seen before, by process and number, and says what is missing.

`relay out` owns a connection, the numbers, and one batch. It waits for `broadcast`, then for its
batch. It gives up at the deadline of `finish`, and drops what clients say from then on: a read pump
that waited for it could not read its peer's last frames. It ends when `broadcast` is closed and
empty.

`relay in` owns a connection, the position, and the ledger. It waits for an entry, then
for room in `hub.broadcast`. It ends at the end of `join`, or when Redis is away for too long.

`broadcast` holds 64 messages: a read pump waits for room, and so TCP holds its client back.
`hub.broadcast` holds 256: `relay in` waits for room. `_echo` holds 16 numbers, and needs one: there
is one batch on its way, and only what is appended again can come back more than once.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ..golang.channel import AbandonedChannelError, Channel, ClosedChannelError, select
from ..hub import Hub
from .ledger import Ledger
from .stream import AuthenticationError, EndedError, Entry, Id, Stream, StreamError, text_of

__all__ = ["Figures", "Relay", "RelayError"]

log = logging.getLogger("gochat")

# How many messages of this process's clients may wait to be appended.
_BATCH: Final = 64

# How many entries are read at once, and how long a read waits for one, in seconds.
_COUNT: Final = 200
_BLOCK: Final = 1.0

# How long what has been appended may take to come back before it is appended again, in seconds.
_ECHO_WAIT: Final = 2.0

# How long to wait before the next attempt when Redis is away: from, to, in seconds.
_BACKOFF: Final = (0.05, 2.0)

# How long the threads may take when they are told to end, in seconds, and how often one that waits
# looks whether it is told.
_END_WAIT: Final = 5.0
_LOOK: Final = 0.25

# In a busy room a batch is gathered for so long, in seconds: see `Relay._gather`.
_GATHER: Final = 0.001


class RelayError(ConnectionError):
    """The relay cannot begin, or was away for too long."""


class _Broadcast(Channel[bytes]):
    """Where clients send to. When the relay has ended a send fails as a connection does."""

    def send(self, value: bytes) -> None:
        try:
            super().send(value)
        except ClosedChannelError as error:
            raise ConnectionAbortedError("the relay has ended") from error


@dataclass
class Figures:
    """What a relay counts, each by one thread. Any thread may read them."""

    # By relay out.
    entries_out: int = 0
    messages_out: int = 0
    repeated: int = 0
    # By relay in.
    entries_in: int = 0
    doubles: int = 0
    missing: int = 0
    reconnects: int = 0
    #: How far the stream was ahead when that was last asked: in entries, and in seconds of the
    #: server's clock.
    behind: int = 0
    lag: float = 0.0
    #: How long the last batch took to come back, in seconds.
    echo: float = 0.0
    #: How many batches had how many messages, by the bits of the number.
    batches: list[int] = field(default_factory=lambda: [0] * 32)


class Relay:
    """A hub for serve_ws, behind which is the hub of this process, and those of others.

    hub: one that does not run yet. url: of Redis. room: the name of the stream. timeout: how long
    Redis may be away, in seconds. maxlen: about how many entries the stream keeps.

    Raises ValueError if the URL makes no sense.
    """

    def __init__(
        self,
        hub: Hub,
        url: str,
        *,
        room: str = "main",
        timeout: float = 30.0,
        maxlen: int = 100_000,
    ) -> None:
        self.hub: Final = hub
        hub.broadcast = Channel(256)
        # What a client needs of a hub.
        self.register: Final = hub.register
        self.unregister: Final = hub.unregister
        self.broadcast: Final = _Broadcast(_BATCH)

        self.timeout: Final = timeout
        self.figures: Final = Figures()
        #: Why the relay has ended by itself; None until then. Set once, by relay in.
        self.error: RelayError | None = None
        self._maxlen: Final = maxlen
        #: Called once, on `relay in`, when Redis is away for longer than the timeout. Set before
        #: `start`.
        self.lost: Callable[[], object] = lambda: None
        # When relay out gives up, as a point of the monotonic clock. Set by `finish` and `join`.
        self._deadline = math.inf
        # Set once, by `join`: relay in ends.
        self._ending = threading.Event()
        self._out = Stream(url, f"gochat:{room}", self._gives_up)
        self._in = Stream(url, f"gochat:{room}", self._ending.is_set)
        # From relay in to relay out: the number of the last message of this process that has come
        # back.
        self._echo: Channel[int] = Channel(16)
        # Of relay in: where it is, where it began, and when Redis was last heard.
        self._position: Id = (0, 0)
        self._since: Id = (0, 0)
        self._heard = time.monotonic()
        self._connected = False
        # How many entries had ever been added when this side had read them all, and how many it has
        # read since.
        self._added = 0
        self._read = 0
        # What each thread has last said of Redis being away.
        self._said: dict[str, str] = {}
        self._process = b""
        self._ledger = Ledger((0, 0))
        self._threads: list[threading.Thread] = []

    @property
    def farewell(self) -> bytes:
        """What a write pump puts into its close frame."""
        return self.hub.farewell

    @property
    def deaf(self) -> bool:
        """Whether Redis is away. Any thread."""
        return not self._connected or time.monotonic() - self._heard > _BLOCK + 2.0

    # Begin and end: one thread, in this order.

    def start(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Find the stream, and start both threads. The hub may run already.

        stopped: whether the chat is to end before it has begun; then nothing is started. Raises
        RelayError if Redis refuses, does not come within the timeout, or if the system has no more
        threads.
        """
        begin = time.monotonic()
        pauses = backoff()
        while True:
            if stopped():
                return
            try:
                self._position, self._added, _ = self._in.info()
                break
            except StreamError as error:
                refused = isinstance(error, AuthenticationError)
                if refused or time.monotonic() - begin > self.timeout:
                    raise RelayError(f"relay: {error}") from None
                self._say_away("start", error)
            time.sleep(next(pauses))
        self._since = self._position
        self._process = f"{text_of(self._since)}.{os.urandom(6).hex()}".encode()
        self._ledger = Ledger(self._since)
        self._heard = time.monotonic()
        self._connected = True
        for name, run in (("relay out", self._run_out), ("relay in", self._run_in)):
            thread = threading.Thread(target=run, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise RelayError(f"relay: {error}") from None
            self._threads.append(thread)

    def finish(self, deadline: float) -> None:
        """Wait for Redis until the deadline at the longest, and not at all if Redis is away.

        After that, what clients say is dropped, so that no client waits for Redis. For the time in
        which clients are disconnected. deadline: a point of the monotonic clock.
        """
        self._deadline = 0.0 if self.deaf else deadline

    def close(self) -> None:
        """Take no more from clients: a send fails. When the clients have gone; once."""
        self.broadcast.close()

    def join(self, deadline: float) -> None:
        """End: append what is there, if that can be done by the deadline, and read no more.

        After `close`, and while the hub still runs. deadline: a point of the monotonic clock. The
        threads have five seconds more; a thread that has not ended then is named in the log.
        """
        for thread in self._threads[:1]:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._deadline = 0.0
        self._ending.set()
        deadline = time.monotonic() + _END_WAIT
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.error("relay: the thread %r does not end", thread.name)
        self._out.close()
        self._in.close()

    def _gives_up(self) -> bool:
        """Whether relay out is to wait for Redis no longer. Any thread."""
        return time.monotonic() >= self._deadline

    # relay out.

    def _run_out(self) -> None:
        number = 1
        busy = False
        try:
            while True:
                message, ok = self.broadcast.recv()
                if not ok:
                    return
                assert message is not None
                batch = [message, *self.broadcast.drain()]
                busy = self._gather(batch, busy)
                self._append(number, batch)
                number += len(batch)
        except EndedError:
            while self.broadcast.recv()[1]:
                pass

    def _gather(self, batch: list[bytes], busy: bool) -> bool:
        """In a busy room, wait a moment for more to append at once. Whether the room is busy."""
        if busy:
            deadline = time.monotonic() + _GATHER
            while len(batch) < _BATCH:
                _, message, ok = select(self.broadcast, deadline=deadline)
                if not ok:
                    break
                batch += [message, *self.broadcast.drain()]
        return len(batch) > 1

    def _append(self, first: int, batch: list[bytes]) -> None:
        """Append a batch, again and again until it has come back. Raises EndedError."""
        last = first + len(batch) - 1
        figures = self.figures
        figures.batches[len(batch).bit_length()] += 1
        figures.messages_out += len(batch)
        begin = time.monotonic()
        pauses = backoff()
        while True:
            wait = _ECHO_WAIT
            try:
                self._out.append(self._maxlen, self._process, first, batch)
                figures.entries_out += 1
            except StreamError as error:
                self._say_away("out", error)
                wait = next(pauses)
            if self._has_come_back(last, wait):
                figures.echo = time.monotonic() - begin
                return
            figures.repeated += 1

    def _has_come_back(self, last: int, wait: float) -> bool:
        """Wait for the message of this number, in seconds. Raises EndedError."""
        deadline = time.monotonic() + wait
        while (now := time.monotonic()) < deadline:
            _, echo, ok = select(self._echo, deadline=min(deadline, now + _LOOK))
            if ok and echo >= last:
                return True
            if self._gives_up():
                raise EndedError
        return False

    # relay in.

    def _run_in(self) -> None:
        pauses = backoff()
        checked = 0.0
        while not self._ending.is_set():
            try:
                if not self._connected:
                    self._check()
                entries = self._in.read(self._position, _COUNT, _BLOCK)
                now = self._heard = time.monotonic()
                if not self._connected:
                    self._say_there()
                    pauses = backoff()
                for entry in entries:
                    self._deliver(entry)
                if now - checked >= _BLOCK or not entries:
                    checked = now
                    self._check()
            except (EndedError, AbandonedChannelError):  # the latter: the hub does not answer
                return
            except StreamError as error:
                self._connected = False
                self._say_away("in", error)
                if time.monotonic() - self._heard > self.timeout:
                    self.error = RelayError(f"relay: Redis is away: {error}")
                    log.error("relay: away for %g s, which is the end", self.timeout)
                    self.lost()
                    return
                self._ending.wait(next(pauses))

    def _check(self) -> None:
        """See where the stream stands. If it has lost entries, read it from its beginning."""
        info = self._in.info()
        if info.last < self._position:
            log.error(
                "relay: the stream has gone back from %s to %s",
                text_of(self._position),
                text_of(info.last),
            )
            self._position = (0, 0)
            self._added, self._read = info.added - info.length, 0
        figures = self.figures
        if info.last <= self._position:
            self._added, self._read = info.added, 0
            figures.behind, figures.lag = 0, 0.0
        else:
            figures.behind = max(1, info.added - self._added - self._read)
            begin = self._position[0] or info.last[0]
            figures.lag = (info.last[0] - begin) / 1000

    def _deliver(self, entry: Entry) -> None:
        self._position = entry.id
        self._read += 1
        figures = self.figures
        figures.entries_in += 1
        if not entry.messages:
            log.error("relay: %s is no entry of a gochat", text_of(entry.id))
            return
        process, first, messages = entry.process, entry.first, entry.messages
        if entry.id <= self._since and not self._ledger.knows(process):
            return  # said before this process began
        seen, missing = self._ledger.take(process, first, len(messages))
        if missing:
            figures.missing += missing
            log.error(
                "relay: %d messages of process %s are missing, from number %d on",
                missing,
                process.decode(errors="replace"),
                first - missing,
            )
        figures.doubles += seen
        for message in messages[seen:] if seen else messages:
            self.hub.broadcast.send(message)
        if process == self._process:
            self._echo.try_send(first + len(messages) - 1)

    # What the log has of it, each thing once.

    def _say_away(self, which: str, error: Exception) -> None:
        text = str(error)
        if self._said.get(which) != text:
            self._said[which] = text
            log.info("relay %s: %s", which, text)

    def _say_there(self) -> None:
        self._connected = True
        self._said.clear()
        self.figures.reconnects += 1
        log.info("relay: Redis is there again")


def backoff() -> Iterator[float]:
    """Pauses between attempts, in seconds: each twice as long as the last, and then some jitter."""
    low, high = _BACKOFF
    while True:
        yield low * (0.5 + random.random())
        low = min(2 * low, high)

"""The relay: the hub as clients see it, with other processes behind it.

    read pumps --> relay.broadcast --> relay out --> the stream --> relay in --> hub.broadcast

What a client says goes round by the stream, and so comes to the hub in the stream's one order, also
for the clients of this process. `relay out` appends all that waits as one entry, and waits until
`relay in` has read that entry. An entry that is known not to come back is appended again. `relay
in` drops what it has seen before, by process and number, and says what is missing. See entry.py for
what an entry has.

`relay out` owns a connection, this process's name, and one entry on its way. It waits for
`broadcast`, then for that entry. It gives up at the deadline of `finish`, or when it fails, and
drops what clients say from then on: a read pump that waited for it could not read its peer's last
frames. It ends when `broadcast` is closed and empty.

`relay in` owns a connection, the position, the ledger and the bound. It waits for an entry, then
for room in `hub.broadcast`, and now and then for the write pumps. It ends at the end of `join`.

Either thread also ends when Redis is of no use for longer than the timeout, or when it fails in any
other way. Then `error` says why, `lost` is called, and the relay is deaf from then on.

`broadcast` holds 64 messages: a read pump waits for room, and so TCP holds its client back.
`hub.broadcast` holds 64: `relay in` waits for room. `_echo` and `_wake` only wake `relay out`, and
one value is enough for that.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

from ..golang import clock
from ..golang.channel import AbandonedChannelError, Channel, ClosedChannelError, select
from ..golang.flag import one_line
from ..golang.runtime import turns
from ..hub import Hub
from .bound import Bound
from .entry import MOST, Entry, Id, announcement, batch, entry_of, fault_of, started, text_of
from .ledger import Ledger
from .stream import (
    AuthenticationError,
    EndedError,
    OutOfMemoryError,
    RefusedError,
    Stream,
    StreamError,
)

if TYPE_CHECKING:
    from ..client import Client

__all__ = ["Relay", "RelayError", "Statistics"]

log = logging.getLogger("gochat")

# How many messages of this process's clients may wait to be appended.
_BATCH: Final = 64

# How many entries are read at once at most; how many bytes they take, if none is larger than those
# before; and how long a read waits for one, in seconds.
_COUNT: Final = 200
_BYTES: Final = 4 << 20
_BLOCK: Final = 1.0

# How many messages `relay in` gives the hub before it waits until every write pump that has work
# has had a turn. The hub may be as many behind, so a pump that can write never has more than twice
# as many queued. A client's queue holds more, so a backlog in Redis drops nobody who reads.
_ROW: Final = 64

# How long to wait before the next attempt when Redis is away: from, to, in seconds.
_BACKOFF: Final = (0.05, 2.0)

# How long the threads may take when they are told to end, in seconds, and how often one that waits
# looks whether it is told.
_END_WAIT: Final = 5.0
_LOOK: Final = 0.25

# In a busy room a batch is gathered for so long, in seconds: see `Relay._gather`.
_GATHER: Final = 0.001

# How often a process announces its next number, in seconds, in a room of up to so many processes.
# In a larger room it does so less often, so that there are some twenty announcements a second; but
# three times less often at most, however many processes somebody makes up.
_ANNOUNCE: Final = 5.0
_ROOM: Final = 100
_CROWD: Final = 3.0

# How long an announcement waits for more to announce when there is news, in seconds; how many
# newcomers it names, and for how long.
_NEWS_WAIT: Final = 0.1
_NEWCOMERS: Final = 64
_NEWCOMER_TIME: Final = 120.0

# A gap of more messages is nothing that a stream has lost: somebody has made the number up.
_WIDEST_GAP: Final = 1 << 30

# How often the log says how much is missing, in seconds, and how many processes it names each time.
_MISSING_TIME: Final = 1.0
_MISSING_LINES: Final = 20

# How many different things the log says about outages; and how often it says the same about another
# outage, what was dropped, and that the stream is cut, in seconds.
_SAID: Final = 8
_SAY_TIME: Final = 10.0


class RelayError(ConnectionError):
    """The relay cannot begin, has failed, or Redis was of no use for too long."""


class _Broadcast(Channel[bytes]):
    """Where clients send to. When the relay has ended a send fails as a connection does."""

    def send(self, value: bytes) -> None:
        try:
            super().send(value)
        except ClosedChannelError as error:
            raise ConnectionAbortedError("the relay has ended") from error


@dataclass(frozen=True)
class Statistics:
    """How a relay is, and what it has counted so far."""

    #: Whether the room is cut off: Redis is away or takes nothing, or a thread has failed.
    deaf: bool
    #: The name of this process in the stream; empty before it has one.
    process: str

    # By relay out: entries appended, and attempts after the first; messages in them.
    entries_out: int
    repeated: int
    messages_out: int
    #: How many batches had how many messages, by the bits of that number.
    batches: tuple[int, ...]
    #: How long the last batch took to come back, in seconds.
    echo: float

    # By relay in: entries read; messages dropped because they were seen before, and messages that
    # the stream has lost.
    entries_in: int
    doubles: int
    missing: int
    #: Entries that no gochat has made, or not the one that they name; and entries of which not all
    #: messages are taken.
    invalid: int
    #: How far the stream was ahead when that was last asked: in entries, and in seconds of the
    #: server's clock.
    behind: int
    lag: float

    # By either: how often an outage has ended.
    reconnects: int


class _Identity:
    """Who this process is in the stream. A new one is made if somebody else writes under it."""

    def __init__(self, process: bytes) -> None:
        self.process: Final = process
        # All set by relay in. The last number of this process in the stream, whoever has written
        # it; and whether anyone else has.
        self.last = 0
        self.spoilt = False
        # Processes that have started later: this one's last number then, and when that was.
        self.newcomers: dict[bytes, tuple[int, float]] = {}


class _Flight:
    """An entry of this process on its way. Made by relay out; relay in says when it is back."""

    def __init__(self, me: _Identity, messages: list[bytes]) -> None:
        self.me: Final = me
        # No other flight of this process is on its way, so `me.last` stands still, unless somebody
        # else writes under its name: see `Relay._take_own`.
        self.first: Final = me.last + 1
        self.messages: Final = messages
        # Whether others have dropped it, because somebody else had used its numbers before. Set
        # before `back`.
        self.void = False
        self.back = False


class Relay:
    """A hub for serve_ws, behind which is the hub of this process, and those of others.

    hub: one that does not run yet. url: of Redis. room: the name of the stream. timeout: how long
    Redis may be of no use, in seconds. maxlen, maxbytes: about how many entries the stream keeps,
    and how many bytes they take. max_message_size: in bytes; a larger message is not taken.

    What is sent to `broadcast` is UTF-8 without newlines.

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
        maxbytes: int = 16 << 20,
        max_message_size: int = 512,
    ) -> None:
        self.hub: Final = hub
        # Some values, so that `relay in` need not wait for the hub each time.
        hub.broadcast = Channel(_ROW)
        # What a client needs of a hub.
        self.broadcast: Final = _Broadcast(_BATCH)

        self.timeout: Final = timeout
        #: How many descriptors clients have to leave it, so that it can connect again: two for its
        #: sockets, the others to look up a name and to read certificates.
        self.descriptors: Final = 8
        # The counters of Statistics, each counted by one thread, `reconnects` under the lock.
        names = (each.name for each in fields(Statistics))
        self.figures: Final = SimpleNamespace(**dict.fromkeys(names, 0))
        self.figures.batches = [0] * (MOST.bit_length() + 1)
        #: Why the relay has ended by itself; None until then. Set by the thread that fails first.
        self.error: RelayError | None = None
        #: Called on each thread that fails. Set before `start`.
        self.lost: Callable[[], object] = lambda: None
        self._max_message_size: Final = max_message_size
        self._max_entry_size: Final = maxbytes // 16
        # When relay out gives up, as a time of clock.py. Set by `finish` and `join`.
        self._deadline = math.inf
        # Set once, by `join`: relay in ends.
        self._ending = threading.Event()
        self._out = Stream(url, f"gochat:{room}", self._gives_up)
        self._in = Stream(url, f"gochat:{room}", self._ending.is_set)
        # From relay in to relay out: the flight is back; and, there is something to announce.
        self._echo: Channel[None] = Channel(1)
        self._wake: Channel[None] = Channel(1)
        # From relay out to relay in: the entry that is on its way; and, relay in may be connected
        # to a server that relay out does not write to, and is to connect again.
        self._flight: _Flight | None = None
        self._stale = threading.Event()
        # Set by relay out, when there is no flight.
        self._me = _Identity(b"")
        # Relay out's: when the log last said that the stream is cut.
        self._cut_said = -_SAY_TIME
        # Set by relay in: when it last worked, by clock.py; and the time up to which all that had
        # been appended has been delivered.
        self._heard = clock.now()
        self._through = 0.0
        # Outages: by thread, since when it has not worked; what the log has said lately, and when;
        # and whether it has said anything about this outage. Guarded by the lock. Whether there is
        # an outage is looked at without.
        self._lock = threading.Lock()
        self._away: dict[str, float] = {}
        self._said: set[str] = set()
        self._said_at = -_SAY_TIME
        self._told = False

        # All that follows is relay in's, once that runs. `begun` is when this process began.
        self._position: Id = (0, 0)
        self._begun = time.monotonic()
        # How many entries had ever been added when this side had read them all, and how many it has
        # read since.
        self._added = 0
        self._read = 0
        self._ledger = Ledger((0, 0))
        self._bound = Bound(maxlen, maxbytes)
        # What the log is to say, and when it last did: for each process how many messages are
        # missing, and from which number on; how many entries were dropped, and the last one.
        self._missing: dict[bytes, tuple[int, int]] = {}
        self._missing_said = 0.0
        self._dropped = 0
        self._dropped_last = ""
        self._dropped_said = -_SAY_TIME
        # How many messages the hub was given since the write pumps last had their turns.
        self._row = 0
        self._threads: list[threading.Thread] = []

    @property
    def register(self) -> Channel[Client]:
        """The hub's."""
        return self.hub.register

    @property
    def unregister(self) -> Channel[Client]:
        """The hub's."""
        return self.hub.unregister

    @property
    def farewell(self) -> bytes:
        """What a write pump puts into its close frame."""
        return self.hub.farewell

    @property
    def deaf(self) -> bool:
        """Whether the room is cut off, see `Statistics`. Thread: any."""
        late = clock.now() - self._heard > _BLOCK + 2.0
        return late or bool(self._away) or self.error is not None

    def statistics(self) -> Statistics:
        """Return how the relay is now. Thread: any."""
        batches, process = tuple(self.figures.batches), self._me.process.decode()
        now = {"deaf": self.deaf, "process": process, "batches": batches}
        return Statistics(**vars(self.figures) | now)

    # Begin and end: one thread, in this order.

    def start(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Join the room, with both connections, and start both threads. The hub may run already.

        stopped: whether the chat is to end before it has begun; then nothing is started. Raises
        RelayError if Redis refuses, does not come within the timeout, or if the system has no more
        threads.
        """
        begin = clock.now()
        pauses = backoff()
        while not stopped():
            try:
                self._join_room()
                break
            except StreamError as error:
                self._in.drop()
                self._out.drop()
                if isinstance(error, AuthenticationError):
                    raise RelayError(f"relay: {text_of_error(error)}") from None
                self._fails("start", begin, error)
            time.sleep(next(pauses))
        else:
            return
        self._works("start")
        for name, run in (
            ("relay out", self._run_out),
            ("relay in", lambda: self._run(self._listen)),
        ):
            thread = threading.Thread(target=run, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise RelayError(f"relay: {error}") from None
            self._threads.append(thread)

    def _join_room(self) -> None:
        info = self._in.info()
        try:
            size = self._in.size()
        except RefusedError:  # a user who may not ask that: what is there counts as nothing
            size = 0
        self._bound.begin(info.length, size)
        self._introduce()
        self._position = started(self._me.process)
        self._ledger = Ledger(self._position)
        self._added, self._read = info.added + 1, 0
        self._heard, self._begun = clock.now(), time.monotonic()

    def finish(self, deadline: float) -> None:
        """Wait for Redis until the deadline at the longest, and not at all if the relay is deaf.

        After that, what clients say is dropped, so that no client waits for Redis. For the time in
        which clients are disconnected. deadline: a time of clock.py.
        """
        self._deadline = 0.0 if self.deaf else deadline

    def close(self) -> None:
        """Take no more from clients: a send fails. When the clients have gone; once."""
        self.broadcast.close()

    def join(self, deadline: float) -> None:
        """End: append what is there, if that can be done by the deadline, and read no more.

        After `close`, and while the hub still runs. deadline: a time of clock.py. The threads have
        five seconds more; a thread that has not ended then is named in the log.
        """
        for thread in self._threads[:1]:
            clock.join(thread, deadline)
        self._deadline = 0.0
        self._ending.set()
        deadline = clock.after(_END_WAIT)
        for thread in self._threads:
            if not clock.join(thread, deadline):
                log.error("relay: the thread %r does not end", thread.name)
        self._out.drop()
        self._in.drop()

    def _gives_up(self) -> bool:
        """Return whether relay out is to wait for Redis no longer. Thread: any."""
        return clock.now() >= self._deadline

    def _run_out(self) -> None:
        self._run(self._write)
        for _ in self.broadcast:
            pass

    def _run(self, work: Callable[[], None]) -> None:
        """Do a thread's work. Whatever ends it early is the end of the relay."""
        try:
            work()
            return
        except (EndedError, AbandonedChannelError):  # whoever has ended the hub says why
            return
        except RelayError as error:
            cause = error
            log.error("relay: unreachable for more than %g s; stopping", self.timeout)
        except BaseException as error:  # SystemExit would end this thread silently
            name = threading.current_thread().name
            cause = RelayError(f"relay: the thread {name!r} has failed: {text_of_error(error)}")
            log.exception("relay: a thread has failed")
        self.error = self.error or cause
        self.lost()

    # relay out.

    def _write(self) -> None:
        """Append what clients send, until `broadcast` is closed and empty."""
        busy = False
        due = self._next_announcement()
        while True:
            channel, message, ok = select(self.broadcast, self._wake, deadline=due)
            if channel is None:
                self._append([])
                due = self._next_announcement()
            elif channel is self._wake:
                due = min(due, time.monotonic() + _NEWS_WAIT)
            elif not ok:
                return
            else:
                messages = [message, *self.broadcast.drain()]
                busy = self._gather(messages, busy)
                for part in self._parts(messages):
                    self._append(part)

    def _next_announcement(self) -> float:
        crowd = min(max(1.0, len(self._ledger) / _ROOM), _CROWD)
        return time.monotonic() + _ANNOUNCE * crowd * random.uniform(0.8, 1.0)

    def _gather(self, messages: list[bytes], busy: bool) -> bool:
        """In a busy room, wait a moment for more to append at once. Whether the room is busy."""
        if busy:
            deadline = time.monotonic() + _GATHER
            while len(messages) < _BATCH:
                _, message, ok = select(self.broadcast, deadline=deadline)
                if not ok:
                    break
                messages += [message, *self.broadcast.drain()]
        return len(messages) > 1

    def _parts(self, messages: list[bytes]) -> Iterator[list[bytes]]:
        """Cut messages into entries of a size that others take; mostly that is one."""
        joined = b"\n".join(messages)
        fault = fault_of(messages, joined, self._max_message_size)
        if not fault and len(joined) <= self._max_entry_size:
            yield messages
            return
        part: list[bytes] = []
        size = 0
        for message in messages:
            if fault := fault_of([message], message, self._max_message_size):
                log.error("relay: %s was sent to the relay, and is dropped", fault)
                continue
            if part and (len(part) == MOST or size + len(message) > self._max_entry_size):
                yield part
                part, size = [], 0
            part.append(message)
            size += len(message)
        if part:
            yield part

    def _append(self, messages: list[bytes]) -> None:
        """Append an entry, and wait until it is back. Raises EndedError, RelayError.

        If somebody else has written under this process's name meanwhile, others may have taken it
        for an old one, and it goes out again under a new name.
        """
        figures = self.figures
        if messages:
            figures.batches[len(messages).bit_length()] += 1
            figures.messages_out += len(messages)
        begin = clock.now()
        pauses = backoff()
        flight: _Flight | None = None
        while True:
            added = 0.0
            try:
                if flight is None:
                    if self._me.spoilt:
                        self._introduce()
                    flight = self._flight = _Flight(self._me, messages)
                self._add(self._fields(flight))
                figures.entries_out += 1
                added = time.monotonic()
            except StreamError as error:
                self._out.drop()
                self._fails("out", begin, error)
            if not self._is_back(flight, begin, added, next(pauses)):
                figures.repeated += 1
            elif flight is not None and not flight.void:
                break
            else:
                flight = None
        self._works("out")
        if messages:
            figures.echo = clock.now() - begin

    def _introduce(self) -> None:
        """Append this process's first entry, of which it has its name. Raises StreamError."""
        name = os.urandom(6).hex().encode()
        place = self._add(announcement(name, 1, {}))
        self._me = _Identity(b"%b.%b" % (text_of(place).encode(), name))

    def _is_back(self, flight: _Flight | None, begin: float, added: float, pause: float) -> bool:
        """Wait until an entry is back, or is to be appended again. Raises EndedError, RelayError.

        An entry that Redis has not taken is appended again after a pause: it may be there all the
        same. One that Redis has taken comes back, sooner or later, unless the stream has lost it.
        That is known when all has been delivered that was there at a later time.
        """
        until = time.monotonic() + pause
        while True:
            # In this order: relay in delivers an entry before it says how far it is.
            through = self._through
            if flight is not None and flight.back:
                return True
            now = time.monotonic()
            if added and through > added:
                # Relay in may read from another server than this one writes to.
                self._out.drop()
                self._stale.set()
                self._fails("out", begin, "what was appended does not come back")
                added, until = 0.0, now + pause
            elif not added and now >= until:
                return False
            if self._gives_up():
                raise EndedError
            select(self._echo, deadline=now + _LOOK if added else min(now + _LOOK, until))

    def _fields(self, flight: _Flight) -> Sequence[bytes | int]:
        me = flight.me
        if flight.messages:
            return batch(me.process, flight.first, flight.messages)
        oldest = time.monotonic() - _NEWCOMER_TIME
        newcomers = list(me.newcomers.items())[-_NEWCOMERS:]
        bases = {name: number for name, (number, when) in newcomers if when > oldest}
        return announcement(me.process, flight.first, bases)

    def _add(self, fields: Sequence[bytes | int]) -> Id:
        """Append an entry. Raises StreamError.

        Redis that is out of memory refuses XADD before it trims, but not XTRIM. So the stream is
        cut by half, as often as that helps.
        """
        length = self._bound.length
        while True:
            try:
                return self._out.append(fields, length)
            except OutOfMemoryError:
                while (length := length // 2) and not self._out.trim(length):
                    pass
                if not length:
                    raise
                if time.monotonic() - self._cut_said >= _SAY_TIME:
                    self._cut_said = time.monotonic()
                    text = "relay: Redis is out of memory, the stream is cut to %d entries"
                    log.error(text, length)

    # relay in.

    def _listen(self) -> None:
        """Read the stream, and deliver what is new, until told to end."""
        pauses = backoff()
        checked = 0.0
        count = 1
        try:
            while not self._ending.is_set():
                try:
                    if self._stale.is_set():
                        self._stale.clear()
                        self._in.drop()
                        checked = 0.0
                    if time.monotonic() - checked >= _BLOCK:
                        self._check()
                        checked = time.monotonic()
                    begin = time.monotonic()
                    entries = self._in.read(self._position, count, _BLOCK)
                except StreamError as error:
                    self._in.drop()
                    checked = 0.0
                    self._fails("in", self._heard, error)
                    self._ending.wait(next(pauses))
                    continue
                if self._away:
                    self._works("in")
                    pauses = backoff()
                largest = 1
                for text, fields in entries:
                    entry = entry_of(text, fields, self._max_message_size)
                    largest = max(largest, entry.size)
                    self._deliver(entry)
                if len(entries) < count:
                    self._through = begin
                # Others decide how large an entry is, and how many there are at once.
                count = max(1, min(2 + 2 * len(entries), _COUNT, _BYTES // largest))
                # After the deliveries: a hub that takes its time is no outage of Redis.
                self._heard = clock.now()
                self._report(time.monotonic())
        finally:
            self._report(float("inf"))

    def _check(self) -> None:
        """See where the stream stands. If it has lost entries, read it from its beginning."""
        info = self._in.info()
        if info.last < self._position:
            log.error(
                "relay: the stream has gone back from %s to %s",
                text_of(self._position),
                text_of(info.last),
            )
            self._begin_again(info.last)
            self._added, self._read = info.added - info.length, 0
        figures = self.figures
        if info.last <= self._position:
            self._added, self._read = info.added, 0
            figures.behind, figures.lag = 0, 0.0
        else:
            figures.behind = max(1, info.added - self._added - self._read)
            begin = self._position[0] or info.last[0]
            figures.lag = (info.last[0] - begin) / 1000

    def _begin_again(self, last: Id) -> None:
        """Read a stream that has gone back from its beginning. last: the newest id it has given.

        What was there before this process began is passed over, by its id, see `_take`. But if the
        ids were ahead of the clock, new entries have ids before that; then an entry is old if its
        id was given before this process began, by the clock of now.
        """
        clock = self._in.clock()
        age = int((time.monotonic() - self._begun) * 1000)
        begun = last if last > clock else (clock[0] - age, 0)
        self._ledger.since = min(self._ledger.since, begun)
        self._position = (0, 0)
        self._bound.begin()
        # Others may have missed what this process said last.
        self._wake.try_send(None)

    def _deliver(self, entry: Entry) -> None:
        self._position = entry.id
        self._read += 1
        self.figures.entries_in += 1
        self._bound.add(entry.size)
        me, flight = self._me, self._flight
        if entry.process != me.process:
            messages = self._take(entry, me)
        elif flight is not None and is_of(flight, me, entry):
            flight.void = entry.length > 0 and entry.first <= me.last
            messages = [] if flight.void else entry.messages
            me.last = max(me.last, entry.first + entry.length - 1)
        else:
            messages, flight = [], None
            self._take_own(entry, me)
        for message in messages:
            self.hub.broadcast.send(message)
            self._row += 1
            if self._row == _ROW:
                self._row = 0
                turns.gosched()
        if entry.process == me.process and flight is not None:
            flight.back = True
            self._echo.try_send(None)

    def _take_own(self, entry: Entry, me: _Identity) -> None:
        """Note an entry under this process's name that is not the one on its way.

        It is an earlier one again, or not this process's. Then others have noted its numbers, and
        would take the messages that get them for old ones: the name is of no more use.
        """
        last = entry.first + entry.length - 1
        if last <= me.last:
            self.figures.doubles += entry.length
            return
        self._ledger.take(me.process, entry.first, entry.length)
        me.last = last
        me.spoilt = True
        self._drop(entry, "under the name of this process, and not its own")

    def _take(self, entry: Entry, me: _Identity) -> list[bytes]:
        """Return the new messages of another process's entry."""
        process, first, ledger = entry.process, entry.first, self._ledger
        if not process:
            return self._drop(entry, entry.fault)
        if not ledger.knows(process):
            if entry.id <= ledger.since:
                return []  # said before this process began
            if started(process) == entry.id:
                newcomers = list(me.newcomers.items())[1 - _NEWCOMERS :]
                me.newcomers = {**dict(newcomers), process: (me.last, time.monotonic())}
                self._wake.try_send(None)
        if me.process in entry.bases:
            base = entry.bases[me.process]
            self._note_missing(process, ledger.begins(process, base), base + 1)
        seen, missing = ledger.take(process, first, entry.length)
        if missing > _WIDEST_GAP:
            return self._drop(entry, f"number {first} after {first - 1 - missing}")
        self._note_missing(process, missing, first - missing)
        if entry.fault:
            self._drop(entry, entry.fault)
        if seen:
            self.figures.doubles += entry.length
            return []
        return entry.messages

    # What the log has of it: seldom, and no more than a few lines.

    def _drop(self, entry: Entry, why: str) -> list[bytes]:
        """Count an entry that is not taken, or not whole. Returns no messages."""
        self.figures.invalid += 1
        self._dropped += 1
        self._dropped_last = f"{text_of(entry.id)}: {why}"
        return []

    def _note_missing(self, process: bytes, count: int, number: int) -> None:
        """Count messages of a process that are missing, from this number on."""
        if not 0 < count <= _WIDEST_GAP:
            return
        self.figures.missing += count
        before, number = self._missing.get(process, (0, number))
        self._missing[process] = before + count, number

    def _report(self, now: float) -> None:
        """Say what is missing and what was dropped, unless that was said just now."""
        if self._missing and now - self._missing_said >= _MISSING_TIME:
            self._missing_said = now
            # Names that somebody makes up are seldom heard again, and come last.
            processes = sorted(self._missing, key=self._ledger.is_new)
            for process in processes[:_MISSING_LINES]:
                count, number = self._missing.pop(process)
                log.error(
                    "relay: %d messages of process %s are missing, from number %d on",
                    count,
                    process.decode(),
                    number,
                )
            if self._missing:
                count = sum(count for count, _ in self._missing.values())
                others = len(self._missing)
                log.error("relay: %d messages of %d more processes are missing", count, others)
                self._missing.clear()
        if self._dropped and now - self._dropped_said >= _SAY_TIME:
            self._dropped_said = now
            text = "relay: entries dropped, whole or in part: %d, the last %s"
            log.error(text, self._dropped, self._dropped_last)
            self._dropped = 0

    # Outages. Either thread.

    def _fails(self, which: str, since: float, error: object) -> None:
        """Note that a thread has not worked since then. Raises RelayError after the timeout.

        since: a time of clock.py. A pause of this process is no outage of Redis.
        """
        text = text_of_error(error)
        with self._lock:
            self._away.setdefault(which, since)
            if not self._told and time.monotonic() - self._said_at >= _SAY_TIME:
                self._said.clear()
            if text not in self._said and len(self._said) < _SAID:
                self._said.add(text)
                self._said_at, self._told = time.monotonic(), True
                log.info("relay %s: %s", which, text)
        if clock.now() - since > self.timeout:
            what = "refuses" if isinstance(error, RefusedError) else "is away"
            raise RelayError(f"relay: Redis {what}: {text}")

    def _works(self, which: str) -> None:
        """Note that a thread works."""
        if which not in self._away:
            return
        with self._lock:
            del self._away[which]
            if not self._away:
                self.figures.reconnects += 1
                if self._told:
                    self._told = False
                    log.info("relay: Redis is there again")


def is_of(flight: _Flight, me: _Identity, entry: Entry) -> bool:
    """Return whether an entry under this process's name is the one that is on its way."""
    return (
        not flight.back
        and flight.me is me
        and (flight.first, len(flight.messages)) == (entry.first, entry.length)
        and flight.messages == entry.messages
    )


def backoff() -> Iterator[float]:
    """Pauses between attempts, in seconds: each twice as long as the last, and then some jitter."""
    low, high = _BACKOFF
    while True:
        yield low * (0.5 + random.random())
        low = min(2 * low, high)


def text_of_error(error: object) -> str:
    """Return what an error says, as a line for the log. Redis may send anything."""
    return one_line(str(error) or type(error).__name__)[:200]

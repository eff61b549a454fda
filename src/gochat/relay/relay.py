"""The relay stands in for the hub and connects it to the other processes' hubs.

    read pumps --> relay.broadcast --> relay out --> the stream --> relay in --> hub.broadcast

Every message goes through the stream, even between clients of this process, so all hubs get the
messages in the same order. `relay out` appends all waiting messages as one entry and waits until
`relay in` has read that entry. If the entry cannot come back, `relay out` appends it again. `relay
in` drops messages that it has already seen, by process and number, and reports gaps. See entry.py
for the form of an entry.

`relay out` owns a connection, this process's name, and one entry in flight. It waits for
`broadcast`, then for the entry to come back. At the deadline of `finish`, or when it fails, it
gives up and drops later messages from clients, because a read pump that waits for `relay out`
cannot read its peer's last frames. It ends when `broadcast` is closed and empty.

`relay in` owns a connection, the position, the ledger and the bound. It waits for an entry, then
for room in `hub.broadcast`, and sometimes for the write pumps. `join` ends it.

Either thread also ends when Redis has failed for longer than the timeout, or when the thread itself
fails. Then `error` says why, `lost` is called, and the relay stays deaf.

`broadcast` holds 64 messages: if it is full, a read pump waits, and TCP makes its client wait.
`hub.broadcast` also holds 64 messages: if it is full, `relay in` waits. `_echo` and `_wake` only
wake `relay out`, so they hold one value each.
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
from . import stream
from .bound import Bound
from .entry import MOST, Entry, Id, announcement, batch, entry_of, fault_of, started, text_of
from .ledger import Ledger

if TYPE_CHECKING:
    from ..client import Client

__all__ = ["Relay", "RelayError", "Statistics"]

log = logging.getLogger("gochat")

# How many messages of this process's clients may wait to be appended.
_BATCH: Final = 64

# The limits of one read: the number of entries; their total size in bytes, estimated from the
# previous entries; and the wait for the first entry, in seconds.
_COUNT: Final = 200
_BYTES: Final = 4 << 20
_BLOCK: Final = 1.0

# How many messages `relay in` gives the hub before it waits until every write pump with work has
# had a turn. The hub may lag by as many messages, so a pump that can write has at most twice as
# many queued. A client's queue holds more, so a backlog in Redis does not make the hub drop a
# client that reads.
_ROW: Final = 64

# The shortest and the longest pause between attempts when Redis is away, in seconds.
_BACKOFF: Final = (0.05, 2.0)

# Time allowed for the threads to end when told to, and the interval at which a waiting thread
# checks for that, in seconds.
_END_WAIT: Final = 5.0
_LOOK: Final = 0.25

# How long a batch is collected in a busy room, in seconds: see `Relay._gather`.
_GATHER: Final = 0.001

# How often a process announces its next number, in seconds, in a room of up to _ROOM processes.
# In a larger room it does so less often, to keep the total near twenty announcements per second,
# but at least a third as often, even if somebody fills the stream with invented processes.
_ANNOUNCE: Final = 5.0
_ROOM: Final = 100
_CROWD: Final = 3.0

# How long an announcement of a new process waits for further ones, in seconds; how many new
# processes an announcement names at most; and for how long announcements name each, in seconds.
_NEWS_WAIT: Final = 0.1
_NEWCOMERS: Final = 64
_NEWCOMER_TIME: Final = 120.0

# A larger gap is not counted as a loss, because somebody must have invented the number.
_WIDEST_GAP: Final = 1 << 30

# How often the log reports missing messages, in seconds, and how many processes it names each time.
_MISSING_TIME: Final = 1.0
_MISSING_LINES: Final = 20

# The maximum number of different log lines about outages; and the shortest time between lines about
# outages, dropped entries or a cut stream, in seconds.
_SAID: Final = 8
_SAY_TIME: Final = 10.0


class RelayError(ConnectionError):
    """The relay cannot start, has failed, or Redis has failed for too long."""


class _Broadcast(Channel[bytes]):
    """The channel that clients send to. After the relay's end, a send raises a ConnectionError."""

    def send(self, value: bytes) -> None:
        try:
            super().send(value)
        except ClosedChannelError as error:
            raise ConnectionAbortedError("the relay has ended") from error


@dataclass(frozen=True)
class Statistics:
    """The state of a relay and its counters."""

    #: Whether the room is cut off: Redis is away or refuses entries, or a thread has failed.
    deaf: bool
    #: The name of this process in the stream; empty before it has one.
    process: str

    # By relay out: entries appended; entries appended again; and messages in all batches.
    entries_out: int
    repeated: int
    messages_out: int
    #: The number of batches, by the bit length of their number of messages.
    batches: tuple[int, ...]
    #: The time that the last batch took to come back, in seconds.
    echo: float

    # By relay in: entries read; messages dropped because they were seen before, and messages that
    # the stream has lost.
    entries_in: int
    doubles: int
    missing: int
    #: Entries that were not written by gochat, or not by the process that they name; and entries
    #: with invalid messages. They are dropped, in whole or in part.
    invalid: int
    #: How far the stream was ahead at the last check: in entries, and in seconds of the
    #: server's clock.
    behind: int
    lag: float

    # By either thread: how many outages have ended.
    reconnects: int


class _Identity:
    """This process's name in the stream. It is replaced if somebody else uses it."""

    def __init__(self, process: bytes) -> None:
        self.process: Final = process
        # All set by relay in. The highest number in the stream under this name, even if somebody
        # else wrote it; and whether somebody else has used the name.
        self.last = 0
        self.spoilt = False
        # For each process that started later: this process's last number at that moment, and when
        # that was.
        self.newcomers: dict[bytes, tuple[int, float]] = {}


class _Flight:
    """An entry of this process in flight. Made by relay out; relay in marks it when it is back."""

    def __init__(self, me: _Identity, messages: list[bytes]) -> None:
        self.me: Final = me
        # No other entry of this process is in flight, so `me.last` does not change, unless somebody
        # else uses its name: see `Relay._take_own`.
        self.first: Final = me.last + 1
        self.messages: Final = messages
        # Whether other processes have dropped the entry, because somebody else had used its
        # numbers. Set before `back`.
        self.void = False
        self.back = False


class Relay:
    """A hub for serve_ws that connects this process's hub to those of other processes.

    hub: a hub that is not running yet. url: the URL of Redis. room: names the stream. timeout: how
    long Redis may fail, in seconds. maxlen, maxbytes: about how many entries the stream keeps, and
    about how many bytes they take. max_message_size: in bytes; a larger message is dropped.

    Values sent to `broadcast` must be UTF-8 without newlines.

    Raises ValueError if the URL is invalid.
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
        # Buffered, so that `relay in` need not wait for the hub at each message.
        hub.broadcast = Channel(_ROW)
        # The parts of a hub that a client needs.
        self.broadcast: Final = _Broadcast(_BATCH)

        self.timeout: Final = timeout
        #: How many descriptors are reserved for reconnecting: two for the sockets, the others to
        #: look up a name and read certificates.
        self.descriptors: Final = 8
        # The counters of Statistics. Each is counted by one thread, except `reconnects`, which the
        # lock guards.
        names = (each.name for each in fields(Statistics))
        self.figures: Final = SimpleNamespace(**dict.fromkeys(names, 0))
        self.figures.batches = [0] * (MOST.bit_length() + 1)
        #: Why the relay has ended; None until then. Set by the thread that fails first.
        self.error: RelayError | None = None
        #: Called on each thread that fails. Set before `start`.
        self.lost: Callable[[], object] = lambda: None
        self._max_message_size: Final = max_message_size
        self._max_entry_size: Final = maxbytes // 16
        # When relay out gives up, a time from clock.py. Set by `finish` and `join`.
        self._deadline = math.inf
        # Tells relay in to end. Set once, by `join`.
        self._ending = threading.Event()
        self._out = stream.Stream(url, f"gochat:{room}", self._gives_up)
        self._in = stream.Stream(url, f"gochat:{room}", self._ending.is_set)
        # From relay in to relay out: the entry is back; there is something to announce.
        self._echo: Channel[None] = Channel(1)
        self._wake: Channel[None] = Channel(1)
        # From relay out to relay in: the entry in flight; and that relay in must reconnect, because
        # it may read from a different server.
        self._flight: _Flight | None = None
        self._stale = threading.Event()
        # Set by relay out, while no entry is in flight.
        self._me = _Identity(b"")
        # For relay out: when the log last reported that the stream was cut.
        self._cut_said = -_SAY_TIME
        # Set by relay in: when it last worked, a time from clock.py; and a monotonic time before
        # which every appended entry has been delivered.
        self._heard = clock.now()
        self._through = 0.0
        # Outages: when each failing thread began to fail; the recent log lines, and the time of
        # the last one; and whether this outage has been logged. Guarded by the lock, but checking
        # whether there is an outage needs no lock.
        self._lock = threading.Lock()
        self._away: dict[str, float] = {}
        self._said: set[str] = set()
        self._said_at = -_SAY_TIME
        self._told = False

        # The rest belongs to relay in, once it runs. `_begun` is when this process joined the room.
        self._position: Id = (0, 0)
        self._begun = time.monotonic()
        # How many entries had been added in total when relay in had last read them all, and how
        # many it has read since.
        self._added = 0
        self._read = 0
        self._ledger = Ledger((0, 0))
        self._bound = Bound(maxlen, maxbytes)
        # For the next reports in the log, with the time of the last report: how many messages of
        # each process are missing, and from which number on; how many entries were dropped, and the
        # last of them.
        self._missing: dict[bytes, tuple[int, int]] = {}
        self._missing_said = 0.0
        self._dropped = 0
        self._dropped_last = ""
        self._dropped_said = -_SAY_TIME
        # How many messages the hub has received since the write pumps last had their turns.
        self._row = 0
        self._threads: list[threading.Thread] = []

    @property
    def register(self) -> Channel[Client]:
        """The hub's channel."""
        return self.hub.register

    @property
    def unregister(self) -> Channel[Client]:
        """The hub's channel."""
        return self.hub.unregister

    @property
    def farewell(self) -> bytes:
        """The payload for a write pump's close frame."""
        return self.hub.farewell

    @property
    def deaf(self) -> bool:
        """Whether the room is cut off, see `Statistics`. Thread: any."""
        late = clock.now() - self._heard > _BLOCK + 2.0
        return late or bool(self._away) or self.error is not None

    def statistics(self) -> Statistics:
        """Return the current state of the relay. Thread: any."""
        batches, process = tuple(self.figures.batches), self._me.process.decode()
        now = {"deaf": self.deaf, "process": process, "batches": batches}
        return Statistics(**vars(self.figures) | now)

    # Start and shutdown: called by one thread, in this order.

    def start(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Join the room with both connections and start both threads. The hub may already run.

        stopped: returns whether the chat was told to end before it began; then nothing starts.
        Raises RelayError if Redis refuses or does not answer within the timeout, or if there are no
        more threads.
        """
        begin = clock.now()
        pauses = backoff()
        while not stopped():
            try:
                self._join_room()
                break
            except stream.StreamError as error:
                self._in.drop()
                self._out.drop()
                if isinstance(error, stream.AuthenticationError):
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
        except stream.RefusedError:  # without this permission, existing entries count as 0 bytes
            size = 0
        self._bound.begin(info.length, size)
        self._introduce()
        self._position = started(self._me.process)
        self._ledger = Ledger(self._position)
        self._added, self._read = info.added + 1, 0
        self._heard, self._begun = clock.now(), time.monotonic()

    def finish(self, deadline: float) -> None:
        """Limit the wait for Redis to the deadline; if the relay is deaf, do not wait at all.

        After the deadline, clients' messages are dropped, so that no client waits for Redis. Call
        this while clients are being disconnected. deadline: a time from clock.py.
        """
        self._deadline = 0.0 if self.deaf else deadline

    def close(self) -> None:
        """Accept no more messages: a send fails. Call once, after the clients have left."""
        self.broadcast.close()

    def join(self, deadline: float) -> None:
        """End the relay: append the waiting messages if the deadline allows, then stop reading.

        Call after `close`, while the hub still runs. deadline: a time from clock.py. The threads
        get five more seconds; a thread that still has not ended is named in the log.
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
        """Return whether relay out should stop waiting for Redis. Thread: any."""
        return clock.now() >= self._deadline

    def _run_out(self) -> None:
        self._run(self._write)
        for _ in self.broadcast:
            pass

    def _run(self, work: Callable[[], None]) -> None:
        """Do a thread's work. If the work ends early for any reason, the relay ends."""
        try:
            work()
            return
        except (stream.EndedError, AbandonedChannelError):  # the hub's end is reported elsewhere
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
        """Append the messages that clients send, until `broadcast` is closed and empty."""
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
        """In a busy room, wait a moment for more messages. Returns whether the room is busy."""
        if busy:
            deadline = time.monotonic() + _GATHER
            while len(messages) < _BATCH:
                _, message, ok = select(self.broadcast, deadline=deadline)
                if not ok:
                    break
                messages += [message, *self.broadcast.drain()]
        return len(messages) > 1

    def _parts(self, messages: list[bytes]) -> Iterator[list[bytes]]:
        """Split messages into entries that other processes accept; usually a single one."""
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
        """Append an entry and wait until it is back. Raises EndedError or RelayError.

        If somebody else has used this process's name meanwhile, other processes may have dropped
        the entry as a duplicate. Then it is appended again under a new name.
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
            except stream.StreamError as error:
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
        """Append this process's first entry, which gives it its name. Raises StreamError."""
        name = os.urandom(6).hex().encode()
        place = self._add(announcement(name, 1, {}))
        self._me = _Identity(b"%b.%b" % (text_of(place).encode(), name))

    def _is_back(self, flight: _Flight | None, begin: float, added: float, pause: float) -> bool:
        """Wait for an entry; return False to append it again. Raises EndedError or RelayError.

        An entry that Redis has not acknowledged is appended again after a pause, although the
        stream may contain it. An acknowledged entry comes back sooner or later, unless the stream
        has lost it. The entry is lost if everything after it in the stream has been delivered, but
        the entry has not.
        """
        until = time.monotonic() + pause
        while True:
            # Read before `back`, because relay in sets `back` before it sets `_through`.
            through = self._through
            if flight is not None and flight.back:
                return True
            now = time.monotonic()
            if added and through > added:
                # Relay in may read from a different server.
                self._out.drop()
                self._stale.set()
                self._fails("out", begin, "the appended entry does not come back")
                added, until = 0.0, now + pause
            elif not added and now >= until:
                return False
            if self._gives_up():
                raise stream.EndedError
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

        When Redis is out of memory, it refuses XADD, even if the XADD would trim the stream, but it
        accepts XTRIM. So the stream is cut in half, repeatedly if necessary.
        """
        length = self._bound.length
        while True:
            try:
                return self._out.append(fields, length)
            except stream.OutOfMemoryError:
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
        """Read the stream and deliver new messages until told to end."""
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
                except stream.StreamError as error:
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
                # Other writers decide how large an entry is, and how many arrive together.
                count = max(1, min(2 + 2 * len(entries), _COUNT, _BYTES // largest))
                # After the deliveries, because a slow hub is not an outage of Redis.
                self._heard = clock.now()
                self._report(time.monotonic())
        finally:
            self._report(float("inf"))

    def _check(self) -> None:
        """Check the stream. If its last id has gone back, read it from its beginning."""
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
        """Start again at the beginning of a stream whose last id has gone back. last: that id.

        `_take` skips entries with ids from before this process began. But if the ids were ahead of
        the server's clock, new entries have smaller ids than old ones had. Then the current clock
        determines which ids are from before this process began.
        """
        clock = self._in.clock()
        age = int((time.monotonic() - self._begun) * 1000)
        begun = last if last > clock else (clock[0] - age, 0)
        self._ledger.since = min(self._ledger.since, begun)
        self._position = (0, 0)
        self._bound.begin()
        # Other processes may have missed this process's last messages.
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
        """Note an entry under this process's name that is not the entry in flight.

        It is a duplicate of an earlier entry, or somebody else has written it. In the latter case,
        other processes have noted its numbers and will drop this process's messages with these
        numbers, so the name can no longer be used.
        """
        last = entry.first + entry.length - 1
        if last <= me.last:
            self.figures.doubles += entry.length
            return
        self._ledger.take(me.process, entry.first, entry.length)
        me.last = last
        me.spoilt = True
        self._drop(entry, "under the name of this process, but not written by it")

    def _take(self, entry: Entry, me: _Identity) -> list[bytes]:
        """Return the new messages of another process's entry."""
        process, first, ledger = entry.process, entry.first, self._ledger
        if not process:
            return self._drop(entry, entry.fault)
        if not ledger.knows(process):
            if entry.id <= ledger.since:
                return []  # written before this process began
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

    # Reports in the log, limited in number.

    def _drop(self, entry: Entry, why: str) -> list[bytes]:
        """Count an entry that is dropped in whole or in part. Returns an empty list."""
        self.figures.invalid += 1
        self._dropped += 1
        self._dropped_last = f"{text_of(entry.id)}: {why}"
        return []

    def _note_missing(self, process: bytes, count: int, number: int) -> None:
        """Count missing messages of a process, from this number on."""
        if not 0 < count <= _WIDEST_GAP:
            return
        self.figures.missing += count
        before, number = self._missing.get(process, (0, number))
        self._missing[process] = before + count, number

    def _report(self, now: float) -> None:
        """Log missing messages and dropped entries, unless they were logged just now."""
        if self._missing and now - self._missing_said >= _MISSING_TIME:
            self._missing_said = now
            # Names heard only once come last, because they may be invented.
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
        """Note that a thread has been failing since `since`. Raises RelayError after the timeout.

        since: a time from clock.py, so that a pause of this process does not count.
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
            what = "refuses" if isinstance(error, stream.RefusedError) else "is away"
            raise RelayError(f"relay: Redis {what}: {text}")

    def _works(self, which: str) -> None:
        """Note that a thread works again."""
        if which not in self._away:
            return
        with self._lock:
            del self._away[which]
            if not self._away:
                self.figures.reconnects += 1
                if self._told:
                    self._told = False
                    log.info("relay: Redis is back")


def is_of(flight: _Flight, me: _Identity, entry: Entry) -> bool:
    """Return whether an entry under this process's name is the entry in flight."""
    return (
        not flight.back
        and flight.me is me
        and (flight.first, len(flight.messages)) == (entry.first, entry.length)
        and flight.messages == entry.messages
    )


def backoff() -> Iterator[float]:
    """Yield pauses between attempts, in seconds: each twice the previous one, with some jitter."""
    low, high = _BACKOFF
    while True:
        yield low * (0.5 + random.random())
        low = min(2 * low, high)


def text_of_error(error: object) -> str:
    """Return an error as a line for the log. Redis may send any text."""
    return one_line(str(error) or type(error).__name__)[:200]

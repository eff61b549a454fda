"""Connects this process's hub to the hubs of other processes, through a stream in Redis.

    read pumps --> relay.broadcast --> relay out --> the stream --> relay in --> hub.broadcast

To a client, the Relay is the hub. Every message goes through the stream, even between two clients
of this process, so all hubs get the messages in the same order.

Two threads do the work:

- `relay out` takes all messages waiting in `broadcast` and appends them to the stream as one entry.
  Then it waits until `relay in` has read that entry, so only one entry is in flight. If the entry
  is lost, `relay out` appends it again.
- `relay in` reads the stream and sends the messages to the hub. It drops messages that it has seen
  before, and reports missing ones. It owns the position in the stream, the ledger and the bound.

Every wait has an end. A full `broadcast` makes the read pumps wait, and TCP then slows down their
clients. A full `hub.broadcast` makes `relay in` wait. If `relay out` fails, or if the deadline of
`finish` passes, `relay out` appends nothing more and drops all further messages. Otherwise, a read
pump that waits for `relay out` could not read its client's close frame.

`relay out` ends when `broadcast` is closed and empty. `relay in` ends in `join`. Either thread also
ends if it fails, or if Redis has been unavailable for longer than the timeout. In that case,
`error` contains the reason, the thread calls `lost`, and the relay stays deaf.

entry.py describes the format of an entry.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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

# Capacity of `broadcast`.
_BATCH: Final = 64

# The maximum number of entries in one read.
_COUNT: Final = 200
# The maximum total size of these entries, in bytes. Their size is estimated from the previous read.
_BYTES: Final = 4 << 20
# How long a read waits for the first entry, in seconds.
_BLOCK: Final = 1.0

# After each group of this many messages, `relay in` waits until every write pump with work has had
# a turn. The capacity of `hub.broadcast` is the same number, so at most 2 * _ROW messages can be
# waiting for a client that reads. Client queues are larger than that. So the hub does not drop such
# clients when a backlog arrives from Redis.
_ROW: Final = 64

# The shortest and the longest pause between two attempts to reach Redis, in seconds.
_BACKOFF: Final = (0.05, 2.0)

# How long `join` waits for the threads, in seconds.
_END_WAIT: Final = 5.0
# The interval at which a waiting `relay out` checks whether to end, in seconds.
_LOOK: Final = 0.25

# How long `relay out` collects messages for an entry in a busy room, in seconds.
_GATHER: Final = 0.001

# The longest time between two announcements of a process's next number, in seconds.
_ANNOUNCE: Final = 5.0

# How long to wait for other new processes before announcing a new one, in seconds.
_NEWS_WAIT: Final = 0.1
# The maximum number of new processes in one announcement.
_NEWCOMERS: Final = 64
# How long announcements mention a new process, in seconds.
_NEWCOMER_TIME: Final = 120.0

# A gap larger than this is not counted, because the entry's number must have been invented.
_WIDEST_GAP: Final = 1 << 30

# The shortest time between two reports of missing messages, in seconds.
_MISSING_TIME: Final = 1.0
# The maximum number of processes named in one report.
_MISSING_LINES: Final = 20

# The maximum number of different log lines about outages that quickly follow each other.
_SAID: Final = 8
# The shortest time between two log lines about outages, about dropped entries, or about a shortened
# stream, in seconds.
_SAY_TIME: Final = 10.0


class RelayError(ConnectionError):
    """Raised if the relay cannot start, has failed, or cannot reach Redis within the timeout."""


class _Broadcast(Channel[bytes]):
    """The channel that clients send to. After the relay's end, sending raises ConnectionError."""

    def send(self, value: bytes) -> None:
        try:
            super().send(value)
        except ClosedChannelError as error:
            raise ConnectionAbortedError("the relay has ended") from error


@dataclass(frozen=True)
class Statistics:
    """The state of a relay and its counters."""

    #: Whether the room is cut off because Redis is unavailable, Redis refuses entries, or a thread
    #: has failed.
    deaf: bool
    #: This process's name in the stream; empty before the relay has started.
    process: str

    # relay out changes these.
    #: Entries appended.
    entries_out: int
    #: Entries that had to be appended again.
    repeated: int
    #: Messages appended.
    messages_out: int
    #: The number of batches, indexed by the bit length of their message count.
    batches: tuple[int, ...]
    #: For the last entry with messages, the time from the first attempt to append it until relay in
    #: had read it, in seconds.
    echo: float

    # relay in changes these.
    #: Entries read.
    entries_in: int
    #: Messages dropped because they had been seen before.
    doubles: int
    #: Messages that the stream has lost.
    missing: int
    #: Invalid entries: not written by gochat, not written by the process that they name, or with
    #: invalid messages. The invalid part is dropped.
    invalid: int
    #: Entries by which relay in was behind the stream at the last check.
    behind: int
    #: The same lag, in seconds on the server's clock.
    lag: float

    # Both threads change this.
    #: Outages that have ended.
    reconnects: int


class _Identity:
    """This process's name in the stream. If someone else uses it, this process gets a new name."""

    def __init__(self, process: bytes) -> None:
        self.process: Final = process
        # relay in sets the following fields.
        # The highest message number in the stream under this name, whoever wrote the entry.
        self.last = 0
        # Whether someone else has used the name.
        self.spoilt = False
        # The latest processes that started after this one. For each: its name, the value of `last`
        # when it started, and the time when relay in noticed it.
        self.newcomers: list[tuple[bytes, int, float]] = []


class _Flight:
    """This process's entry in flight. relay out makes it; relay in sets `void` or `back`."""

    def __init__(self, me: _Identity, messages: list[bytes]) -> None:
        self.me: Final = me
        # `me.last` cannot change while the entry is in flight, unless someone else uses this
        # process's name: see `Relay._take_own`.
        self.first: Final = me.last + 1
        self.messages: Final = messages
        # Whether other processes have dropped the entry because someone else had used its numbers.
        self.void = False
        # Whether relay in has read the entry, and the entry was not void.
        self.back = False


class Relay:
    """A hub for serve_ws that connects this process's hub to the hubs of other processes.

    hub: a hub that is not running yet. url: the URL of Redis. room: processes with the same room
    name share a stream. timeout: how long Redis may be unavailable, in seconds. maxlen: about how
    many entries the stream keeps. maxbytes: about how many bytes these entries may take.
    max_message_size: in bytes; larger messages are dropped.

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
        # Buffered, so that relay in need not wait for the hub after each message.
        hub.broadcast = Channel(_ROW)
        # A client needs only this, `register`, `unregister` and `farewell` from a hub.
        self.broadcast: Final = _Broadcast(_BATCH)

        self.timeout: Final = timeout
        #: The number of file descriptors to reserve for reconnecting: two for the sockets, six for
        #: name lookups and certificates.
        self.descriptors: Final = 8
        # The counters of Statistics. Only one thread changes each of them, except `reconnects`,
        # which the lock guards.
        names = (each.name for each in fields(Statistics))
        self.figures: Final = SimpleNamespace(**dict.fromkeys(names, 0))
        self.figures.batches = [0] * (MOST.bit_length() + 1)
        #: Why the relay has ended; None while it works. Set by the first thread that fails.
        self.error: RelayError | None = None
        #: Each thread that fails calls this. Set it before `start`.
        self.lost: Callable[[], object] = lambda: None
        self._max_message_size: Final = max_message_size
        self._max_entry_size: Final = maxbytes // 16
        # The time from clock.py when relay out gives up. Set by `finish` and `join`.
        self._deadline = math.inf
        # Tells relay in to end. Set by `join`.
        self._ending = threading.Event()
        self._out = stream.Stream(url, f"gochat:{room}", self._gives_up)
        self._in = stream.Stream(url, f"gochat:{room}", self._ending.is_set)
        # relay in wakes relay out with a value on these channels; one is enough. On `_echo`, it
        # means that the entry in flight has been read; on `_wake`, that there is something to
        # announce.
        self._echo: Channel[None] = Channel(1)
        self._wake: Channel[None] = Channel(1)
        # The entry in flight. Set by relay out, for relay in.
        self._flight: _Flight | None = None
        # Tells relay in to reconnect, because its server may be the wrong one. Set by relay out.
        self._stale = threading.Event()
        # This process's name in the stream. Set by relay out, only while no entry is in flight.
        self._me = _Identity(b"")
        # The monotonic time when relay out last logged that it shortened the stream.
        self._cut_said = -_SAY_TIME
        # The time from clock.py when relay in last read the stream successfully.
        self._heard = clock.now()
        # Every entry appended before this monotonic time has been delivered. Set by relay in.
        self._through = 0.0
        # Guards the next four fields, and the counter `reconnects`. Checking whether `_away` is
        # empty needs no lock.
        self._lock = threading.Lock()
        # The threads that cannot reach Redis.
        self._away: set[str] = set()
        # The recent log lines about outages.
        self._said: set[str] = set()
        # The monotonic time when the last of these lines was logged.
        self._said_at = -_SAY_TIME
        # Whether the current outage has been logged.
        self._told = False

        # Once relay in runs, only it changes the following fields, up to `_row`.
        # The id of the last entry that was read.
        self._position: Id = (0, 0)
        # The monotonic time when this process joined the room.
        self._begun = time.monotonic()
        # The number of entries that had ever been added, up to `_position`.
        self._added = 0
        self._ledger = Ledger((0, 0))
        self._bound = Bound(maxlen, maxbytes)
        # For the next report of missing messages: how many messages of each process are missing,
        # and the number of the first one.
        self._missing: dict[bytes, tuple[int, int]] = {}
        self._missing_said = 0.0
        # For the next report of dropped entries: their number, and a description of the last one.
        self._dropped = 0
        self._dropped_last = ""
        self._dropped_said = -_SAY_TIME
        # The number of messages sent to the hub.
        self._row = 0
        self._threads: list[threading.Thread] = []

    @property
    def register(self) -> Channel[Client]:
        """The hub's `register`."""
        return self.hub.register

    @property
    def unregister(self) -> Channel[Client]:
        """The hub's `unregister`."""
        return self.hub.unregister

    @property
    def farewell(self) -> bytes:
        """The payload for a write pump's close frame."""
        return self.hub.farewell

    @property
    def deaf(self) -> bool:
        """True if the room is cut off: see `Statistics`. Thread: any."""
        late = clock.now() - self._heard > _BLOCK + 2.0
        return late or bool(self._away) or self.error is not None

    def statistics(self) -> Statistics:
        """Return the current state of the relay. Thread: any."""
        batches, process = tuple(self.figures.batches), self._me.process.decode()
        now = {"deaf": self.deaf, "process": process, "batches": batches}
        return Statistics(**vars(self.figures) | now)

    # Start and shutdown. One thread calls these methods, in this order.

    def start(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Join the room and start both threads. The hub may already be running.

        stopped: returns True if the chat is shutting down, in which case no thread is started.
        Raises RelayError if Redis rejects the password, if joining fails for longer than the
        timeout, or if a thread cannot be started.
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
        except stream.RefusedError:  # no permission for MEMORY: count existing entries as 0 bytes
            size = 0
        self._bound.begin(info.length, size)
        self._introduce()
        self._position = started(self._me.process)
        self._ledger = Ledger(self._position)
        self._added = info.added + 1
        self._heard, self._begun = clock.now(), time.monotonic()

    def finish(self, deadline: float) -> None:
        """Set a deadline for messages that wait for Redis. deadline: a time from clock.py.

        After the deadline, clients' messages are dropped, so that no client waits for Redis. If the
        relay is deaf, they are dropped immediately. Call this while clients are being disconnected.
        """
        self._deadline = 0.0 if self.deaf else deadline

    def close(self) -> None:
        """Make further sends to `broadcast` fail. Call once, after all clients have left."""
        self.broadcast.close()

    def join(self, deadline: float) -> None:
        """Append the waiting messages, then end both threads.

        Call after `close`, while the hub is still running. deadline: a time from clock.py, after
        which messages still waiting are dropped. Then the threads have five more seconds to end.
        The log names a thread that does not end in time.
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
        """Do a thread's work. If the work fails, end the relay."""
        try:
            work()
            return
        except (stream.EndedError, AbandonedChannelError):  # the server reports that a hub ended
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
        due = next_announcement()
        while True:
            channel, message, ok = select(self.broadcast, self._wake, deadline=due)
            if channel is None:
                self._append([])
                due = next_announcement()
            elif channel is self._wake:
                due = min(due, time.monotonic() + _NEWS_WAIT)
            elif not ok:
                return
            else:
                messages = [message, *self.broadcast.drain()]
                if busy:
                    self._gather(messages)
                busy = len(messages) > 1
                for part in self._parts(messages):
                    self._append(part)

    def _gather(self, messages: list[bytes]) -> None:
        """Collect more messages for a moment."""
        deadline = time.monotonic() + _GATHER
        while len(messages) < _BATCH:
            _, message, ok = select(self.broadcast, deadline=deadline)
            if not ok:
                return
            messages += [message, *self.broadcast.drain()]

    def _parts(self, messages: list[bytes]) -> Iterator[list[bytes]]:
        """Drop invalid messages, and split the others into entries of an acceptable size.

        There are at most 2 * _BATCH messages, and an entry may contain more than that.
        """
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
            if part and size + len(message) > self._max_entry_size:
                yield part
                part, size = [], 0
            part.append(message)
            size += len(message)
        if part:
            yield part

    def _append(self, messages: list[bytes]) -> None:
        """Append an entry and wait until relay in has read it.

        If someone else has used this process's name in the meantime, other processes may have
        dropped the entry as a duplicate. In that case, the entry is appended again under a new
        name. Raises EndedError or RelayError.
        """
        figures = self.figures
        if messages:
            figures.batches[len(messages).bit_length()] += 1
            figures.messages_out += len(messages)
        begin = clock.now()
        flight = _Flight(self._me, messages)
        flight.void = self._me.spoilt
        for pause in backoff():
            added = 0.0
            try:
                if flight.void:
                    self._introduce()
                    flight = _Flight(self._me, messages)
                self._flight = flight
                self._add(self._fields(flight))
                figures.entries_out += 1
                added = time.monotonic()
            except stream.StreamError as error:
                self._out.drop()
                self._fails("out", begin, error)
            if self._is_back(flight, begin, added, pause):
                break
            figures.repeated += 1
        self._works("out")
        if messages:
            figures.echo = clock.now() - begin

    def _introduce(self) -> None:
        """Append an announcement that gives this process a new name. Raises StreamError."""
        name = os.urandom(6).hex().encode()
        place = self._add(announcement(name, 1, {}))
        self._me = _Identity(b"%b.%b" % (text_of(place).encode(), name))

    def _is_back(self, flight: _Flight, begin: float, added: float, pause: float) -> bool:
        """Wait until relay in has read an entry. Return False if the entry must be appended again.

        begin: the time from clock.py when the first attempt began. added: the monotonic time when
        Redis acknowledged the entry; 0 if Redis did not. pause: in seconds.

        If Redis did not acknowledge the entry, the stream may or may not contain it, so it is
        appended again after the pause. If Redis did acknowledge it, the entry counts as lost once
        relay in has read everything appended up to that time without finding the entry. Raises
        EndedError or RelayError.
        """
        until = time.monotonic() + pause
        while True:
            # Read `_through` before `back` and `void`, because relay in sets those two first. If
            # this thread read them first, relay in could set `_through` and one of them between the
            # two reads, and the entry would count as lost.
            through = self._through
            if flight.back or (added and flight.void):
                return flight.back
            now = time.monotonic()
            if added and through > added:
                # The two connections may be to different servers.
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
        bases = {name: number for name, number, when in me.newcomers if when > oldest}
        return announcement(me.process, flight.first, bases)

    def _add(self, fields: Sequence[bytes | int]) -> Id:
        """Append an entry. Raises StreamError.

        When Redis is out of memory, it refuses every XADD, even an XADD that would trim the stream.
        It still accepts XTRIM, so the stream is cut in half, repeatedly, until XADD succeeds.
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
                # The sizes and the number of entries depend on other writers, so they are estimated
                # anew for each read.
                count = max(1, min(2 + 2 * len(entries), _COUNT, _BYTES // largest))
                # Set after the deliveries, so that a slow hub does not count as an outage of Redis.
                self._heard = clock.now()
                self._report(time.monotonic())
        finally:
            self._report(float("inf"))

    def _check(self) -> None:
        """Measure the lag. If the last id has decreased, read the stream from its beginning."""
        info = self._in.info()
        if info.last < self._position:
            text = "relay: the stream has gone back from %s to %s"
            log.error(text, text_of(self._position), text_of(info.last))
            self._begin_again(info.last)
            self._added = info.added - info.length
        figures = self.figures
        if info.last <= self._position:
            self._added = info.added
            figures.behind, figures.lag = 0, 0.0
        else:
            figures.behind = max(1, info.added - self._added)
            begin = self._position[0] or info.last[0]
            figures.lag = (info.last[0] - begin) / 1000

    def _begin_again(self, last: Id) -> None:
        """Read the stream from its beginning, because its last id has decreased.

        This happens when Redis restarts empty or with older data. last: the new last id.

        `_take` skips entries with ids up to `_ledger.since`, because they are older than this
        process. After a restart of Redis, `_ledger.since` is too high if the ids in the lost stream
        were ahead of the server's clock. So it is lowered to the id that the clock gives for the
        time when this process joined, or to `last` if the new stream is also ahead of the clock.
        """
        clock = self._in.clock()
        age = int((time.monotonic() - self._begun) * 1000)
        begun = last if last > clock else (clock[0] - age, 0)
        self._ledger.since = min(self._ledger.since, begun)
        self._position = (0, 0)
        self._bound.begin()
        # Other processes may not have this process's last messages. An announcement shows the gap.
        self._wake.try_send(None)

    def _deliver(self, entry: Entry) -> None:
        self._position = entry.id
        self._added += 1
        self.figures.entries_in += 1
        self._bound.add(entry.size)
        me, flight = self._me, self._flight
        if entry.process != me.process:
            self._send(self._take(entry, me))
        elif flight is not None and is_of(flight, me, entry):
            flight.void = entry.length > 0 and entry.first <= me.last
            me.last = max(me.last, entry.first + entry.length - 1)
            if not flight.void:
                self._send(entry.messages)
                flight.back = True
            self._echo.try_send(None)
        else:
            self._take_own(entry, me)

    def _send(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            self.hub.broadcast.send(message)
            self._row += 1
            if self._row % _ROW == 0:
                turns.gosched()

    def _take_own(self, entry: Entry, me: _Identity) -> None:
        """Handle an entry under this process's name that is not the entry in flight.

        The entry is a duplicate of an earlier one, or someone else has written it. In the latter
        case, other processes have counted its numbers as seen, and would drop this process's
        messages with the same numbers. So this process must no longer use the name.
        """
        last = entry.first + entry.length - 1
        if last <= me.last:
            self.figures.doubles += entry.length
            return
        self._ledger.take(me.process, entry.first, entry.length)
        # Set `spoilt` first, so that relay out does not number an entry after a forged one.
        me.spoilt = True
        me.last = last
        self._drop(entry, "under the name of this process, but not written by it")

    def _take(self, entry: Entry, me: _Identity) -> list[bytes]:
        """Return the new messages of another process's entry."""
        process, first, ledger = entry.process, entry.first, self._ledger
        if not process:
            return self._drop(entry, entry.fault)
        if not ledger.knows(process):
            if entry.id <= ledger.since:
                return []  # written before this process joined
            if started(process) == entry.id:
                newcomer = process, me.last, time.monotonic()
                me.newcomers = [*me.newcomers, newcomer][-_NEWCOMERS:]
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

    # Rate-limited reports in the log.

    def _drop(self, entry: Entry, why: str) -> list[bytes]:
        """Count an entry as dropped, in whole or in part. Returns an empty list."""
        self.figures.invalid += 1
        self._dropped += 1
        self._dropped_last = f"{text_of(entry.id)}: {why}"
        return []

    def _note_missing(self, process: bytes, count: int, number: int) -> None:
        """Count missing messages of a process. number: the number of the first one."""
        if not 0 < count <= _WIDEST_GAP:
            return
        self.figures.missing += count
        before, number = self._missing.get(process, (0, number))
        self._missing[process] = before + count, number

    def _report(self, now: float) -> None:
        """Log missing messages and dropped entries, unless the previous report is too recent."""
        if self._missing and now - self._missing_said >= _MISSING_TIME:
            self._missing_said = now
            # Processes heard from only once come last, because their names may be invented.
            processes = sorted(self._missing, key=self._ledger.is_new)
            for process in processes[:_MISSING_LINES]:
                count, number = self._missing.pop(process)
                text = "relay: %d messages of process %s are missing, from number %d on"
                log.error(text, count, process.decode(), number)
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

    # Outages. Thread: both.

    def _fails(self, which: str, since: float, error: object) -> None:
        """Record that a thread cannot reach Redis. Raises RelayError after the timeout.

        since: the time from clock.py when the outage began. That clock does not count time while
        this process is suspended.
        """
        text = text_of_error(error)
        with self._lock:
            self._away.add(which)
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
        if which not in self._away:
            return
        with self._lock:
            self._away.remove(which)
            if not self._away:
                self.figures.reconnects += 1
                if self._told:
                    self._told = False
                    log.info("relay: Redis is back")


def is_of(flight: _Flight, me: _Identity, entry: Entry) -> bool:
    return (
        not flight.back
        and not flight.void
        and flight.me is me
        and (flight.first, len(flight.messages)) == (entry.first, entry.length)
        and flight.messages == entry.messages
    )


def next_announcement() -> float:
    return time.monotonic() + _ANNOUNCE * random.uniform(0.8, 1.0)


def backoff() -> Iterator[float]:
    """Yield pauses between attempts, in seconds. They double up to a limit, with some jitter."""
    low, high = _BACKOFF
    while True:
        yield low * (0.5 + random.random())
        low = min(2 * low, high)


def text_of_error(error: object) -> str:
    """Return an error as one line for the log. Redis may send any text."""
    return one_line(str(error) or type(error).__name__)[:200]

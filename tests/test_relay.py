"""The relay, which connects the rooms of several processes through a real Redis."""

from __future__ import annotations

import os
import random
import re
import resource
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from gochat import Hub, HubError, Server, Settings, make_app, running
from gochat.ops.metrics import health_app
from gochat.relay.bound import Bound
from gochat.relay.entry import Entry, announcement, batch, entry_of, started
from gochat.relay.ledger import Ledger, Verdict
from gochat.relay.relay import Relay, RelayError
from gochat.relay.stream import Stream

from .redis_support import TESTED, Node, Proxy, Redis, at_work, node
from .support import (
    PATIENCE,
    SEED,
    Gochat,
    Peer,
    free_port,
    in_background,
    join,
    make_certificate,
    parted,
    wait_until,
)


@pytest.fixture(scope="module", params=TESTED)
def server(request: pytest.FixtureRequest) -> str:
    """The server to test with: Redis or Valkey."""
    return str(request.param)


@pytest.fixture(scope="module")
def shared(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis shared by tests that do not disturb it. Each test uses its own room."""
    with Redis(tmp_path_factory.mktemp("redis"), server=server) as made:
        yield made


@pytest.fixture
def own(server: str, tmp_path: Path) -> Iterator[Redis]:
    """A Redis for one test, without persistence."""
    with Redis(tmp_path, server=server) as made:
        yield made


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits of a relay that has lost Redis."""
    monkeypatch.setattr("gochat.relay.relay._BACKOFF", (0.005, 0.1))
    monkeypatch.setattr("gochat.relay.stream._ANSWER_WAIT", 0.5)


# The ledger: which messages a process has received, and which are missing.


#: Names of processes. A name begins with the id of the process's first entry.
OLD, NEW = b"4-9.00000000000a", b"5-1.00000000000b"


def test_ledger_takes_each_message_once() -> None:
    """The ledger recognizes repeated messages and counts missing ones."""
    ledger = Ledger((5, 0))
    assert ledger.take(NEW, 1, 3) == Verdict(False, 0)
    assert ledger.take(NEW, 1, 3) == Verdict(True, 0)
    assert ledger.take(NEW, 2, 4) == Verdict(True, 0)
    assert ledger.take(NEW, 9, 1) == Verdict(False, 3)
    assert ledger.take(NEW, 6, 3) == Verdict(True, 0)


def test_ledger_learns_from_an_announcement() -> None:
    """Announcing the next number reveals missing messages, and does not count as a message."""
    ledger = Ledger((5, 0))
    assert ledger.take(NEW, 1, 0) == Verdict(False, 0)
    assert ledger.take(NEW, 4, 0) == Verdict(False, 3)
    assert ledger.take(NEW, 4, 0) == Verdict(False, 0)
    assert ledger.take(NEW, 4, 1) == Verdict(False, 0)
    assert ledger.take(NEW, 2, 0) == Verdict(True, 0)


def test_ledger_knows_who_was_there_before() -> None:
    """A gap before a process's first message counts only if the process started after ours."""
    ledger = Ledger((5, 0))
    assert ledger.take(OLD, 100, 1) == Verdict(False, 0)
    assert ledger.take(OLD, 102, 1) == Verdict(False, 1)
    assert ledger.take(NEW, 3, 1) == Verdict(False, 2)


def test_ledger_learns_where_others_were() -> None:
    """Once the number that an older process had reached is known, a gap after it is counted."""
    ledger = Ledger((5, 0))
    assert ledger.begins(OLD, 90) == 0
    assert ledger.take(OLD, 100, 1) == Verdict(False, 9)
    ledger = Ledger((5, 0))
    assert ledger.take(OLD, 100, 1) == Verdict(False, 0)
    assert ledger.begins(OLD, 90) == 9
    assert ledger.begins(OLD, 90) == 0
    assert ledger.take(OLD, 101, 1) == Verdict(False, 0)


def test_ledger_forgets_who_was_not_heard_for_long() -> None:
    """Of the processes heard from only once, the ledger remembers the last thousand."""
    ledger = Ledger((2, 0))
    for number in range(1001):
        ledger.take(b"1-%d.000000000000" % number, 7, 1)
    assert not ledger.knows(b"1-0.000000000000")
    assert ledger.begins(b"1-0.000000000000", 3) == 0
    assert ledger.knows(b"1-1000.000000000000")
    assert ledger.begins(b"1-1000.000000000000", 3) == 3


def test_ledger_keeps_who_was_heard_again() -> None:
    """Processes heard from only once do not displace those heard from more often."""
    ledger = Ledger((5, 0))
    ledger.take(NEW, 1, 1)
    assert ledger.is_new(NEW)
    ledger.take(NEW, 2, 1)
    ledger.take(OLD, 7, 1)
    ledger.take(OLD, 8, 1)
    for number in range(5000):
        ledger.take(b"6-%d.000000000000" % number, 7, 1)
    assert not ledger.is_new(NEW)
    assert not ledger.is_new(OLD)
    assert ledger.take(NEW, 2, 1) == Verdict(True, 0)
    assert ledger.begins(OLD, 3) == 3
    names = [b"6-%d.00000000000a" % number for number in range(1000)]
    for name in names:
        for _ in range(2):
            ledger.take(name, 7, 1)
    assert not any(map(ledger.is_new, names))
    assert not ledger.knows(NEW)


# The bound: how many entries the stream keeps.


def test_bound_by_entries() -> None:
    bound = Bound(1000, 1 << 30)
    bound.begin()
    for _ in range(5000):
        bound.add(1)
        assert bound.length == 1000


def test_bound_by_bytes() -> None:
    bound = Bound(10_000, 64_000)
    bound.begin()
    for _ in range(1000):
        bound.add(640)
    assert 90 <= bound.length <= 100
    for _ in range(20_000):
        bound.add(2)
    assert bound.length == 10_000
    for _ in range(100):
        bound.add(640)
    assert bound.length < 200
    bound.add(1_000_000)
    assert bound.length == 1


def test_bound_of_what_is_there() -> None:
    """Entries already in the stream count toward the limit and are trimmed gradually."""
    bound = Bound(10_000, 64_000)
    bound.begin(6400, 32_000)
    assert bound.length == 10_000
    bound.begin(6400, 128_000)
    assert 3000 <= bound.length <= 3200
    for _ in range(20):
        bound.add(640)
    assert 2500 <= bound.length <= 2700


# Entries from other writers.

NAME = b"1-2.0123456789ab"


@pytest.mark.parametrize(
    "fields",
    [
        {b"hello": b"world"},
        {b"p": NAME},
        {b"p": NAME, b"n": b"one", b"m": b"x"},
        {b"p": NAME, b"n": b"0", b"m": b"x"},
        {b"p": NAME, b"n": b"-1", b"m": b"x"},
        {b"p": NAME, b"n": b" 1", b"m": b"x"},
        {b"p": NAME, b"n": "\u0661".encode(), b"m": b"x"},
        {b"p": NAME, b"n": b"9" * 19, b"m": b"x"},
        {b"p": NAME, b"n": b"9" * 400, b"m": b"x"},
        {b"p": b"\x1b[31m\n", b"n": b"1", b"m": b"x"},
        {b"p": NAME + b"\n", b"n": b"1", b"m": b"x"},
        {b"p": b"x" * 1000, b"n": b"1", b"m": b"x"},
        {b"p": b"", b"n": b"1", b"m": b"x"},
    ],
    ids=str,
)
def test_what_no_gochat_has_made(fields: dict[bytes, bytes]) -> None:
    """An entry with an invalid process or number is rejected."""
    flat = [text for pair in fields.items() for text in pair]
    made = entry_of(b"7-8", flat, 512)
    assert made.process == b""
    assert made.messages == []
    assert made.fault == "not an entry by gochat"


@pytest.mark.parametrize(
    ("text", "taken", "fault"),
    [
        (b"\xff", [], "a message that is not UTF-8"),
        (b"a\n\xed\xa0\x80\nb", [b"a", b"b"], "a message that is not UTF-8"),
        (b"a\n" + b"x" * 513, [b"a"], "a message of more than 512 bytes"),
        (b"x" * 10_000_000, [], "a message of more than 512 bytes"),
        (b"\n" * 256, [], "more than 256 messages in one entry"),
    ],
    ids=["byte", "surrogate", "second too long", "10 MB", "too many"],
)
def test_messages_that_are_not_taken(text: bytes, taken: list[bytes], fault: str) -> None:
    """Messages that no client can send are dropped, but still use up a number."""
    made = entry_of(b"7-8", [b"p", NAME, b"n", b"5", b"m", text], 512)
    assert (made.process, made.first, made.length) == (NAME, 5, text.count(b"\n") + 1)
    assert made.messages == taken
    assert made.fault == fault


def test_what_is_written_is_read() -> None:
    """An entry is read as it was written. A process's name contains the id of its first entry."""

    def read(fields: Sequence[bytes | int]) -> Entry:
        return entry_of(b"7-8", [str(f).encode() if isinstance(f, int) else f for f in fields], 9)

    messages = [b"a", b"", "\u00e4".encode() * 4]
    made = read(batch(NAME, 3, messages))
    assert (made.id, made.process, made.first, made.length) == ((7, 8), NAME, 3, 3)
    assert made.messages == messages
    assert made.fault == ""
    made = read(announcement(NAME, 6, {OLD: 0, NEW: 17}))
    assert (made.process, made.first, made.length, made.messages) == (NAME, 6, 0, [])
    assert made.bases == {OLD: 0, NEW: 17}
    made = read(announcement(b"0123456789ab", 1, {}))
    assert made.process == b"7-8.0123456789ab"
    assert started(made.process) == (7, 8)


# One room.


def test_all_hear_all_in_one_order(shared: Redis, request: pytest.FixtureRequest) -> None:
    """All processes receive all messages in the same order.

    Each sender's messages stay in order.
    """
    room = request.node.name.replace("[", ".").replace("]", "")
    with node(shared.url, room) as a, node(shared.url, room) as b, node(shared.url, room) as c:
        senders = [
            threading.Thread(target=each.say, args=[f"{name} {i}" for i in range(500)])
            for name, each in (("a", a), ("b", b), ("c", c), ("also a", a))
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(PATIENCE)
        heard = a.hears(2000)
        assert heard == b.hears(2000) == c.hears(2000)
        assert len(set(heard)) == 2000
        for name in ("a", "b", "c", "also a"):
            mine = [text for text in heard if text.rpartition(" ")[0] == name]
            assert mine == [f"{name} {i}" for i in range(500)]
        assert a.relay.statistics().missing == a.relay.statistics().doubles == 0


def test_rooms_do_not_hear_each_other(shared: Redis) -> None:
    with node(shared.url, "x") as x, node(shared.url, "y") as y:
        x.say("in x")
        y.say("in y")
        assert x.hears(1) == ["in x"]
        assert y.hears(1) == ["in y"]
        x.say("more")
        assert x.hears(2) == ["in x", "more"]
        assert y.hears(1) == ["in y"]


def test_what_was_said_before_is_not_heard(shared: Redis) -> None:
    with node(shared.url, "late") as a:
        a.say("before")
        a.hears(1)
        with node(shared.url, "late") as b:
            a.say("after", "", "last")
            assert b.hears(3) == ["after", "", "last"]


def test_a_strange_entry_is_passed_over(shared: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """Entries that gochat did not write are ignored."""
    with node(shared.url, "strange") as a:
        shared.do("XADD", "gochat:strange", "*", "hello", "world")
        shared.do("XADD", "gochat:strange", "*", "p", "x", "n", "one", "m", "text")
        a.say("text")
        assert a.hears(1) == ["text"]
        assert a.relay.statistics().invalid == 2
    assert "relay: entries dropped, whole or in part: 1, the last " in caplog.text
    assert "not an entry by gochat" in caplog.text


def test_the_stream_is_bounded(shared: Redis) -> None:
    """The stream's length stays near its limit."""
    stream = Stream(shared.url, "gochat:bounded", lambda: False)
    for number in range(1, 1001):
        stream.append(batch(b"1-0.0123456789ab", number, [b"x"]), 100)
    length = shared.do("XLEN", "gochat:bounded")
    assert isinstance(length, int)
    assert 100 <= length < 300
    stream.drop()


def test_a_batch_is_one_entry(shared: Redis) -> None:
    """Messages that arrive while a batch is being sent form the next batch."""
    with node(shared.url, "batch") as a:
        a.say(*(str(i) for i in range(1000)))
        assert a.hears(1000) == [str(i) for i in range(1000)]
        assert a.relay.statistics().entries_out < 500


# Redis fails and recovers.


#: Number of connections that break before Redis answers.
CUTS = 300


def test_cuts_between_the_append_and_its_answer(own: Redis) -> None:
    """Each message arrives once, even if the connection often breaks before Redis answers."""
    chance = random.Random(SEED)

    def cut(data: bytes, from_server: bool) -> bool:
        # Redis answers an append with a string, the entry's id. Only strings begin with "$".
        return from_server and data.startswith(b"$") and proxy.cuts < CUTS and chance.random() < 0.9

    with Proxy(own.port, cut) as proxy, node(proxy.url) as a, node(own.url) as b:
        said: list[str] = []
        while proxy.cuts < CUTS:
            said.append(f"message {len(said)}")
            a.say(said[-1])
        assert b.hears(len(said)) == said
        assert a.hears(len(said)) == said
        assert b.relay.statistics().missing == 0
        assert proxy.cuts >= CUTS, f"GOCHAT_SEED={SEED}"


def test_cuts_of_anything(own: Redis) -> None:
    """No message is lost, repeated or reordered when connections are cut at random."""
    chance = random.Random(SEED)

    def cut(_: bytes, from_server: bool) -> bool:  # noqa: ARG001
        return chance.random() < 0.05

    with Proxy(own.port, cut) as proxy, node(proxy.url) as a, node(proxy.url) as b:
        said = [f"message {i}" for i in range(1000)]
        for text in said:
            a.say(text)
        assert a.hears(1000) == b.hears(1000) == said, f"GOCHAT_SEED={SEED}"
        assert proxy.cuts


def test_clients_killed_by_redis(own: Redis) -> None:
    with node(own.url) as a, node(own.url) as b:
        for i in range(20):
            a.say(f"a {i}")
            own.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            b.say(f"b {i}")
        heard = a.hears(40)
        assert heard == b.hears(40)
        assert Counter(heard) == Counter(f"{n} {i}" for n in "ab" for i in range(20))


def test_many_outages_are_few_lines(
    own: Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short outages in quick succession share log lines. A longer one gets its own."""
    caplog.set_level("INFO")
    with node(own.url) as a:
        count = 0
        while a.relay.statistics().reconnects <= 16:
            own.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            a.say("text")
            count += 1
            a.hears(count)
        wait_until(lambda: not a.relay.deaf)
        assert caplog.text.count("Redis is back") <= 8
        monkeypatch.setattr("gochat.relay.relay._SAY_TIME", 1.0)
        for _ in range(2):
            allow = refuse_by_replicas(own)
            with in_background(lambda: a.say("text")):
                wait_until(lambda: "NOREPLICAS" in caplog.text, "what Redis said")
                allow()
            wait_until(lambda: caplog.messages[-1] == "relay: Redis is back")
            caplog.clear()


def test_a_pause(own: Redis) -> None:
    with node(own.url) as a, node(own.url) as b:
        a.say("before")
        assert b.hears(1) == ["before"]
        own.pause()
        talking = threading.Thread(target=a.say, args=[f"m {i}" for i in range(200)])
        talking.start()
        wait_until(lambda: a.relay.deaf, "a notice that Redis is away")
        own.go_on()
        talking.join(PATIENCE)
        expected = ["before", *(f"m {i}" for i in range(200))]
        assert a.hears(201) == b.hears(201) == expected
        wait_until(lambda: not a.relay.deaf)


@pytest.mark.parametrize(
    "options",
    [(), ("--appendonly", "yes"), ("--appendonly", "yes", "--appendfsync", "always")],
    ids=["no persistence", "everysec", "always"],
)
def test_a_crash(options: tuple[str, ...], server: str, tmp_path: Path) -> None:
    """If Redis is killed and restarted, each process gets all its own messages once.

    Without persistence, a process may miss messages from another process, but counts them.
    """
    made = Redis(tmp_path, *options, server=server)
    with made as redis, node(redis.url) as a, node(redis.url) as b:
        talking = threading.Thread(target=a.say, args=[f"a {i}" for i in range(2000)])
        talking.start()
        b.say(*(f"b {i}" for i in range(100)))
        wait_until(lambda: a.relay.statistics().messages_out > 200)
        redis.kill()
        redis.start()
        talking.join(PATIENCE)
        # If messages before these were lost, these reveal the gap.
        a.say("the end of a")
        b.say("the end of b")
        ends = {"the end of a", "the end of b"}
        wait_until(lambda: ends <= set(a.hears(0)) and ends <= set(b.hears(0)), "the ends")
        for each in (a, b):
            heard = each.hears(2102 - each.relay.statistics().missing)
            assert len(heard) == len(set(heard)) == 2102 - each.relay.statistics().missing
            # A process never loses its own messages, because it repeats them until they come back.
            assert heard.count("a 1999") == 1
            mine = [text for text in heard if text.startswith("a ")]
            assert mine == sorted(mine, key=lambda text: int(text[2:]))
            assert each.relay.statistics().missing == 0 or not options


def test_a_flush_is_noticed(
    own: Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FLUSHALL is noticed and logged even in a silent room, and the room keeps working."""
    monkeypatch.setattr("gochat.relay.relay._ANNOUNCE", 1000.0)
    monkeypatch.setattr("gochat.relay.relay._NEWS_WAIT", 1000.0)
    with node(own.url) as a, node(own.url) as b:
        a.say("before")
        assert b.hears(1) == ["before"]
        own.do("FLUSHALL")
        wait_until(lambda: "the stream has gone back" in caplog.text, "a line in the log")
        a.say("after")
        assert a.hears(2) == b.hears(2) == ["before", "after"]


def test_what_is_slow_to_come_back_is_waited_for(own: Redis) -> None:
    """A process does not append an entry again while it is in the stream."""
    gate = threading.Event()
    with node(own.url) as a, node(own.url) as b:
        a.hold(gate)
        a.say("once")
        assert b.hears(1) == ["once"]
        wait_until(lambda: a.relay.deaf, "a reader that is late")
        assert b.relay.statistics().doubles == a.relay.statistics().repeated == 0
        gate.set()
        a.say("last")
        assert a.hears(2) == ["once", "last"]
        assert not a.relay.deaf


def test_what_is_lost_is_appended_again(own: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process appends an entry again if Redis loses it before the process has read it."""
    # With an announcement in flight, `a` could not append anything while it does not read.
    monkeypatch.setattr("gochat.relay.relay._ANNOUNCE", 1000.0)
    monkeypatch.setattr("gochat.relay.relay._NEWS_WAIT", 1000.0)
    gate = threading.Event()
    with node(own.url) as a, node(own.url) as b:
        holding = a.hold(gate)
        b.say("held")
        assert holding.wait(PATIENCE)
        a.say("lost")
        assert b.hears(2) == ["held", "lost"]
        own.do("XTRIM", "gochat:main", "MAXLEN", 0)
        gate.set()
        assert a.hears(2) == ["held", "lost"]
        assert a.relay.statistics().repeated > 0
        a.say("last")
        assert a.hears(3) == b.hears(3) == ["held", "lost", "last"]
        assert a.relay.statistics().missing == b.relay.statistics().missing == 0


def test_an_older_stream_brings_nothing_old(own: Redis) -> None:
    """A process ignores entries written before it joined, even in a restored stream."""
    name = "0-1.0123456789ab"
    own.do("XADD", "gochat:main", "5-5", "p", name, "n", 1, "m", "old")
    with node(own.url) as a:
        own.do("DEL", "gochat:main")
        own.do("XADD", "gochat:main", "1-1", "p", name, "n", 1, "m", "old")
        wait_until(lambda: a.relay.statistics().entries_in == 1, "the old entry")
        a.say("new")
        assert a.hears(1) == ["new"]


def test_what_was_trimmed_is_said(own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """Messages trimmed before a slow process reads them are counted and logged."""
    gate = threading.Event()
    with node(own.url) as a, node(own.url) as b:
        a.say("first")
        assert b.hears(1) == ["first"]
        holding = b.hold(gate)
        a.say("second")
        assert holding.wait(PATIENCE)
        for i in range(10):
            a.say(f"lost {i}")
            a.hears(3 + i)
        own.do("XTRIM", "gochat:main", "MAXLEN", "0")
        gate.set()
        a.say("last")
        assert b.hears(3) == ["first", "second", "last"]
        assert b.relay.statistics().missing == 10
    assert "10 messages of process " in caplog.text
    assert "from number 3 on" in caplog.text


def test_a_roll_back(server: str, tmp_path: Path) -> None:
    """If Redis returns to an older state, every message still arrives once."""
    always = ("--appendonly", "yes", "--appendfsync", "always")
    made = Redis(tmp_path, *always, server=server)
    with made as redis, node(redis.url) as a, node(redis.url) as b:
        a.say("one", "two")
        assert b.hears(2) == ["one", "two"]
        redis.kill()
        (older,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
        kept = older.read_bytes()
        redis.start()
        a.say("three", "four")
        assert b.hears(4)[2:] == ["three", "four"]
        redis.kill()
        (newer,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
        newer.write_bytes(kept)
        redis.start()
        a.say("five")
        assert a.hears(5) == b.hears(5) == ["one", "two", "three", "four", "five"]


# Redis answers but refuses to append.


def refuse_by_replicas(redis: Redis) -> Callable[[], object]:
    redis.do("CONFIG", "SET", "min-replicas-to-write", 1)
    return lambda: redis.do("CONFIG", "SET", "min-replicas-to-write", 0)


def refuse_by_acl(redis: Redis) -> Callable[[], object]:
    redis.do("ACL", "SETUSER", "default", "-xadd")
    return lambda: redis.do("ACL", "SETUSER", "default", "+xadd")


def refuse_by_memory(redis: Redis) -> Callable[[], object]:
    redis.do("CONFIG", "SET", "maxmemory", 1)
    return lambda: redis.do("CONFIG", "SET", "maxmemory", 0)


def refuse_by_role(redis: Redis) -> Callable[[], object]:
    redis.do("REPLICAOF", "127.0.0.1", redis.port)
    return lambda: redis.do("REPLICAOF", "NO", "ONE")


def refuse_by_ids(redis: Redis) -> Callable[[], object]:
    redis.do("XADD", "gochat:main", f"{2**64 - 1}-{2**64 - 1}", "hello", "world")
    return lambda: redis.do("DEL", "gochat:main")


REFUSALS = {
    "NOREPLICAS": refuse_by_replicas,
    "no permission": refuse_by_acl,
    "command not allowed when used memory": refuse_by_memory,
    "read only replica": refuse_by_role,
    "exhausted the last possible ID": refuse_by_ids,
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_refused_writes_are_an_outage(
    reason: str, own: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused appends are reported. Once Redis accepts appends again, all messages arrive."""
    caplog.set_level("INFO")
    with node(own.url) as a, node(own.url) as b:
        a.say("before")
        assert b.hears(1) == ["before"]
        allow = REFUSALS[reason](own)
        with in_background(lambda: a.say(*(str(i) for i in range(200)))):
            wait_until(lambda: a.relay.deaf, "a notice that Redis takes nothing")
            wait_until(lambda: reason in caplog.text, "what Redis said")
            allow()
        expected = ["before", *(str(i) for i in range(200))]
        assert a.hears(201) == b.hears(201) == expected
        wait_until(lambda: not a.relay.deaf and not b.relay.deaf)
        assert a.relay.statistics().missing == b.relay.statistics().missing == 0
    assert caplog.text.count(reason) <= 4


def test_a_silent_room_that_takes_nothing(own: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gochat.relay.relay._ANNOUNCE", 0.2)
    with node(own.url) as a:
        allow = refuse_by_replicas(own)
        wait_until(lambda: a.relay.deaf)
        allow()
        wait_until(lambda: not a.relay.deaf)


def test_refused_for_too_long(own: Redis) -> None:
    """If Redis refuses appends beyond the timeout, the relay ends."""
    with node(own.url, timeout=0.5) as a:
        ended = threading.Event()
        a.relay.lost = ended.set
        refuse_by_replicas(own)
        a.say("text")
        assert ended.wait(PATIENCE)
        assert str(a.relay.error).startswith("relay: Redis refuses: NOREPLICAS")
        assert a.relay.deaf


def test_refused_from_the_beginning(own: Redis) -> None:
    refuse_by_acl(own)
    with (
        pytest.raises(RelayError, match=r"relay: Redis refuses: .*no permission"),
        node(own.url, timeout=0.3),
    ):
        pass


def test_a_user_who_may_do_little(own: Redis) -> None:
    """The Redis permissions listed in the documentation are sufficient.

    The relay works even without MEMORY USAGE.
    """
    own.do("ACL", "SETUSER", "ann", "on", ">tulip", "~gochat:*", *MAY)
    url = own.url.replace("redis://", "redis://ann:tulip@")
    with node(url) as a:
        a.say("text")
        assert a.hears(1) == ["text"]
        own.do("DEL", "gochat:main")
        wait_until(lambda: a.relay.statistics().behind == 0)
        a.say("more")
        assert a.hears(2) == ["text", "more"]
    own.do("ACL", "SETUSER", "ann", "-memory")
    with node(url) as a:
        a.say("text")
        assert a.hears(1) == ["text"]


#: The permissions that docs/run/scale.md lists.
MAY = ("+xadd", "+xread", "+xtrim", "+xinfo|stream", "+memory|usage", "+time")


def test_memory_that_the_room_has_filled(own: Redis) -> None:
    """If the stream fills Redis's memory, the relay trims the stream and loses no message."""
    used = own.memory()
    own.do("CONFIG", "SET", "maxmemory", used + (4 << 20))
    said = [f"{i} ".ljust(512, "x") for i in range(20_000)]
    with node(own.url, maxbytes=1 << 30) as a, node(own.url, maxbytes=1 << 30) as b:
        a.say(*said)
        assert a.hears(20_000) == b.hears(20_000) == said
        assert a.relay.statistics().missing == b.relay.statistics().missing == 0


def test_memory_that_stays_short(own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """If memory stays short, the log says so only occasionally."""
    with node(own.url) as a:
        a.say("first")
        a.hears(1)
        own.do("CONFIG", "SET", "maxmemory", own.memory() + (500 << 10))
        a.say(*("x" * 512 for _ in range(5000)))
        a.hears(5001)
    assert 1 <= caplog.text.count("is out of memory") <= 5


def test_memory_that_was_full_before(own: Redis) -> None:
    """A process that starts while Redis's memory is full trims the stream, and can then send."""
    fill(own, "gochat:main", 4000)
    own.do("CONFIG", "SET", "maxmemory", own.memory())
    with node(own.url) as a:
        a.say("text")
        assert a.hears(1) == ["text"]
        assert not a.relay.deaf


def fill(redis: Redis, key: str, count: int) -> None:
    """Append entries of 1,000 bytes in the name of a process that has ended."""
    name = b"1-1.0123456789ab"
    stream = Stream(redis.url, key, lambda: False)
    for number in range(1, 2 * count, 2):
        stream.append(batch(name, number, [b"x" * 500] * 2), 10**9)
    stream.drop()


def test_the_stream_is_bounded_in_bytes(own: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of the stream stays near its limit, however large the messages are."""
    monkeypatch.setattr("gochat.relay.relay._ANNOUNCE", 0.2)
    own.do("CONFIG", "SET", "stream-node-max-bytes", 512)
    fill(own, "gochat:main", 1000)
    size = 100_000
    with node(own.url, maxbytes=size) as a, node(own.url, maxbytes=size) as b:
        assert own.size("gochat:main") < 1.5 * size
        for each in (a, b, a):
            each.say(*(["x" * 500] * 1000))
            each.say(*(["x"] * 1000))
            each.hears(2000)
            wait_until(lambda: own.size("gochat:main") < 1.5 * size, "a small stream")
    with node(own.url, maxbytes=size) as a:
        fill(own, "gochat:main", 500)
        wait_until(lambda: own.size("gochat:main") < 1.5 * size, "a small stream")


def test_a_full_channel_is_one_entry(own: Redis) -> None:
    """All waiting messages go into one entry, even if there are more than the channel holds."""
    gate = threading.Event()
    with node(own.url) as a:
        holding = a.hold(gate)
        a.say("held")
        assert holding.wait(PATIENCE)
        before = a.relay.statistics().entries_out
        with in_background(lambda: a.say(*map(str, range(65)))):
            wait_until(
                lambda: len(a.relay.broadcast) == 64 and a.relay.broadcast.statistics().senders > 0
            )
            gate.set()
        assert a.hears(66) == ["held", *map(str, range(65))]
        assert a.relay.statistics().batches[(65).bit_length()] == 1
        assert a.relay.statistics().entries_out <= before + 2


def test_batches_are_bounded_in_bytes(own: Redis) -> None:
    with node(own.url, maxbytes=16 * 512) as a, node(own.url) as b:
        said = [str(i).ljust(512) for i in range(100)]
        a.say(*said)
        assert a.hears(100) == b.hears(100) == said
        assert b.relay.statistics().entries_in >= 100


def test_a_planned_failover(server: str, tmp_path: Path) -> None:
    """When Redis's address moves to a new primary, the relay follows and loses no message."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    with (
        Redis(tmp_path / "old", server=server) as old,
        Redis(tmp_path / "new", server=server) as new,
        Proxy(old.port) as proxy,
        node(proxy.url) as a,
        node(proxy.url) as b,
    ):
        new.do("REPLICAOF", "127.0.0.1", old.port)
        a.say("one")
        assert b.hears(1) == ["one"]
        wait_until(lambda: bool(new.do("EXISTS", "gochat:main")), "a copy")
        new.do("REPLICAOF", "NO", "ONE")
        proxy.server = new.port
        old.do("REPLICAOF", "127.0.0.1", new.port)
        a.say("two")
        b.say("three")
        assert sorted(a.hears(3)) == sorted(b.hears(3)) == ["one", "three", "two"]
        old.kill()
        a.say("four")
        assert a.hears(4)[3] == b.hears(4)[3] == "four"


def test_two_servers_at_once(server: str, tmp_path: Path) -> None:
    """The relay recovers from writing to one server while reading from another."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    with (
        Redis(tmp_path / "old", server=server) as old,
        Redis(tmp_path / "new", server=server) as new,
        Proxy(old.port) as proxy,
        node(proxy.url) as a,
    ):
        a.say("one")
        assert a.hears(1) == ["one"]
        proxy.server = new.port
        clients = str(old.do("CLIENT", "LIST"))
        (writer,) = re.findall(r"id=(\d+) [^\n]* cmd=xadd ", clients.replace("\\n", "\n"))
        old.do("CLIENT", "KILL", "ID", writer)
        a.say("two")
        assert a.hears(2) == ["one", "two"]
        assert new.do("EXISTS", "gochat:main")


# Losses are reported.


def test_what_a_newcomer_has_missed(own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """A new process notices a gap even if it has never received a message from the sender."""
    gate = threading.Event()
    with node(own.url) as a:
        a.say(*(f"before {i}" for i in range(10)))
        a.hears(10)
        with node(own.url) as b:
            wait_until(lambda: b.relay.statistics().entries_in > 0, "what a announces")
            holding = b.hold(gate)
            b.say("held")
            assert holding.wait(PATIENCE)
            a.say(*(f"lost {i}" for i in range(50)))
            a.hears(61)
            own.do("XTRIM", "gochat:main", "MAXLEN", 0)
            gate.set()
            wait_until(lambda: b.relay.statistics().missing == 50, "a report of what is missing")
        assert a.relay.statistics().missing == 0
    assert re.search(r"50 messages of process \S+ are missing, from number 11 on", caplog.text)


def test_what_a_newcomer_has_missed_at_once(own: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gap is reported even if the first message that arrives comes after it."""
    monkeypatch.setattr("gochat.relay.relay._ANNOUNCE", 0.5)
    gate = threading.Event()
    with node(own.url) as a:
        a.say(*(f"before {i}" for i in range(10)))
        a.hears(10)
        b = Node(own.url)
        holding = b.hold(gate)
        with at_work(b):
            b.say("held")
            assert holding.wait(PATIENCE)
            a.say(*(f"lost {i}" for i in range(50)))
            a.hears(61)
            own.do("XTRIM", "gochat:main", "MAXLEN", 0)
            a.say("after")
            gate.set()
            assert b.hears(2) == ["held", "after"]
            wait_until(lambda: b.relay.statistics().missing == 50, "a report of what is missing")


def announced(name: bytes) -> list[bytes | int]:
    """Return the fields of a process's first entry."""
    return announcement(name, 1, {})


def test_what_is_missing_at_the_end(own: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing messages are reported even if their sender says nothing more."""
    monkeypatch.setattr("gochat.relay.relay._ANNOUNCE", 0.5)
    gate = threading.Event()
    with node(own.url) as a, node(own.url) as b:
        a.say("first")
        assert b.hears(1) == ["first"]
        holding = b.hold(gate)
        b.say("held")
        assert holding.wait(PATIENCE)
        a.say("lost", "lost too")
        a.hears(4)
        own.do("XTRIM", "gochat:main", "MAXLEN", 0)
        gate.set()
        wait_until(lambda: b.relay.statistics().missing == 2, "a report of what is missing")


def test_a_stream_ahead_of_the_clock(own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """If a stream with ids from the future is lost, a new one replaces it."""
    own.do("XADD", "gochat:main", "99999999999999-0", *announced(b"0123456789ab"))
    with node(own.url) as a, node(own.url) as b:
        a.say("one")
        assert b.hears(1) == ["one"]
        own.do("DEL", "gochat:main")
        a.say("two")
        b.say("three")
        assert sorted(a.hears(3)) == sorted(b.hears(3)) == ["one", "three", "two"]
        with node(own.url) as c:
            c.say("four")
            assert a.hears(4)[3] == b.hears(4)[3] == c.hears(1)[0] == "four"
        wait_until(lambda: not a.relay.deaf and not b.relay.deaf)
        assert a.relay.statistics().missing == b.relay.statistics().missing == 0
    assert "the stream has gone back" in caplog.text


# Forged and invalid entries.


def forge(redis: Redis, process: bytes, number: int, text: bytes, *more: int) -> None:
    """Write an entry, and one for each number in `more`, otherwise identical."""
    redis.do_all(
        ("XADD", "gochat:main", "*", "p", process, "n", each, "m", text) for each in (number, *more)
    )


@pytest.mark.parametrize("number", [6, 1_000_000, 10**18 - 1], ids=["next", "high", "highest"])
def test_a_forged_number(number: int, own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """If an entry is forged in a process's name, the process takes a new name. Nothing is lost."""
    with node(own.url) as a, node(own.url) as b:
        a.say(*(f"m {i}" for i in range(5)))
        assert b.hears(5) == [f"m {i}" for i in range(5)]
        forge(own, a.name, number, b"forged")
        said = [f"n {i}" for i in range(200)]
        a.say(*said)
        assert a.hears(205)[5:] == said
        wait_until(lambda: b.hears(0)[-1] == said[-1], "the last one")
        assert [text for text in b.hears(0) if text != "forged"][5:] == said
        assert a.relay.statistics().invalid == 1
        assert not a.relay.deaf
    assert "under the name of this process" in caplog.text


@pytest.mark.parametrize("number", [1, 2, 1_000_000])
def test_a_forged_number_before_the_real_one(number: int, own: Redis) -> None:
    """A forged entry does not replace the real one with the same number."""
    forged: list[int] = []

    def forestall(data: bytes, from_server: bool) -> bool:
        if not from_server and b"XADD" in data and b"\r\nm\r\n" in data and not forged:
            forged.append(number)
            forge(own, a.name, number, b"forged")
        return False

    with Proxy(own.port, forestall) as proxy, node(proxy.url) as a, node(own.url) as b:
        a.say("one", "two", "three")
        assert a.hears(3) == ["one", "two", "three"]
        wait_until(lambda: b.hears(0)[-1:] == ["three"], "the last one")
        assert [text for text in b.hears(0) if text != "forged"] == ["one", "two", "three"]


def test_a_forged_entry_is_no_answer(own: Redis) -> None:
    """A process does not mistake a forged entry for its own coming back."""
    with node(own.url) as a, node(own.url) as b:
        allow = refuse_by_replicas(own)
        with in_background(lambda: a.say("real")):
            wait_until(lambda: a.relay.deaf)
            allow()
            forge(own, a.name, 1, b"forged")
            forge(own, a.name, 7, b"forged")
            wait_until(lambda: "real" in a.hears(0), "the real one")
            wait_until(lambda: "real" in b.hears(0), "the real one")


def test_entries_that_harm_nobody(own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """Invalid bytes, huge messages and strange names reach neither the clients nor the log."""
    name = b"99-0.0123456789ab"
    with node(own.url) as a:
        a.say("before")
        for text in (b"\xff\xfe", b"x" * 10_000_000, b"\n" * 500, b"x" * 513):
            forge(own, name, 1, text)
        for process in (b"\x1b[31mred", b"a\nb", b"x" * 100_000, name + b"\n"):
            forge(own, process, 1, b"text")
        own.do("XADD", "gochat:main", "*", "p", name, "n", b"9" * 400, "m", "text")
        forge(own, name, 1 << 40, b"text")
        gate = threading.Event()
        holding = a.hold(gate)
        forge(own, b"99-1.0123456789ab", 1, b"held")
        assert holding.wait(PATIENCE)
        for _ in range(300):
            own.do("XADD", "gochat:main", "*", "x", "y")
        gate.set()
        a.say("after")
        assert a.hears(3) == ["before", "held", "after"]
        assert a.relay.statistics().invalid == 310
        assert a.relay.statistics().missing < 1 << 30
    assert 1 <= caplog.text.count("entries dropped") <= 3
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_few_large_entries_are_read_at_once(own: Redis) -> None:
    """A single read returns at most a few megabytes, however many large entries are waiting."""
    read = [0]

    def weigh(data: bytes, from_server: bool) -> bool:
        if b"XREAD" in data:
            read.append(0)
        read[-1] += len(data) if from_server else 0
        return False

    gate = threading.Event()
    # The limit must exceed these entries' size, or the next announcement would trim the stream.
    with Proxy(own.port, weigh) as proxy, node(proxy.url, maxbytes=256 << 20) as a:
        holding = a.hold(gate)
        forge(own, b"99-0.0123456789ab", 1, b"held")
        assert holding.wait(PATIENCE)
        forge(own, b"99-0.0123456789ab", 2, b"x" * (2 << 20), *range(3, 34))
        forge(own, b"99-0.0123456789ab", 34, b"text", *range(35, 1034))
        gate.set()
        assert a.hears(1001) == ["held"] + 1000 * ["text"]
    assert 2 << 20 < max(read) < 10 << 20
    assert len(read) < 150


def test_a_message_too_large_for_some(own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """A process drops only the messages that exceed its own size limit."""
    with node(own.url, max_message_size=1000) as a, node(own.url) as b:
        large = "x" * 513
        gate = threading.Event()
        holding = a.hold(gate)
        a.say("held")
        assert holding.wait(PATIENCE)
        a.say("one", large, "two", large)
        gate.set()
        assert a.hears(5)[1:] == ["one", large, "two", large]
        a.say("three")
        assert b.hears(4) == ["held", "one", "two", "three"]
        assert b.relay.statistics().invalid == 1
        assert b.relay.statistics().missing == 0
    assert "relay: entries dropped, whole or in part: 1, the last" in caplog.text


def test_many_gaps_are_few_lines(own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """Many gaps produce few log lines, but every missing message is counted."""
    with node(own.url) as a:
        forge(own, b"99-0.0123456789ab", 2, b"text", *range(4, 202, 2))
        for number in range(50):
            forge(own, b"99-0.0123456789%02d" % number, 1, b"text", 3)
        a.hears(200)
        assert a.relay.statistics().missing == 149
    assert said_to_be_missing(caplog.text) == 149
    assert caplog.text.count("missing") <= 63


def test_a_flood_of_names(own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """Invented names hide neither gaps nor real processes."""
    with node(own.url) as a, node(own.url) as b:
        for number in range(2):
            a.say(f"m {number}")
            b.hears(number + 1)
        names = (b"9999999999999-0.%012x" % number for number in range(3000))
        own.do_all(("XADD", "gochat:main", "*", "p", name, "n", 8, "m", "x") for name in names)
        forge(own, a.name, 20, b"x")
        b.hears(3003)
        wait_until(lambda: b.relay.statistics().missing == 3000 * 7 + 17, "all gaps")
        wait_until(
            lambda: f"17 messages of process {a.name.decode()}" in caplog.text, "the real gap"
        )
        a.say("last")
        assert b.hears(3004)[3003] == "last"
        assert b.relay.statistics().doubles == 0
    assert re.search(r"relay: \d+ messages of \d+ more processes are missing", caplog.text)
    missing = a.relay.statistics().missing + b.relay.statistics().missing
    assert said_to_be_missing(caplog.text) == missing


def test_a_crowd_that_is_made_up(own: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand fake processes barely delay the announcements."""
    monkeypatch.setattr("gochat.relay.relay._ANNOUNCE", 0.3)
    with node(own.url) as a:
        names = [b"99-0.%012x" % number for number in range(1000)]
        for count in (1, 2):
            own.do_all(("XADD", "gochat:main", "*", "p", n, "n", count, "m", "x") for n in names)
        a.hears(2000)
        before = a.relay.statistics().entries_out
        wait_until(lambda: a.relay.statistics().entries_out > before + 3, "announcements")


def said_to_be_missing(log: str) -> int:
    """Return the number of missing messages that the log reports."""
    return sum(map(int, re.findall(r"(\d+) messages of (?:process|\d+ more)", log)))


def test_what_a_relay_does_not_take(own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """The relay logs and drops a message that no client can send."""
    with node(own.url) as a:
        for value in (b"two\nlines", b"\xff", b"x" * 513):
            a.relay.broadcast.send(value)
        wait_until(lambda: caplog.text.count("is dropped") == 3)
        a.say("text")
        assert a.hears(1) == ["text"]
    assert caplog.text.count("was sent to the relay, and is dropped") == 3


def test_a_new_name_is_refused(own: Redis) -> None:
    """A process that needs a new name gets one as soon as Redis accepts entries again."""
    with node(own.url) as a, node(own.url) as b:
        forge(own, a.name, 7, b"forged")
        wait_until(lambda: a.relay.statistics().invalid == 1)
        allow = refuse_by_replicas(own)
        with in_background(lambda: a.say("text")):
            wait_until(lambda: a.relay.deaf)
            allow()
            assert a.hears(1) == ["text"]
        wait_until(lambda: "text" in b.hears(0))
        wait_until(lambda: not a.relay.deaf)


# A thread fails.


@pytest.mark.parametrize("broken", ["append", "read"])
@pytest.mark.parametrize("error", [ValueError("a strange reply"), SystemExit()], ids=repr)
def test_a_thread_that_fails(
    broken: str,
    error: BaseException,
    own: Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If a relay thread fails, the relay logs that, disconnects all clients and ends the chat."""
    hub = Hub()
    relay = Relay(hub, own.url)
    server = Server("127.0.0.1:0", make_app(relay))
    health: list[str] = []
    errors: list[RelayError] = []

    def fail(*_: object) -> None:
        raise error

    def chat() -> None:
        with running(server, hub, relay=relay):
            server.serve_forever()
            list(health_app(hub, relay)({}, lambda status, *_: health.append(status)))  # type: ignore[arg-type]

    def run() -> None:
        try:
            chat()
        except RelayError as caught:
            errors.append(caught)

    with in_background(run), join(server.port) as peer:
        peer.send("before")
        assert peer.messages(1) == ["before"]
        monkeypatch.setattr(Stream, broken, fail)
        peer.send("text")
        assert parted(peer).code == 1013
    assert errors == [relay.error]
    assert "has failed" in str(errors[0])
    assert health == ["503 Service Unavailable"]
    assert relay.deaf
    (record,) = (record for record in caplog.records if record.exc_info)
    assert record.getMessage() == "relay: a thread has failed"


def test_a_hub_that_is_gone(own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """If the hub no longer receives, the relay ends without an error of its own."""
    with node(own.url) as a, node(own.url) as b:
        a.relay.hub.broadcast.abandon()
        b.say("text")
        assert b.hears(1) == ["text"]
        wait_until(lambda: a.relay.statistics().entries_in > 0)
    assert a.relay.error is None
    assert "has failed" not in caplog.text


class Stuck(Hub):
    """A hub that registers one client, then blocks until a gate opens."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self.gate = gate

    def run(self) -> None:
        client, _ = self.register.recv()
        assert client is not None
        self.clients[client] = True
        self.gate.wait(PATIENCE)
        super().run()


@pytest.mark.parametrize("opened", [True, False])
def test_a_hub_that_is_stuck(opened: bool, own: Redis) -> None:
    """While the hub is stuck, health checks fail, no message is lost, and shutdown works."""
    gate = threading.Event()
    hub = Stuck(gate)
    relay = Relay(hub, own.url)
    server = Server("127.0.0.1:0", make_app(relay, settings=Settings(send_buffer=1000)))
    said = [f"m {i}" for i in range(1000)]
    errors: list[HubError] = []

    def health() -> str:
        app = health_app(hub, relay, 0.1)
        return b"".join(app({}, lambda *_: lambda _: None)).decode()

    def chat() -> None:
        try:
            with running(server, hub, relay=relay, timeout=0.5):
                server.serve_forever()
        except HubError as caught:
            errors.append(caught)

    with in_background(chat), ExitStack() as stack, Peer(server.port) as peer:
        stack.callback(server.stop)
        peer.open()
        for text in said:
            peer.send(text)
        wait_until(lambda: hub.broadcast.full() and relay.deaf, "a relay that waits")
        assert health() == "the hub does not answer\n"
        if opened:
            gate.set()
            assert peer.messages(1000) == said
            wait_until(lambda: health() == "ok\n", "health")
    gate.set()
    assert [str(error) for error in errors] == ["the hub does not answer"][opened:]
    assert relay.error is None
    wait_until(lambda: not [t for t in threading.enumerate() if t.name in RELAY], "the end")


#: Names of the threads of a relay and its hub.
RELAY = ("relay in", "relay out", "hub")


@pytest.mark.measured
def test_a_thread_that_fails_ends_the_command(own: Redis) -> None:
    """The command says which thread has failed and exits with status 1."""
    fault = """
import threading
from gochat.relay import relay
def fail(*_):
    raise ValueError("a mistake")
relay.Relay._take_own = relay.is_of = fail
"""
    with Gochat("--relay", own.url, fault=fault) as chat, Peer(chat.port) as peer:
        peer.open()
        peer.send("text")
        assert parted(peer).code == 1013
        assert chat.wait() == 1
        assert chat.lines[-1].startswith("gochat: relay: the thread 'relay in' has failed: a mist")


# Out of descriptors.


@pytest.mark.measured
@pytest.mark.parametrize("spoken", [True, False], ids=["spoken", "silent"])
def test_descriptors_for_the_relay(spoken: bool, own: Redis) -> None:
    """The relay can reconnect even if clients hold all other descriptors."""
    with Gochat("--relay", own.url) as chat, join(chat.port) as peer:
        if spoken:
            peer.send("before")
            assert peer.messages(1) == ["before"]
        most = len(os.listdir(f"/proc/{chat.process.pid}/fd")) + 20
        resource.prlimit(chat.process.pid, resource.RLIMIT_NOFILE, (most, most))
        with ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(Peer(chat.port)).sock.sendall(b"GET /ws HTTP/1.1\r\n")
            wait_until(lambda: chat.logged("Too many open files"), "no more descriptors")
            for number in range(6):
                own.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                peer.send(f"m {number}")
                assert peer.messages(1) == [f"m {number}"]


def test_descriptors_that_others_want(own: Redis) -> None:
    """Clients that keep connecting cannot take the relay's descriptors during a slow DNS lookup."""
    fault = """
import socket, time
lookup = socket.getaddrinfo
def slow(*args, **options):
    time.sleep(0.3)
    return lookup(*args, **options)
socket.getaddrinfo = slow
"""
    flags = ("--relay", own.url, "--read-header-timeout=600")
    with Gochat(*flags, fault=fault) as chat, join(chat.port) as peer:
        most = len(os.listdir(f"/proc/{chat.process.pid}/fd")) + 20
        resource.prlimit(chat.process.pid, resource.RLIMIT_NOFILE, (most, most))
        enough = threading.Event()
        with ExitStack() as stack:
            stack.enter_context(in_background(lambda: take_descriptors(chat.port, enough)))
            stack.callback(enough.set)
            wait_until(lambda: chat.logged("Too many open files"), "no more descriptors")
            for number in range(3):
                own.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                peer.send(f"m {number}")
                assert peer.messages(1) == [f"m {number}"]


def take_descriptors(port: int, enough: threading.Event) -> None:
    """Keep connecting, and hold every accepted connection."""
    with ExitStack() as held:
        while not enough.is_set():
            peer = Peer(port)
            peer.sock.settimeout(0.1)
            with suppress(ConnectionError):
                peer.sock.sendall(b"GET /ws HTTP/1.1\r\n")
                try:
                    peer.sock.recv(1)
                except TimeoutError:
                    held.enter_context(peer)
                    continue
            peer.sock.close()


# Shutdown.


def test_away_for_too_long(own: Redis) -> None:
    """If Redis is away beyond the timeout, the relay ends with an error."""
    with node(own.url, timeout=0.5) as a:
        ended = threading.Event()
        a.relay.lost = ended.set
        own.kill()
        assert ended.wait(PATIENCE)
        assert isinstance(a.relay.error, RelayError)
        assert a.relay.deaf


def test_never_there(tmp_path: Path) -> None:
    redis = Redis(tmp_path)
    redis.kill()
    with pytest.raises(RelayError), node(redis.url, timeout=0.3):
        pass


def test_an_option_that_is_not_known() -> None:
    """An unknown option in the URL raises ValueError, whose message does not contain the URL."""
    with pytest.raises(ValueError, match="an unknown option"):
        Relay(Hub(), "redis://:tulip@127.0.0.1:1/0?foo=bar")


def test_a_stop_before_the_beginning(tmp_path: Path) -> None:
    """A relay that is stopped before it reaches Redis starts no thread."""
    redis = Redis(tmp_path)
    redis.kill()
    relay = Relay(Hub(), redis.url)
    relay.start(lambda: True)
    assert not [t for t in threading.enumerate() if t.name.startswith("relay")]


def test_no_threads_for_a_relay(own: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started, the relay raises RelayError."""

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    relay = Relay(Hub(), own.url)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RelayError, match="can't start new thread"):
            relay.start()
    relay.close()
    relay.join(0)


def test_a_key_that_is_no_stream(own: Redis) -> None:
    own.do("SET", "gochat:main", "text")
    with pytest.raises(RelayError, match="WRONGTYPE"), node(own.url, timeout=0.1):
        pass


def test_sends_that_wait_fail_at_the_end(own: Redis) -> None:
    """A pump waiting to send when the relay closes gets ConnectionAbortedError."""
    errors: list[Exception] = []

    def talk() -> None:
        try:
            a.say(*map(str, range(10_000)))
        except ConnectionAbortedError as error:
            errors.append(error)

    with node(own.url) as a:
        own.pause()
        with in_background(talk):
            wait_until(lambda: len(a.relay.broadcast) == 64, "a full channel")
            a.relay.broadcast.close()
        own.go_on()
        a.relay.close = lambda: None  # type: ignore[method-assign]
    assert errors


def test_nobody_waits_for_redis_at_the_end(own: Redis) -> None:
    """After `finish`, the relay drops messages, so that no pump waits for Redis."""
    with node(own.url) as a:
        own.pause()
        with in_background(lambda: a.say(*map(str, range(1000)))):
            wait_until(lambda: a.relay.broadcast.statistics().senders > 0, "a pump that waits")
            a.relay.finish(time.monotonic())
        own.go_on()
        assert a.relay.error is None


def test_a_thread_of_the_relay_that_does_not_end(
    own: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Shutdown logs a thread that still waits for Redis, and goes on without it."""
    monkeypatch.setattr("gochat.relay.relay._END_WAIT", 0.0)
    with node(own.url):
        own.pause()
    assert "relay: the thread 'relay in' does not end" in caplog.messages
    own.go_on()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("relay")])


# The command.


def relayed(redis: Redis, *flags: str, room: str) -> Gochat:
    return Gochat("--relay", redis.url, "--room", room, *flags)


def test_two_commands_are_one_room(shared: Redis) -> None:
    with relayed(shared, room="two") as a, relayed(shared, room="two") as b:
        with join(a.port) as ann, join(b.port) as bob:
            hello = ann.messages(1)
            assert hello[0].startswith("hello from ")
            ann.send("hi")
            assert ann.messages(1) == bob.messages(1) == ["hi"]
            bob.send("ho")
            assert ann.messages(1) == bob.messages(1) == ["ho"]
        assert a.stop() == b.stop() == 0


@pytest.mark.measured
def test_the_command_without_redis(own: Redis) -> None:
    """If Redis is away for too long, clients get 1013 and the command exits with status 1."""
    with relayed(own, "--relay-timeout=0.5", room="gone") as chat, join(chat.port) as peer:
        own.kill()
        while (frame := peer.read_frame()).opcode != 8:
            pass
        assert frame.code == 1013
        assert chat.wait() == 1
        assert chat.lines[-1].startswith("gochat: relay: Redis is away")


def test_the_end_with_redis_paused(own: Redis) -> None:
    """SIGTERM ends the command in time even if Redis does not answer."""
    flags = ("--shutdown-timeout=1", "--relay-timeout=600", "--write-wait=600")
    with relayed(own, *flags, room="paused") as chat, join(chat.port) as peer:
        own.pause()
        for i in range(200):
            peer.send(f"m {i}")
        chat.process.terminate()
        assert chat.wait() == 0
        own.go_on()


def test_an_outage_longer_than_the_pong_wait(own: Redis) -> None:
    """While Redis is away, clients stay connected even though nobody reads their pongs."""
    flags = ("--pong-wait=1", "--ping-period=0.2", "--relay-timeout=30")
    with relayed(own, *flags, room="pongs") as chat, join(chat.port) as peer:
        own.pause()
        stop = time.monotonic() + 2.5
        for i in range(100):
            peer.send(f"m {i}")
        while time.monotonic() < stop:  # the client answers every ping, but nobody reads the pongs
            peer.sock.settimeout(PATIENCE)
            frame = peer.read_frame()
            assert frame.opcode == 9, frame
            peer.send(frame.payload, 10)
        own.go_on()
        assert peer.messages(100) == [f"m {i}" for i in range(100)]


@pytest.mark.measured
def test_secrets_stay_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay's URL can come from the environment or a file. Its password is never logged."""
    with Redis(tmp_path) as redis:
        redis.do("CONFIG", "SET", "requirepass", "tulip")
        url = redis.url.replace("redis://", "redis://:tulip@")
        monkeypatch.setenv("GOCHAT_RELAY", url)
        with Gochat("--room", "secret") as chat, join(chat.port):
            assert "tulip" not in Path(f"/proc/{chat.process.pid}/cmdline").read_text()
            redis.kill()
            wait_until(lambda: chat.logged("relay"))
            chat.process.terminate()
            assert chat.wait() == 0
            assert not chat.logged("tulip")
        monkeypatch.delenv("GOCHAT_RELAY")
        redis.start()
        redis.do("CONFIG", "SET", "requirepass", "tulip")
        file = tmp_path / "url"
        file.write_text(f"{url}\n")
        with Gochat("--relay-file", str(file), "--room", "secret") as chat, join(chat.port):
            pass
        file.write_text(url.replace("tulip", "daisy"))
        os.environ.pop("GOCHAT_RELAY", None)
        with pytest.raises(AssertionError, match="does not serve") as caught:
            Gochat("--relay-file", str(file), "--room", "secret")
        assert "daisy" not in str(caught.value)


def test_tls(tmp_path: Path) -> None:
    """With a rediss:// URL, the relay checks the server's certificate."""
    certificate = make_certificate(tmp_path / "cert.pem", "IP:127.0.0.1")
    port = free_port()
    options = [
        *("--tls-port", str(port), "--tls-cert-file", str(certificate)),
        *("--tls-key-file", str(certificate.with_suffix(".key")), "--tls-auth-clients", "no"),
    ]
    with Redis(tmp_path, *options) as redis:
        redis.do("CONFIG", "SET", "requirepass", "tulip")
        url = f"rediss://:tulip@127.0.0.1:{port}/0"
        with node(f"{url}?ssl_ca_certs={certificate}") as a:
            a.say("hi")
            assert a.hears(1) == ["hi"]
        with pytest.raises(RelayError, match="certificate verify failed"), node(url, timeout=0.1):
            pass


def test_a_backlog_drops_nobody(own: Redis) -> None:
    """After an outage, every client gets the whole backlog, and none is dropped."""
    count, waiting = 1200, 0.5
    with ExitStack() as stack:
        chats = [stack.enter_context(relayed(own, room="backlog")) for _ in range(2)]
        peers = [stack.enter_context(join(chat.port)) for chat in chats for _ in range(4)]
        heard: list[list[str]] = [[] for _ in peers]

        def hear(peer: Peer, mine: list[str]) -> None:
            while len(mine) < count:
                mine += [text for text in peer.read_messages() if text[0].isdigit()]

        def say(peer: Peer, number: int) -> None:
            for each in range(count // 4):
                peer.send(f"{number} {each}")

        for peer, mine in zip(peers, heard, strict=True):
            stack.enter_context(in_background(partial(hear, peer, mine)))
        own.do("CLIENT", "PAUSE", 60_000, "WRITE")
        with ExitStack() as talkers:
            for number in range(4):
                talkers.enter_context(in_background(partial(say, peers[2 * number], number)))
            begin = time.monotonic()
            wait_until(lambda: time.monotonic() - begin > waiting, "a backlog")
            own.do("CLIENT", "UNPAUSE")
    said = [f"{number} {each}" for number in range(4) for each in range(count // 4)]
    for mine in heard:
        assert Counter(mine) == Counter(said)


@pytest.mark.measured
def test_relay_is_in_the_metrics(own: Redis) -> None:
    """The metrics cover the relay, and /healthz reports when Redis is away."""
    flags = ("--metrics-addr=127.0.0.1:0", "--relay-timeout=60")
    with relayed(own, *flags, room="figures") as chat, join(chat.port):
        (port,) = re.findall(r"metrics at http://127.0.0.1:(\d+)/", "\n".join(chat.lines))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            text = response.read().decode()
        assert "gochat_relay_up 1.0" in text
        assert re.search(r"gochat_relay_entries_received_total [1-9]", text)
        assert "gochat_relay_entries_invalid_total 0.0" in text
        assert 'gochat_relay_messages_per_batch_bucket{le="1.0"} 1.0' in text

        def health() -> tuple[int, bytes]:
            with Peer(int(port)) as peer:
                response = peer.request("/healthz")
                return response.status, response.body

        assert health() == (200, b"ok\n")
        own.pause()
        wait_until(lambda: health() == (503, b"the relay is away\n"), "Redis is away")
        own.go_on()
        wait_until(lambda: health() == (200, b"ok\n"), "Redis is back")

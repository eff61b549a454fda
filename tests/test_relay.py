"""The relay: one room on several processes, with a real Redis, in this process and in others."""

from __future__ import annotations

import os
import random
import re
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gochat import Hub
from gochat.relay.ledger import Ledger, Verdict
from gochat.relay.relay import Relay, RelayError
from gochat.relay.stream import Stream

from .redis_support import SERVERS, Proxy, Redis, node
from .support import PATIENCE, SEED, Gochat, Peer, in_background, join, make_certificate, wait_until


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    """Each of the servers that speak the protocol."""
    return str(request.param)


@pytest.fixture(scope="module")
def shared(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis for the tests that do it no harm; each has a room of its own."""
    with Redis(tmp_path_factory.mktemp("redis"), server=server) as made:
        yield made


@pytest.fixture
def own(server: str, tmp_path: Path) -> Iterator[Redis]:
    """A Redis for one test, without persistence."""
    with Redis(tmp_path, server=server) as made:
        yield made


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for when Redis is away, scaled down."""
    monkeypatch.setattr("gochat.relay.relay._BACKOFF", (0.005, 0.1))
    monkeypatch.setattr("gochat.relay.relay._ECHO_WAIT", 0.5)
    monkeypatch.setattr("gochat.relay.stream._ANSWER_WAIT", 0.5)


# Which messages were seen.


def test_ledger_takes_each_message_once() -> None:
    """What was seen is dropped, whole or in part, and what is missing is counted."""
    ledger = Ledger((5, 0))
    assert ledger.take(b"7-0.a", 1, 3) == Verdict(0, 0)
    assert ledger.take(b"7-0.a", 1, 3) == Verdict(3, 0)
    assert ledger.take(b"7-0.a", 2, 4) == Verdict(2, 0)
    assert ledger.take(b"7-0.a", 9, 1) == Verdict(0, 3)
    assert ledger.take(b"7-0.a", 6, 3) == Verdict(3, 0)


def test_ledger_knows_who_was_there_before() -> None:
    """Of a process that is older nothing is missing at first; a younger one begins with 1."""
    ledger = Ledger((5, 0))
    assert ledger.take(b"4-9.old", 100, 1) == Verdict(0, 0)
    assert ledger.take(b"4-9.old", 102, 1) == Verdict(0, 1)
    assert ledger.take(b"5-0.new", 3, 1) == Verdict(0, 2)
    assert ledger.take(b"nonsense", 3, 1) == Verdict(0, 0)


def test_ledger_forgets_who_was_not_heard_for_long() -> None:
    """Of all processes that ever were, only the last thousand are remembered."""
    ledger = Ledger((0, 0))
    for number in range(1001):
        ledger.take(b"1-0.%d" % number, 1, 1)
    assert not ledger.knows(b"1-0.0")
    assert ledger.knows(b"1-0.1")
    assert ledger.knows(b"1-0.1000")


# One room.


def test_all_hear_all_in_one_order(shared: Redis, request: pytest.FixtureRequest) -> None:
    """What is said at any process comes to all of them, in one order, and each sender's holds."""
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
        assert a.relay.figures.missing == a.relay.figures.doubles == 0


def test_rooms_do_not_hear_each_other(shared: Redis) -> None:
    """Two rooms on one Redis are two rooms."""
    with node(shared.url, "x") as x, node(shared.url, "y") as y:
        x.say("in x")
        y.say("in y")
        assert x.hears(1) == ["in x"]
        assert y.hears(1) == ["in y"]
        x.say("more")
        assert x.hears(2) == ["in x", "more"]
        assert y.hears(1) == ["in y"]


def test_what_was_said_before_is_not_heard(shared: Redis) -> None:
    """A process that begins hears what is said from then on."""
    with node(shared.url, "late") as a:
        a.say("before")
        a.hears(1)
        with node(shared.url, "late") as b:
            a.say("after", "", "last")
            assert b.hears(3) == ["after", "", "last"]


def test_a_strange_entry_is_passed_over(shared: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """What others write to the stream harms nobody."""
    with node(shared.url, "strange") as a:
        shared.do("XADD", "gochat:strange", "*", "hello", "world")
        shared.do("XADD", "gochat:strange", "*", "p", "x", "n", "one", "m", "text")
        a.say("text")
        assert a.hears(1) == ["text"]
    assert caplog.text.count("is no entry of a gochat") == 2


def test_the_stream_is_bounded(shared: Redis) -> None:
    """The stream keeps about so many entries as it is told to."""
    stream = Stream(shared.url, "gochat:bounded", lambda: False)
    for number in range(1, 1001):
        stream.append(100, b"1-0.a", number, [b"x"])
    length = shared.do("XLEN", "gochat:bounded")
    assert isinstance(length, int)
    assert 100 <= length < 300
    stream.close()


def test_a_batch_is_one_entry(shared: Redis) -> None:
    """What waits while a batch is on its way goes out together, in one entry."""
    with node(shared.url, "batch") as a:
        a.say(*(str(i) for i in range(1000)))
        assert a.hears(1000) == [str(i) for i in range(1000)]
        assert a.relay.figures.entries_out < 500


# Redis goes, and comes back.


def test_cuts_between_the_append_and_its_answer(own: Redis) -> None:
    """A thousand times the connection goes when Redis has the entry: each message comes once."""
    chance = random.Random(SEED)

    def cut(data: bytes, from_server: bool) -> bool:
        # An id is all of the answer to an append.
        return from_server and data.startswith(b"$") and proxy.cuts < 1000 and chance.random() < 0.9

    with Proxy(own.port, cut) as proxy, node(proxy.url) as a, node(own.url) as b:
        said: list[str] = []
        while proxy.cuts < 1000:
            said.append(f"message {len(said)}")
            a.say(said[-1])
        assert b.hears(len(said)) == said
        assert a.hears(len(said)) == said
        assert b.relay.figures.missing == 0
        assert proxy.cuts >= 1000, f"GOCHAT_SEED={SEED}"


def test_cuts_of_anything(own: Redis) -> None:
    """Wherever the connections are cut, nothing is lost, doubled or out of order."""
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
    """CLIENT KILL costs nothing."""
    with node(own.url) as a, node(own.url) as b:
        for i in range(20):
            a.say(f"a {i}")
            own.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            b.say(f"b {i}")
        heard = a.hears(40)
        assert heard == b.hears(40)
        assert Counter(heard) == Counter(f"{n} {i}" for n in "ab" for i in range(20))


def test_a_pause(own: Redis) -> None:
    """A Redis that stops for longer than an answer may take, and goes on, loses nothing."""
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
    """A Redis that is killed and comes back: what its clients said all comes, once."""
    made = Redis(tmp_path, *options, server=server)
    with made as redis, node(redis.url) as a, node(redis.url) as b:
        talking = threading.Thread(target=a.say, args=[f"a {i}" for i in range(2000)])
        talking.start()
        b.say(*(f"b {i}" for i in range(100)))
        wait_until(lambda: a.relay.figures.messages_out > 200)
        redis.kill()
        redis.start()
        talking.join(PATIENCE)
        # What is lost shows as a gap before these.
        a.say("the end of a")
        b.say("the end of b")
        ends = {"the end of a", "the end of b"}
        wait_until(lambda: ends <= set(a.hears(0)) and ends <= set(b.hears(0)), "the ends")
        for each in (a, b):
            heard = each.hears(2102 - each.relay.figures.missing)
            assert len(heard) == len(set(heard)) == 2102 - each.relay.figures.missing
            # Its own are never lost: what has not come back is appended again.
            assert heard.count("a 1999") == 1
            mine = [text for text in heard if text.startswith("a ")]
            assert mine == sorted(mine, key=lambda text: int(text[2:]))
            assert each.relay.figures.missing == 0 or not options


def test_a_flush_is_noticed(own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """FLUSHALL under a silent room is noticed and said, and the room goes on."""
    with node(own.url) as a, node(own.url) as b:
        a.say("before")
        assert b.hears(1) == ["before"]
        own.do("FLUSHALL")
        wait_until(lambda: "the stream has gone back" in caplog.text, "a line in the log")
        a.say("after")
        assert a.hears(2) == b.hears(2) == ["before", "after"]


def test_what_does_not_come_back_is_appended_again(
    own: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that is slow to come back is appended again, and heard once all the same."""
    monkeypatch.setattr("gochat.relay.relay._ECHO_WAIT", 0.01)
    gate = threading.Event()
    with node(own.url) as a:
        deliver = a.relay.hub.broadcast.send

        def held(value: bytes) -> None:
            gate.wait(PATIENCE)
            deliver(value)

        a.relay.hub.broadcast.send = held  # type: ignore[method-assign]
        a.say("once")
        wait_until(lambda: a.relay.figures.repeated > 2, "an entry that was appended again")
        gate.set()
        a.say("last")
        assert a.hears(2) == ["once", "last"]
        assert a.relay.figures.doubles > 0


def test_an_older_stream_brings_nothing_old(own: Redis) -> None:
    """What a stream that has gone back holds from before this process is not heard."""
    own.do("XADD", "gochat:main", "5-5", "p", "0-0.old", "n", 1, "m", "old")
    with node(own.url) as a:
        own.do("DEL", "gochat:main")
        own.do("XADD", "gochat:main", "1-1", "p", "0-0.old", "n", 1, "m", "old")
        wait_until(lambda: a.relay.figures.entries_in == 1, "the old entry")
        a.say("new")
        assert a.hears(1) == ["new"]


def test_what_was_trimmed_is_said(own: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """What a slow reader did not get to read is counted, with the process that it is of."""
    gate = threading.Event()
    with node(own.url) as a, node(own.url) as b:
        a.say("first")
        assert b.hears(1) == ["first"]
        deliver = b.relay.hub.broadcast.send

        def held(value: bytes) -> None:
            gate.wait(PATIENCE)
            deliver(value)

        b.relay.hub.broadcast.send = held  # type: ignore[method-assign]
        a.say("second")
        wait_until(lambda: b.relay.figures.entries_in == 2)
        for i in range(10):
            a.say(f"lost {i}")
            a.hears(3 + i)
        own.do("XTRIM", "gochat:main", "MAXLEN", "0")
        gate.set()
        a.say("last")
        assert b.hears(3) == ["first", "second", "last"]
        assert b.relay.figures.missing == 10
    assert "10 messages of process " in caplog.text
    assert "from number 3 on" in caplog.text


def test_a_roll_back(server: str, tmp_path: Path) -> None:
    """An older state of the stream is noticed; what is said then is heard, and nothing twice."""
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


# The end.


def test_away_for_too_long(own: Redis) -> None:
    """A Redis that stays away is the end: the relay says so, and its threads end."""
    with node(own.url, timeout=0.5) as a:
        ended = threading.Event()
        a.relay.lost = ended.set
        own.kill()
        assert ended.wait(PATIENCE)
        assert isinstance(a.relay.error, RelayError)
        assert a.relay.deaf


def test_never_there(tmp_path: Path) -> None:
    """If there is no Redis within the timeout, the relay does not begin."""
    redis = Redis(tmp_path)
    redis.kill()
    with pytest.raises(RelayError), node(redis.url, timeout=0.3):
        pass


def test_an_option_that_is_not_known() -> None:
    """A URL with an option that means nothing is refused, and not repeated."""
    with pytest.raises(ValueError, match="an option that is not known"):
        Relay(Hub(), "redis://:tulip@127.0.0.1:1/0?foo=bar")


def test_a_stop_before_the_beginning(tmp_path: Path) -> None:
    """A relay that is to end before there is a Redis starts nothing."""
    redis = Redis(tmp_path)
    redis.kill()
    relay = Relay(Hub(), redis.url)
    relay.start(lambda: True)
    assert not [t for t in threading.enumerate() if t.name.startswith("relay")]


def test_no_threads_for_a_relay(own: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of threads the relay does not begin, and says so."""

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
    """If the room's key holds something else, the relay does not begin, and says why."""
    own.do("SET", "gochat:main", "text")
    with pytest.raises(RelayError, match="WRONGTYPE"), node(own.url, timeout=0.1):
        pass


def test_sends_that_wait_fail_at_the_end(own: Redis) -> None:
    """A pump that waits to send when the relay ends gets what a lost connection would give it."""
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


def test_a_thread_of_the_relay_that_does_not_end(
    own: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The end does not wait for a thread that waits for Redis, and the log names the thread."""
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
    """Clients of two processes hear each other, and each hears itself once."""
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
    """When Redis is away for too long clients get 1013, and the command ends with the status 1."""
    with relayed(own, "--relay-timeout=0.5", room="gone") as chat, join(chat.port) as peer:
        own.kill()
        while (frame := peer.read_frame()).opcode != 8:
            pass
        assert frame.code == 1013
        assert chat.wait() == 1
        assert chat.lines[-1].startswith("gochat: relay: Redis is away")


def test_the_end_with_redis_paused(own: Redis) -> None:
    """SIGTERM ends the command within the shutdown timeout, also when Redis does not answer."""
    flags = ("--shutdown-timeout=1", "--relay-timeout=600", "--write-wait=600")
    with relayed(own, *flags, room="paused") as chat, join(chat.port) as peer:
        own.pause()
        for i in range(200):
            peer.send(f"m {i}")
        chat.process.terminate()
        assert chat.wait() == 0
        own.go_on()


def test_an_outage_longer_than_the_pong_wait(own: Redis) -> None:
    """Clients whose pumps wait for Redis are not cut for pongs that lie unread behind."""
    flags = ("--pong-wait=1", "--ping-period=0.2", "--relay-timeout=30")
    with relayed(own, *flags, room="pongs") as chat, join(chat.port) as peer:
        own.pause()
        stop = time.monotonic() + 2.5
        for i in range(100):
            peer.send(f"m {i}")
        while time.monotonic() < stop:  # it answers all pings, which nobody reads
            peer.sock.settimeout(PATIENCE)
            frame = peer.read_frame()
            assert frame.opcode == 9, frame
            peer.send(frame.payload, 10)
        own.go_on()
        assert peer.messages(100) == [f"m {i}" for i in range(100)]


@pytest.mark.measured
def test_secrets_stay_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password can come from the environment or a file, and is in no line of the log."""
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
    """Of a rediss:// URL the certificate is checked, and the password goes over TLS."""
    certificate = make_certificate(tmp_path / "cert.pem", "IP:127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
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


@pytest.mark.measured
def test_relay_is_in_the_metrics(own: Redis) -> None:
    """The metrics have figures of the relay, and /healthz says when Redis is away."""
    flags = ("--metrics-addr=127.0.0.1:0", "--relay-timeout=60")
    with relayed(own, *flags, room="figures") as chat, join(chat.port):
        (port,) = re.findall(r"metrics at http://127.0.0.1:(\d+)/", "\n".join(chat.lines))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            text = response.read().decode()
        assert "gochat_relay_up 1.0" in text
        assert "gochat_relay_entries_received_total 1.0" in text
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

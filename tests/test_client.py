"""client.py: both pumps, with a real server and real sockets."""

from __future__ import annotations

import gc
import itertools
import math
import struct
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest

from gochat import Hub, Server, Settings, Upgrader, make_app, make_upgrader, running
from gochat.client import Client
from gochat.golang.bytes import WHITE_SPACE, trim_space
from gochat.golang.http import Hijacker
from gochat.golang.http.handler import Handler
from gochat.golang.runtime.threads.turns import FREE_THREADED

from .support import (
    BINARY,
    CLOSE,
    LOCAL,
    LONG_MESSAGE,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    Gochat,
    Peer,
    Room,
    deaf,
    frame,
    in_background,
    join,
    parted,
    request,
    reset_socket,
    say_long,
    wait_until,
)

# The times of client.go, scaled down. Pings are frequent, so that even on a busy machine a pong
# arrives within the pong wait.
QUICK = Settings(write_wait=0.5, pong_wait=2.0, ping_period=0.1)


def test_settings_are_those_of_client_go() -> None:
    assert Settings() == Settings(10.0, 60.0, 54.0, 512, 256)


@pytest.mark.parametrize("name", ["write_wait", "pong_wait", "ping_period"])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        *(
            (value, "is not a number of seconds above 0")
            for value in (0, -1, 0.0, math.nan, "5", None, True, 5j, Decimal(5))
        ),
        *((value, "is over the longest time, 9223372036 s") for value in (math.inf, 1e10, 10**400)),
    ],
)
def test_times_that_make_no_sense(name: str, value: Any, why: str) -> None:
    """Invalid times are refused with the command's message."""
    with pytest.raises(ValueError) as caught:
        Settings(**{name: value})
    assert str(caught.value) == f"{name}: {value!r} {why}"


@pytest.mark.parametrize("name", ["max_message_size", "send_buffer"])
@pytest.mark.parametrize("value", [0, -1, 1.0, 10**9, math.inf, "5", None, True])
def test_sizes_that_make_no_sense(name: str, value: Any) -> None:
    """Invalid sizes are refused with the command's message."""
    with pytest.raises(ValueError) as caught:
        Settings(**{name: value})
    assert str(caught.value) == f"{name}: {value!r} is not a whole number from 1 to 999999999"


@pytest.mark.parametrize("settings", [{"ping_period": 70}, {"ping_period": 60}, {"pong_wait": 54}])
def test_a_ping_period_that_is_too_long(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"^the ping period \(\d+ s\) must be under the pong wait"):
        Settings(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be under"):
        replace(Settings(), **settings)  # type: ignore[arg-type]


@dataclass(frozen=True)
class OwnSettings(Settings):
    greeting: str = "hi"
    history: int = 0


def test_settings_of_a_subclass() -> None:
    """A subclass's own fields are not checked."""
    assert OwnSettings(pong_wait=70).greeting == "hi"
    with pytest.raises(ValueError, match=r"^write_wait: 0 is not"):
        OwnSettings(write_wait=0)


def test_settings_at_the_limits() -> None:
    """Settings accept every value that the command accepts."""
    Settings(write_wait=1e-3, pong_wait=9e9, ping_period=1, max_message_size=1, send_buffer=10**8)


def test_trim_space_cuts_what_go_cuts() -> None:
    """trim_space removes exactly the characters of Unicode's White_Space, at both ends."""
    # White_Space in Unicode's PropList.txt.
    ranges = [(9, 13), (32, 32), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)]
    ranges += [(0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)]
    space = {chr(c) for first, last in ranges for c in range(first, last + 1)}
    assert set(WHITE_SPACE) == space
    for char in map(chr, itertools.chain(range(0xD800), range(0xE000, 0x10000))):
        text = f"{char}a{char}b{char}".encode()
        assert trim_space(text) == (f"a{char}b".encode() if char in space else text)
    assert trim_space(b" \n ") == b""


@pytest.mark.parametrize(
    ("goodbye", "waits"),
    [
        pytest.param(frame(struct.pack("!H", 1000), CLOSE), True, id="close frame"),
        pytest.param(frame(b"\xff"), True, id="not UTF-8"),
        pytest.param(frame(b"\xff", BINARY), True, id="binary, not UTF-8"),
        pytest.param(frame(b"x" * 513), True, id="too long"),
        pytest.param(b"", False, id="gone"),
        pytest.param(frame(b"?", PING) * 50, False, id="pings, and gone"),
    ],
)
@pytest.mark.skipif(FREE_THREADED, reason="there only the collector frees functions and methods")
def test_a_client_leaves_no_garbage(goodbye: bytes, waits: bool) -> None:
    """A client is freed when its threads end, without the garbage collector."""
    garbage: list[object] = []
    with Room() as room:
        for measured in (False, True):
            gc.collect()
            gc.disable()
            try:
                with join(room.port) as peer:
                    peer.sock.sendall(goodbye)
                    if waits:
                        peer.read_to_end()
                wait_until(lambda: not room.threads(), "the client's threads have ended")
                gc.set_debug(gc.DEBUG_SAVEALL if measured else 0)
                gc.collect()
                garbage += gc.garbage
            finally:
                gc.garbage.clear()
                gc.set_debug(0)
                gc.enable()
    assert not garbage, Counter(map(type, garbage))


def test_two_threads_a_client_and_none_left() -> None:
    """Each client has two threads, named after its address. Both end when it leaves."""
    with Room() as room:
        before = threading.active_count()
        peers = [join(room.port) for _ in range(20)]
        names = sorted(f"{pump} {p.addr}" for pump in ("readPump", "writePump") for p in peers)
        assert room.threads() == names
        assert threading.active_count() == before + 40
        for peer in peers:
            peer.sock.close()
        wait_until(lambda: threading.active_count() == before)
        wait_until(lambda: room.hub.clients == {}, "the hub has heard of it")


def test_everybody_comes_back_at_once() -> None:
    """Two clients chat undisturbed while 200 others are cut off and reconnect."""
    with Room() as room, join(room.port) as ann, join(room.port) as bob, ExitStack() as crowd:
        first = [Peer(room.port) for _ in range(200)]
        for peer in first:
            assert peer.open().status == 101
        wait_until(lambda: len(room.hub.clients) == 202)
        old = set(room.hub.clients)
        for peer in first:
            reset_socket(peer.sock)
        back = [crowd.enter_context(Peer(room.port)) for _ in first]
        for i, peer in enumerate(back):
            peer.sock.sendall(request())
            if i % 10 == 0:
                ann.send(f"{i}")
        assert bob.messages(20) == [f"{i}" for i in range(0, 200, 10)]
        for peer in back:
            assert peer.response().status == 101
        wait_until(lambda: len(old & set(room.hub.clients)) == 2, "those who left are gone")
        wait_until(lambda: len(room.hub.clients) == 202, "those who came back are in the room")


def test_queued_messages_are_joined_into_one_frame() -> None:
    """Messages queued during a write go out in one frame, joined by newlines."""
    with Room() as room, join(room.port) as peer:
        (client,) = room.hub.clients
        with join(room.port) as other:
            peer.messages(1)  # now the write pump has nothing left to write
            with client.conn._write_lock:  # makes the next write wait
                other.send("first")
                other.messages(1)
                wait_until(lambda: len(client.send) == 0)  # the write pump has the message
                for i in range(100):
                    other.send(f"m{i}")
                other.messages(100)
        assert peer.read_frame().payload == b"first"
        assert peer.read_frame().payload == b"\n".join(b"m%d" % i for i in range(100))


def test_newlines_do_not_make_two_messages() -> None:
    """A newline becomes a space. A binary message goes out as text."""
    with Room() as room, join(room.port) as peer:
        peer.send("\n one\ntwo \n")
        peer.send("three\nfour", BINARY)
        assert peer.messages(2) == ["one two", "three four"]


def test_pings_keep_their_period_in_a_busy_room() -> None:
    with Room(QUICK) as room, join(room.port) as peer:
        stop = threading.Event()

        def talk() -> None:
            with join(room.port) as talker:
                while not stop.is_set():
                    talker.send("blah")
                    talker.messages(1)

        pings: list[float] = []
        with in_background(talk):
            since = time.monotonic()
            while len(pings) < 5:
                got = peer.read_frame()
                if got.opcode == PING:
                    pings.append(time.monotonic() - since)
                    peer.send(got.payload, PONG)
            stop.set()
        # About five ping periods, but not five times the pong wait.
        assert 0.4 <= pings[-1] < 5 * QUICK.pong_wait


def test_silent_client_is_given_up_at_the_pong_wait() -> None:
    """A client that answers no ping is disconnected after the pong wait, but not before."""
    with Room(QUICK) as room, join(room.port) as alive:
        start = time.monotonic()
        dead = join(room.port)
        alive.messages(1)
        while alive.addr in str(room.threads()) and dead.addr in str(room.threads()):
            got = alive.read_frame()
            alive.send(got.payload, PONG)
        assert time.monotonic() - start >= QUICK.pong_wait
        wait_until(lambda: len(room.threads()) == 2)
        assert alive.addr in str(room.threads())
        dead.sock.close()


def test_client_that_stops_reading_is_dropped() -> None:
    # The write wait is short, so that it ends before the pong wait.
    with Room(Settings(write_wait=0.5, max_message_size=LONG_MESSAGE)) as room:
        stuck = deaf(room.port)
        with join(room.port) as talker:
            count = 0
            while stuck.addr in str(room.threads()):
                say_long(talker, 1)
                count += 1
                assert count < 10_000
            talker.send("still here")
            assert talker.messages(1) == ["still here"]
            assert len(room.threads()) == 2
        stuck.sock.close()


def test_flooder_is_held_back() -> None:
    """A flooding client waits for the hub, so the server's memory stays small."""
    with Gochat("--write-wait", "60") as gochat, join(gochat.port) as flooder:
        before = gochat.memory()
        flood = frame("x" * 500) * 100
        received = 0

        def read() -> None:
            nonlocal received
            while received < 10**7:
                received += len(flooder.sock.recv(65536))

        with in_background(read):
            sent = 0
            while sent < 11 * 10**6:
                flooder.sock.sendall(flood)
                sent += len(flood)
        assert received >= 10**7
        assert gochat.memory() - before < 4 * 10**6


def test_expected_and_unexpected_closes(caplog: pytest.LogCaptureFixture) -> None:
    """A close with 1001, without a code or without a frame is not logged. Other closes are."""
    caplog.set_level("INFO", "gochat")
    with Room() as room:
        for code in (1001, 1000, 4000):
            with join(room.port) as peer:
                peer.send(struct.pack("!H", code) + b"reason\n", CLOSE)
                assert [f.code for f in peer.read_to_end()] == [code]
        with join(room.port) as page:
            page.send(b"", CLOSE)
            assert [f.opcode for f in page.read_to_end()] == [CLOSE]
        join(room.port).sock.close()
        reset_socket(join(room.port).sock)
        wait_until(lambda: room.threads() == [])
    assert [r.getMessage() for r in caplog.records if "error" in r.getMessage()] == [
        r"error: websocket: close 1000 (normal): 'reason\n'",
        r"error: websocket: close 4000: 'reason\n'",
    ]


def test_too_long_a_message_ends_its_sender_alone() -> None:
    """A message that is too long disconnects only its sender, with 1009."""
    with Room() as room, join(room.port) as other:
        with join(room.port) as peer:
            other.messages(1)
            peer.sock.sendall(frame("x" * 513) + frame("y" * 100) * 50)
            assert [f.code for f in peer.read_to_end()] == [1009]
        other.send("still here")
        assert other.messages(1) == ["still here"]


def test_refused_handshake_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gochat")
    with Room() as room, Peer(room.port) as peer:
        assert peer.open(headers={"Origin": "http://evil\x9b.example"}).status == 403
        wait_until(lambda: room.threads() == [])
    (record,) = caplog.records
    assert record.getMessage() == r"websocket: origin 'http://evil\x9b.example' may not connect"


def test_dropped_client_gets_an_empty_close() -> None:
    """When its channel is closed, a client gets its queued messages and an empty close frame."""
    with Room() as room, join(room.port) as peer:
        (client,) = room.hub.clients
        with join(room.port) as other:
            peer.messages(1)
            with client.conn._write_lock:
                other.send("one")
                other.send("two")
                other.messages(2)
                room.hub.unregister.send(client)
        frames = peer.read_to_end()
        assert b"\n".join(f.payload for f in frames if f.opcode == TEXT) == b"one\ntwo"
        assert (frames[-1].opcode, frames[-1].payload) == (CLOSE, b"")


def test_write_pump_that_cannot_be_started(caplog: pytest.LogCaptureFixture) -> None:
    """If no thread can be started for the write pump, the client gets 503."""
    caplog.set_level("INFO", "gochat")
    with Room() as room, Peer(room.port) as peer:
        wait_until(lambda: len(room.threads()) == 1)
        threading.stack_size(1 << 46)  # more than any machine has
        try:
            assert peer.open().status == 503
            assert peer.read_to_end() == []
        finally:
            threading.stack_size(0)
        wait_until(lambda: room.threads() == [])
        assert room.hub.clients == {}
        assert room.server.statistics().refused["threads"] == 1
        (record,) = caplog.records
        assert record.getMessage() == "http: refused a connection (503): can't start new thread"
        with join(room.port) as other:
            other.send("still here")
            assert other.messages(1) == ["still here"]


def check_failure(client_class: type[Client]) -> None:
    """Check that a client whose threads fail gets 1011 and leaves the room, and its pumps end."""
    hub = Hub()
    with running(Server(LOCAL, make_app(hub, client_class=client_class)), hub) as server:
        server.start()
        with Peer(server.port) as peer:
            assert peer.open().status == 101
            assert parted(peer).code == 1011
        wait_until(lambda: not hub.clients, "an empty room")
        wait_until(lambda: not [t for t in threading.enumerate() if "Pump" in t.name])


@pytest.mark.parametrize("pump", ["read_pump", "write_pump"])
@pytest.mark.parametrize(
    "error", [LookupError("a mistake"), SystemExit(), OSError("no disk"), None]
)
def test_a_pump_that_fails(
    pump: str, error: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    """If a subclass's pump raises or returns too early, its client is disconnected with 1011."""

    def fail(_: Client) -> None:
        if error is not None:
            raise error

    check_failure(type("Failing", (Client,), {pump: fail}))
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.message.startswith("http: ")
    assert record.exc_info
    if error is not None:
        assert record.exc_info[1] is error
    else:
        assert str(record.exc_info[1]) == "the function has returned and left the connection open"


@pytest.mark.parametrize(
    ("kind", "method"), [(Hijacker, "go"), (Hijacker, "go_on"), (Handler, "clear")]
)
def test_no_memory_after_the_registration(
    kind: type, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the rest of the request fails, with both pumps started or not, the client gets 1011."""

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("full")

    monkeypatch.setattr(kind, method, fail)
    check_failure(Client)
    assert caplog.text.count("MemoryError: full") == 1


def test_a_hub_that_nobody_runs(caplog: pytest.LogCaptureFixture) -> None:
    """If the hub is not running, clients get 1013, and the log says why."""
    app = make_app(Hub(), upgrader=Upgrader(handshake_timeout=0.1))
    with running(Server("127.0.0.1:0", app)) as server:
        server.start()
        for _ in range(2):
            with Peer(server.port) as peer:
                assert peer.open().status == 101
                assert [got.code for got in peer.read_to_end()] == [1013]
                name = f"serve {peer.addr}"
                text = f"http: {name}: the hub does not answer; is Hub.run running?"
                assert caplog.records[-1].getMessage() == text
        wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("serve")])


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_cannot_be_made(reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    """If a subclass's constructor raises, the client gets 1011 and the error is logged."""
    made = threading.Event()

    class Broken(Client):
        def __init__(self, *_: object) -> None:
            assert made.wait(PATIENCE)
            raise LookupError("a mistake")

    hub = Hub()
    with running(Server("127.0.0.1:0", make_app(hub, client_class=Broken)), hub) as server:
        server.start()
        with Peer(server.port) as peer:
            assert peer.open().status == 101
            if reset:
                reset_socket(peer.sock)
            made.set()
            if not reset:
                assert [got.code for got in peer.read_to_end()] == [1011]
        wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("serve")])
    assert caplog.text.count("LookupError: a mistake") == 1


# The results of Go's bytes.TrimSpace, which stops at invalid UTF-8.
GO_TRIMS = {
    b"\xff\xfe": b"\xff\xfe",
    b" \x85 a\xff \xc2\x85": b"\x85 a\xff",
    b"\xe3\x80\x80\xe3\x80": b"\xe3\x80",
}


def test_make_upgrader_is_deprecated() -> None:
    class OwnUpgrader(Upgrader):
        pass

    with pytest.warns(DeprecationWarning, match="gochat.Upgrader"):
        upgrader = make_upgrader(OwnUpgrader, read_rate=5.0)
    assert type(upgrader) is OwnUpgrader
    assert upgrader.options.read_rate == 5.0
    with pytest.warns(DeprecationWarning, match="gochat.Upgrader"):
        assert type(make_upgrader()) is Upgrader


@pytest.mark.parametrize("message", GO_TRIMS)
def test_any_bytes_with_an_upgrader_that_lets_them_pass(message: bytes) -> None:
    """With utf8_only=False, a binary message can contain any bytes, as in Go."""
    hub = Hub()
    app = make_app(hub, upgrader=Upgrader(utf8_only=False))
    with running(Server("127.0.0.1:0", app), hub) as server:
        server.start()
        with join(server.port) as peer:
            peer.send(message, BINARY)
            got = peer.read_frame()
            assert (got.opcode, got.payload) == (TEXT, GO_TRIMS[message])

"""clock.py: a pause of the whole process makes no client late."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gochat.golang import clock

from .redis_support import Redis
from .support import (
    CLOSE,
    LONG_MESSAGE,
    PATIENCE,
    TEXT,
    Gochat,
    Peer,
    deaf,
    join,
    parted,
    request,
    say_long,
    wait_until,
)


def behind() -> float:
    """Return how many seconds the clock is behind the system's."""
    return time.monotonic() - clock.now()


def pass_time(seconds: float) -> None:
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() - begin > seconds, "time has passed")


@pytest.fixture
def gap(monkeypatch: pytest.MonkeyPatch) -> float:
    """Shorten the shortest pause that counts; return it in seconds."""
    monkeypatch.setattr(clock, "_GAP", 1.0)
    return 1.0


def test_a_missing_beat_is_a_pause(gap: float) -> None:
    """The clock skips the time since a missing beat once, whichever thread asks."""
    with clock.beating():
        before = behind()
        pass_time(gap)
        assert behind() - before >= gap
        once = behind()
        clock.beat()
        assert behind() - once < gap
        deadline = clock.since(time.monotonic())
        assert abs(clock.now() - deadline) < gap


def test_nobody_who_beats_is_no_pause(gap: float) -> None:
    """The clock skips nothing while no thread has promised to beat."""
    with clock.beating():
        with clock.beating():
            pass_time(0)
        before = behind()
        pass_time(gap)
        assert behind() - before >= gap  # the outer block still promises beats
    before = behind()
    pass_time(2 * gap)
    clock.beat()
    assert behind() - before < gap


@contextmanager
def paused(gochat: Gochat, seconds: float) -> Iterator[None]:
    """Pause the process during the block, and for `seconds` more."""
    gochat.pause()
    try:
        yield
        pass_time(seconds)
    finally:
        gochat.process.send_signal(signal.SIGCONT)


def test_a_pause_cuts_no_client() -> None:
    """A pause longer than the pong wait disconnects nobody.

    A client that is silent afterward is disconnected.
    """
    with (
        Gochat("--pong-wait=6", "--ping-period=2") as gochat,
        join(gochat.port) as silent,
        join(gochat.port) as idle,
        join(gochat.port) as talker,
    ):
        idle.messages(1)
        silent.messages(2)
        with paused(gochat, 9):
            talker.send("meanwhile")
        assert talker.messages(1) == idle.messages(1) == ["meanwhile"]
        begin = time.monotonic()
        while time.monotonic() - begin < 8:  # longer than the pong wait
            talker.send("still here")
            assert talker.messages(1) == idle.messages(1) == ["still here"]
            time.sleep(0.05)
        silent.read_to_end()


@pytest.mark.measured
def test_a_pause_ends_no_request() -> None:
    with Gochat("--read-header-timeout=3") as gochat:
        begun = Peer(gochat.port)
        begun.sock.sendall(request()[:20])
        with Peer(gochat.port) as other:  # accepted later, so the first request is being read
            assert other.request().status == 200
        with paused(gochat, 5):
            pass
        with Peer(gochat.port) as other:  # the server is running again
            assert other.request().status == 200
        begun.sock.sendall(request()[20:])
        assert begun.response().status == 101
        begun.sock.close()


def test_a_pause_ends_no_write() -> None:
    flags = ("--write-wait=10", f"--max-message-size={LONG_MESSAGE}", "--send-buffer=1000")
    with Gochat(*flags) as gochat, deaf(gochat.port) as slow, join(gochat.port) as talker:
        say_long(talker, 150)
        with paused(gochat, 11):
            pass
        talker.send("behind the pause")
        assert talker.messages(1) == ["behind the pause"]
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        messages: list[str] = []
        while "behind the pause" not in messages:
            messages += slow.read_messages()
        assert [len(message) for message in messages].count(LONG_MESSAGE) == 150


def test_a_pause_shortens_no_farewell() -> None:
    """A pause during shutdown does not count toward the shutdown timeout."""
    flags = ("--shutdown-timeout=10", "--write-wait=600", "--send-buffer=1000")
    with (
        Gochat(*flags, f"--max-message-size={LONG_MESSAGE}") as gochat,
        deaf(gochat.port) as slow,
        join(gochat.port) as talker,
    ):
        say_long(talker, 150)
        talker.send("the last")
        assert talker.messages(1) == ["the last"]
        gochat.process.send_signal(signal.SIGTERM)
        wait_until(lambda: gochat.logged("stopping"))
        parted(talker)
        with paused(gochat, 11):
            pass
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        last = b""
        while (got := slow.read_frame()).opcode == TEXT:
            last = got.payload
        assert last.endswith(b"the last")
        assert got.code == 1001
        slow.send(got.payload, CLOSE)
        assert gochat.wait() == 0


def test_a_pause_is_no_outage_of_the_relay(tmp_path: Path) -> None:
    """After a pause longer than the relay timeout, the relay is healthy and can reconnect."""
    with (
        Redis(tmp_path) as redis,
        Gochat("--relay", redis.url, "--relay-timeout=2", "--metrics-addr=127.0.0.1:0") as gochat,
        join(gochat.port) as talker,
    ):
        (port,) = re.findall(r"metrics at http://127.0.0.1:(\d+)/", "\n".join(gochat.lines))
        with Peer(int(port)) as prober:
            with paused(gochat, 5):
                prober.sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert prober.response().status == 200
        with paused(gochat, 5):
            redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            talker.send("meanwhile")
        assert talker.messages(1) == ["meanwhile"]


def test_a_signal_handler_can_ask_for_the_time_while_its_thread_notes_a_pause() -> None:
    def handler_while_the_lock_is_held() -> None:
        with clock._clock.lock:
            clock.beat()

    thread = threading.Thread(target=handler_while_the_lock_is_held, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()

"""`gochat bench` and the programs in bench/: their counting, output and errors."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pty
import random
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE
from types import TracebackType
from typing import Any

import pytest

import gochat
from gochat.bench import report as reporting
from gochat.bench import run as running
from gochat.bench.load import Latencies, Load, Result, medians
from gochat.bench.report import FIGURES, Report
from gochat.bench.run import Connection, Run
from gochat.golang.dial import Address
from gochat.golang.frames import mask
from gochat.ops.command import main
from gochat.ops.flags import parse_flags

from .go_support import ENVIRONMENT, has_go, not_formatted
from .support import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PATIENCE,
    PING,
    PONG,
    ROOT,
    UNMEASURED,
    Gochat,
    Peer,
    Stream,
    frame,
    join,
    make_certificate,
    unmeasured,
)

# Few other tests run this code, so coverage is also measured in the processes started here.
pytestmark = pytest.mark.measured

COMMAND = str(Path(sys.executable).with_name("gochat"))
SHORT = ("--seconds", "0.3", "--warmup", "0.1")
ONE = ("--clients", "1", "--senders", "1")
RESULT = Result(
    url="ws://localhost:8080/ws",
    clients=100,
    connect_s=0.5,
    seconds=5.0,
    sent_per_s=1000.0,
    deliveries_per_s=100_000.0,
    frames_per_s=10_000.0,
    messages_per_frame=10.0,
    latency_ms={"p50": 1.0, "p90": 2.0, "p99": 3.0, "p99.9": 4.0, "max": 5.0},
    samples=1000,
    sent=6000,
    received=600_000,
    undelivered=0,
    closes=0,
    close_codes={},
    generator_cpu=0.5,
    interrupted=False,
)
TARGET = Address.parse("ws://localhost:8080")


@pytest.fixture(scope="module")
def server() -> Iterator[Gochat]:
    with Gochat(measured=False) as process:
        yield process


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn off the warning about a busy generator, which other programs may cause."""
    monkeypatch.setattr(reporting, "BUSY", 2.0)


def url(process: Gochat) -> str:
    return f"ws://127.0.0.1:{process.port}/ws"


def measured(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    """Run `gochat bench --json` successfully and return its output.

    The only warning allowed is that not all messages could be sent, as may happen on a busy
    machine.
    """
    status = main(["bench", *args, "--json"])
    out, err = capsys.readouterr()
    others = [line for line in err.splitlines() if "could be sent" not in line]
    assert (status, others) == (0, [])
    report = json.loads(out)
    assert isinstance(report, dict)
    return report


def failed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Run `gochat bench`, which must fail, and return the last line of stderr."""
    assert main(["bench", *args]) == 1
    err = capsys.readouterr().err
    assert err.endswith("\n")
    line: str = err[:-1].rpartition("\n")[2]
    assert line.startswith("gochat: ")
    assert line.isprintable()
    return line


class Scripted:
    """A WebSocket server that runs the test's script for every client.

    serve: called with each connection, on its own thread. EOFError and OSError are ignored.

    answer: bytes to send in place of the handshake's answer, or None.
    """

    def __init__(self, serve: Callable[[Stream], None], answer: bytes | None = None) -> None:
        self.serve = serve
        self.answer = answer
        self.requests: list[str] = []
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self.sock.getsockname()[1]}/ws"
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            self.threads.append(threading.Thread(target=self._talk, args=(sock,)))
            self.threads[-1].start()

    def _talk(self, sock: socket.socket) -> None:
        with sock:
            stream = Stream(sock)
            try:
                request = stream.read_until(b"\r\n\r\n").decode()
                self.requests.append(request)
                sock.sendall(handshake(request) if self.answer is None else self.answer)
                self.serve(stream)
            except (EOFError, OSError):
                pass


def handshake(request: str) -> bytes:
    """Return the answer to a WebSocket handshake (RFC 6455, section 4.2.2)."""
    found = re.search(r"Sec-WebSocket-Key: (\S+)", request)
    assert found
    digest = hashlib.sha1(f"{found[1]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % base64.b64encode(digest)
    )


def read_masked(stream: Stream) -> tuple[int, bytes]:
    """Read a client's frame with a payload below 64 KiB; return its opcode and payload."""
    head, size = stream.read(2)
    assert head & 0x80
    assert size & 0x80
    size &= 0x7F
    if size == 126:
        size = int.from_bytes(stream.read(2), "big")
    key = stream.read(4)
    return head & 0x0F, mask(stream.read(size), key)


def echo(stream: Stream) -> None:
    """Send every frame back until a close frame arrives."""
    while (got := read_masked(stream))[0] != CLOSE:
        stream.sock.sendall(frame(got[1], got[0], mask=None))


def swallow(stream: Stream) -> None:
    """Read everything and send nothing."""
    while True:
        stream.read(1)


# Counting.


@pytest.mark.parametrize("pace", [("--window", "2"), ("--rate", "200")])
def test_all_is_delivered(
    server: Gochat, capsys: pytest.CaptureFixture[str], pace: tuple[str, str]
) -> None:
    """Every client receives every message, with --window and with --rate."""
    flags = (*pace, "--clients", "10", "--senders", "3", *SHORT)
    (run,) = measured(capsys, url(server), *flags)["runs"]
    assert run["sent"] > 0
    assert run["received"] == 10 * run["sent"]
    assert run["undelivered"] == run["closes"] == 0
    assert run["samples"] > 0
    late = run["latency_ms"]
    assert 0 < late["p50"] <= late["p90"] <= late["p99"] <= late["p99.9"] <= late["max"]
    assert run["deliveries_per_s"] == pytest.approx(run["frames_per_s"] * run["messages_per_frame"])
    assert run["generator_cpu"] > 0
    assert 0 < run["seconds"] < PATIENCE  # shorter than requested if the warm-up ended late


def test_rate(server: Gochat, capsys: pytest.CaptureFixture[str]) -> None:
    """With --rate, every message is sent when it is due, including in the warm-up."""
    flags = ("--rate", "100", "--clients", "5", "--seconds", "0.5", "--warmup", "0.2")
    (run,) = measured(capsys, url(server), *flags)["runs"]
    # The generator may notice the end a little late.
    assert 60 <= run["sent"] <= 71
    assert run["received"] == 5 * run["sent"]


def test_window(capsys: pytest.CaptureFixture[str]) -> None:
    """With --window 3, a sender always has exactly three messages in flight."""
    received: list[list[bytes]] = []

    def until_pong(stream: Stream) -> list[bytes]:
        """Ping twice; return the messages that arrive before the second pong."""
        messages = []
        for _ in range(2):
            stream.sock.sendall(frame(b"", PING, mask=None))
            while (got := read_masked(stream))[0] != PONG:
                messages.append(got[1])
        return messages

    def serve(stream: Stream) -> None:
        stream.sock.sendall(frame(read_masked(stream)[1], mask=None))
        received.append(until_pong(stream))
        stream.sock.sendall(frame(received[0][0], mask=None))
        received.append(until_pong(stream))
        stream.sock.sendall(frame(b"\n".join(received[0][1:] + received[1]), mask=None))
        received.append(until_pong(stream))
        echo(stream)

    with Scripted(serve) as peer:
        main(["bench", peer.url, *ONE, "--window", "3", "--size", "30", *SHORT])
    assert list(map(len, received)) == [3, 1, 3]
    for message in (message for messages in received for message in messages):
        assert re.fullmatch(rb"@[0-9a-f]{4}0000[0-9a-f]{12}x{9}", message)
    assert capsys.readouterr().out


def test_coordinated_omission() -> None:
    """With --rate, a stall of the server delays all messages due meanwhile."""
    with Gochat(measured=False) as process, Peer(process.port) as peer:
        assert peer.open().status == 101
        command = [COMMAND, "bench", url(process), "--rate", "200", "--clients", "8"]
        flags = ["--seconds", "1.5", "--warmup", "0", "--json"]
        with subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True) as program:
            while b"@" not in peer.read_frame().payload:
                pass
            process.pause()
            # This sleep is the stall, not a wait.
            time.sleep(0.3)
            process.process.send_signal(signal.SIGCONT)
            out, _ = program.communicate(timeout=PATIENCE)
        assert program.returncode == 0
        (run,) = json.loads(out)["runs"]
    assert run["latency_ms"]["p99"] >= 250
    assert run["latency_ms"]["max"] >= 290
    assert run["received"] == 8 * run["sent"]


def test_size(server: Gochat, capsys: pytest.CaptureFixture[str]) -> None:
    with join(server.port) as peer:
        report = measured(capsys, url(server), *ONE, "--size", "300", "--rate", "20", *SHORT)
        assert report["load"]["size"] == 300
        peer.sock.shutdown(socket.SHUT_WR)
        text = b"\n".join(got.payload for got in peer.read_to_end())
    assert {len(line) for line in text.split(b"\n") if line.startswith(b"@")} == {300}


def test_others_are_counted_but_have_no_latency(capsys: pytest.CaptureFixture[str]) -> None:
    """Other clients' messages are counted, but not timed, and do not cause a new message."""

    def serve(stream: Stream) -> None:
        while (got := read_masked(stream))[0] != CLOSE:
            others = got[1][:5] + b" begins alike, and is no time\nhello"
            stream.sock.sendall(frame(others + b"\n" + got[1], mask=None))

    with Scripted(serve) as peer:
        (run,) = measured(capsys, peer.url, *ONE, "--rate", "50", *SHORT)["runs"]
    assert run["received"] == 3 * run["sent"]
    assert 0 < run["samples"] <= run["sent"]


@contextmanager
def in_room(mark: bytes = b"", **load: Any) -> Iterator[tuple[Connection, socket.socket]]:
    """Yield the connection of a run with one client, and the server's end of it."""
    run = Run(TARGET, Load(**{"clients": 1, "senders": 1} | load), lambda _: None)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = Connection(run, ours, mark)
    run.connections.append(connection)
    run.selector.register(ours, EVENT_READ, connection)
    run.alive = 1
    with ours, theirs, run.selector:
        yield connection, theirs


FRAMES = [
    (frame("one", mask=None), 1),
    (frame("x\n" * 70, mask=None), 71),
    (frame("y\n" * 40_000, mask=None), 40_001),
    (frame("\n", BINARY, mask=None), 2),
    (frame("", PONG, mask=None), 0),
    (frame("a\nb", fin=False, mask=None), 1),
    (frame("c\nd\n", CONTINUATION, fin=False, mask=None), 2),
    (frame("e", CONTINUATION, mask=None), 1),
]


@pytest.mark.parametrize("mark", [b"", b"@00000000"])
def test_frames(mark: bytes) -> None:
    """Every message is counted, however the frames are split into packets."""
    stream = b"".join(data for data, _ in FRAMES)
    chance = random.Random(4)
    for _ in range(50):
        cuts = sorted(chance.randrange(len(stream)) for _ in range(5))
        # Most of the stream is one long frame. Add cuts near its beginning and end.
        cuts += range(150, 165)
        cuts += range(len(stream) - 40, len(stream))
        edges = [0, *sorted(set(cuts)), len(stream)]
        with in_room(mark) as (connection, theirs):
            for start, stop in pairwise(edges):
                rest = stream[start:stop]
                while rest:
                    rest = rest[theirs.send(rest) :]
                    connection.ready(EVENT_READ)
            while connection.partial:
                connection.ready(EVENT_READ)
            assert (
                connection.received == connection.run.received == sum(count for _, count in FRAMES)
            )
            assert connection.run.frames == len(FRAMES) - 1


def test_nothing_to_read() -> None:
    with in_room() as (connection, _):
        connection.ready(EVENT_READ)
        assert connection.open


def test_data_behind_the_handshake(capsys: pytest.CaptureFixture[str]) -> None:
    """A frame in the same packet as the handshake's response is not lost."""

    class Hasty(Scripted):
        def _talk(self, sock: socket.socket) -> None:
            with sock, suppress(EOFError, OSError):
                stream = Stream(sock)
                request = stream.read_until(b"\r\n\r\n").decode()
                self.requests.append(request)
                sock.sendall(handshake(request) + frame(b"first", PING, mask=None))
                assert read_masked(stream) == (PONG, b"first")
                self.serve(stream)

    with Hasty(echo) as peer:
        (run,) = measured(capsys, peer.url, *ONE, *SHORT)["runs"]
    assert run["received"] == run["sent"] > 0


def test_roll_call(capsys: pytest.CaptureFixture[str]) -> None:
    """The run begins only after every client has received a message sent to the room."""
    calls = []

    def serve(stream: Stream) -> None:
        for _ in range(2):
            calls.append(read_masked(stream)[1])
        stream.sock.sendall(frame(b"\n".join(calls), mask=None))
        echo(stream)

    with Scripted(serve) as peer:
        (run,) = measured(capsys, peer.url, *ONE, *SHORT)["runs"]
    assert re.fullmatch(rb"#[0-9a-f]{4} 000001", calls[0])
    assert re.fullmatch(rb"#[0-9a-f]{4} 000002", calls[1])
    assert run["received"] == run["sent"] > 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame((1009).to_bytes(2, "big") + b"too big", CLOSE, mask=None), 1009),
        (frame(b"", CLOSE, mask=None), 1006),
        (frame("reserved bits", rsv=4, mask=None), 1006),
        (frame("masked"), 1006),
        (b"", 1006),
    ],
)
def test_ends(data: bytes, code: int) -> None:
    """Ended connections are counted by close code, and data after the end is ignored."""
    with in_room() as (connection, theirs):
        theirs.sendall(frame("before", mask=None) + data + frame("behind", mask=None))
        theirs.close()
        while connection.open:
            connection.ready(EVENT_READ)
        assert connection.run.close_codes == {code: 1}
        assert connection.received == (1 if data else 2)
        assert connection.run.alive == 0


def test_reset() -> None:
    """A reset counts as a drop with 1006. Sending before the reset is noticed is not an error."""
    with in_room() as (connection, theirs):
        connection.send(b"never read")
        theirs.close()
        connection.send(b"nobody there")
        connection.ready(EVENT_READ)
        assert connection.run.close_codes == {1006: 1}


def test_full_socket() -> None:
    """If the socket is full, frames are sent later, in order."""
    with in_room() as (connection, theirs):
        frames = [b"%07d\n" % i * 1000 for i in range(200)]
        for data in frames:
            connection.send(data)
        assert connection.unsent
        assert connection.run.selector.get_key(connection.sock).events == EVENT_READ | EVENT_WRITE
        got = b""
        while len(got) < sum(map(len, frames)):
            got += theirs.recv(1 << 20)
            if connection.unsent:
                connection.ready(EVENT_WRITE)
        assert got == b"".join(frames)
        assert connection.run.selector.get_key(connection.sock).events == EVENT_READ


def test_dropped_sender() -> None:
    for load in ({"window": 3}, {"rate": 100.0}):
        with in_room(b"@00000000", **load) as (connection, theirs):
            run = connection.run
            run.sending = True
            theirs.close()
            connection.ready(EVENT_READ)
            run.refill()
            run.send_due(time.monotonic_ns(), 100.0)
            assert run.sent == 0


def test_double_echo() -> None:
    with in_room(b"@00000000", window=2) as (connection, theirs):
        connection.run.refill()
        theirs.sendall(frame("@00000000 a\n@00000000 a\n@00000000 b\n@00000000 b", mask=None))
        connection.ready(EVENT_READ)
        assert connection.in_flight == 0


# Latencies.


def test_percentiles() -> None:
    """Percentiles respect the weights and are accurate to 1/256."""
    latencies = Latencies()
    assert latencies.percentile(50) is None
    for value in range(1, 1001):
        latencies.add(value * 1_000_000, 3)
    for percent in (1, 50, 90, 99, 99.9, 100):
        assert latencies.percentile(percent) == pytest.approx(percent * 10, rel=1 / 256)
    assert latencies.max == 1000_000_000
    latencies.add(5_000_000_000, 3000)
    assert latencies.percentile(51) == pytest.approx(5000, rel=1 / 256)
    assert latencies.percentile(49) == pytest.approx(980, rel=1 / 256)


@pytest.mark.parametrize("pieces", [False, True])
def test_sampling(pieces: bool) -> None:
    """A sample's percentiles are close to those of all messages, and the maximum is exact."""
    chance = random.Random(7)
    # Other tests run the same code, for a shorter time.
    with unmeasured(), in_room() as (connection, _):
        run = connection.run
        run.stride = 20
        run.random = random.Random(1).random
        latencies = []
        now = 60_000_000_000
        for _ in range(40_000):
            now += 1_000_000
            # Delays grow with the payload, so counting payloads would give a wrong result.
            count = chance.randrange(1, 20)
            late = [count * 1_000_000 + chance.randrange(1000) for _ in range(count)]
            late.sort(reverse=True)
            latencies += late
            lines = b"\n".join(run.tag + b"0000%012x" % (now - value) for value in late)
            if pieces:
                data = frame(lines, fin=False, mask=None) + frame("xx", CONTINUATION, mask=None)
            else:
                data = frame(lines + b"xx", mask=None)
            assert connection.parse(bytearray(data), now) == len(data)
    latencies.sort()
    assert run.received == len(latencies)
    assert run.latencies.samples == pytest.approx(len(latencies) / 20, rel=0.1)
    for percent in (50, 90, 99):
        true = latencies[len(latencies) * percent // 100] / 1e6
        assert run.latencies.percentile(percent) == pytest.approx(true, rel=0.06)
    assert run.latencies.max == latencies[-1]


def test_warmup_has_no_latency() -> None:
    with in_room() as (connection, _):
        run = connection.run
        run.begin = 1000
        for when in (999, 1000):
            data = frame(run.tag + b"0000%012x" % when, mask=None)
            connection.parse(bytearray(data), 2000)
        assert run.received == 2
        assert run.latencies.samples == 1
        assert run.latencies.max == 1000


def test_only_a_sample_is_read(
    server: Gochat, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a fast run, only a sample of the messages is timed."""
    monkeypatch.setattr(running, "SAMPLES", 1000)
    (run,) = measured(capsys, url(server), "--clients", "20", "--seconds", "0.5")["runs"]
    assert 0 < run["samples"] < run["received"] * 0.9
    assert run["latency_ms"]["p50"] <= run["latency_ms"]["max"]


# The output.


def test_table(server: Gochat, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", f"http://127.0.0.1:{server.port}/", "--clients", "4,12", *SHORT]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    first, second, empty, *table = out.splitlines()
    assert first == url(server)
    assert second == (
        "closed loop: 4 senders, 4 messages in flight each, 64 bytes, 0.3 s after 0.1 s of warm-up"
    )
    assert empty == ""
    assert len({len(line) for line in table}) == 1
    rows = {line[:20].strip(): line[20:].split() for line in table}
    assert rows["clients"] == ["4", "12"]
    assert list(rows) == ["clients", *(figure.name for figure in FIGURES)]
    assert all(len(row) == 2 for row in rows.values())
    assert rows["clients dropped"] == ["0", "0"]


def test_json(server: Gochat, capsys: pytest.CaptureFixture[str]) -> None:
    report = measured(capsys, url(server), "--rate", "100", "--clients", "5,4", *SHORT)
    assert set(report) == {"servers", "loop", "load", "runs"}
    assert report["servers"] == {"A": url(server)}
    assert report["loop"] == "open"
    assert report["load"] == {
        "senders": 4,
        "size": 64,
        "window": 4,
        "rate": 100.0,
        "seconds": 0.3,
        "warmup": 0.1,
    }
    assert [run["clients"] for run in report["runs"]] == [5, 4]
    for run in report["runs"]:
        assert set(run) == {"server", *RESULT.__dataclass_fields__}
        assert set(run["latency_ms"]) == {"p50", "p90", "p99", "p99.9", "max"}


def test_versus(server: Gochat, capsys: pytest.CaptureFixture[str]) -> None:
    """Two servers are measured in pairs of runs, and take turns going first."""
    flags = ("--versus", url(server), "--pairs", "3", "--clients", "4", "--rate", "200", *SHORT)
    with Gochat(measured=False) as other:
        report = measured(capsys, url(other), *flags)
        assert main(["bench", url(other), *flags]) == 0
        out = capsys.readouterr().out
        assert report["servers"] == {"A": url(other), "B": url(server)}
    assert [run["server"] for run in report["runs"]] == list("ABBAAB")
    assert [run["server"] for run in report["medians"]] == list("AB")
    a, b = ([r["deliveries_per_s"] for r in report["runs"] if r["server"] == s] for s in "AB")
    assert report["medians"][0]["deliveries_per_s"] == sorted(a)[1]
    ratios = {entry["figure"]: entry for entry in report["ratios"]}
    assert list(ratios) == ["deliveries/s", "latency p50, ms", "latency p99, ms"]
    assert ratios["deliveries/s"]["pairs"] == [x / y for x, y in zip(a, b, strict=True)]
    assert ratios["deliveries/s"]["median"] == sorted(ratios["deliveries/s"]["pairs"])[1]
    assert {entry["clients"] for entry in report["ratios"]} == {4}

    assert f"A: {url(other)}\nB: {url(server)}\n" in out
    assert re.search(r"^4 clients, medians +A +B$", out, re.M)
    # On a busy machine, a run may be too short to give a ratio.
    assert re.search(r"^pair 3( +(\d+\.\d\d|-)){3}$", out, re.M)
    assert re.search(r"^median( +(\d+\.\d\d|-)){3}$", out, re.M)


SHORTER = ("--rounds", "2", "--seconds", "0.5", "--json", os.devnull)


def compare(*args: str | Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run bench/run.py.

    path: the value of PATH, or None to inherit it.
    """
    return subprocess.run(
        [sys.executable, ROOT / "bench/run.py", *SHORTER, *args],
        env=UNMEASURED | ({} if path is None else {"PATH": path}),
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,  # starts up to seven servers and cuts hundreds of clients
        check=False,
    )


def test_comparison_of_servers(tmp_path: Path) -> None:
    """bench/run.py measures each case, saves every measurement, and prints tables."""
    results = tmp_path / "results.jsonl"
    cases = "^5 clients, 4|stop reading|idle|are cut|in one process"
    flags = ("--servers", "greenlets", "--shrink", "20")
    done = compare(*flags, "--rounds", "1", "--cases", cases, "--json", results)
    assert done.returncode == 0, done.stderr
    measured = [json.loads(line) for line in results.read_text().splitlines()]
    figures = ("deliveries_per_s", "ratio", "memory_kb", "away_s", "clients")
    for figure, result in zip(figures, measured, strict=True):
        assert "error" not in result
        assert result[figure] > 0
        assert result["dropped"] == 0
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows if "---" not in row[0]] == [
        "| server",
        "| gochat, greenlets",
        "| load",
        "| 1 of 5 clients stop reading: deliveries to the other 4, divided by those in a room of 4",
        "| memory of an idle client, KB",
        "| 250 clients are cut off: time until all are back, s",
        "| clients in one process, at most 1,000",
        "| clients dropped in all of these",
    ]
    assert rows[-2][1] == f"{measured[-1]['clients']:,} |"
    assert compare(*flags, "--rounds", "1", "--read", results).stdout == done.stdout


def test_comparison_without_a_runtime(tmp_path: Path) -> None:
    """bench/run.py prints its tables even without gochat and the Go example."""
    results = tmp_path / "results.jsonl"
    name = "websockets, asyncio"
    row = {"case": "5 clients, 4 senders", "server": name, "round": 0, "deliveries_per_s": 9}
    results.write_text(json.dumps(row))
    done = compare("--servers", name, "--shrink", "20", "--read", results)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"| {name} | 9 |" in done.stdout
    assert "runtimes" not in done.stdout


def test_comparison_with_a_command() -> None:
    """--against runs gochat and a command in turn, and prints ratios."""
    serve = f"{sys.executable} -m gochat serve --addr 127.0.0.1:PORT --no-pin"
    # The kernel could give a port above 32767 to a connection before the server binds it.
    other = f"sh -c 'test PORT -lt 32768 && exec {serve}'"
    done = compare("--clients", "4", "--against", other)
    assert done.returncode == 0, done.stderr
    head = "4 clients, 4 senders:\nthe other / gochat, threads  deliveries/s  CPU per delivery\n"
    assert head in done.stdout
    assert re.search(r"^pair 2( +(\d+\.\d\d|-)){2}$", done.stdout, re.M)
    assert re.search(r"^median( +(\d+\.\d\d|-)){2}$", done.stdout, re.M)
    # Where other tests use all processors, nothing may arrive in half a second.
    order = re.findall(r"^4 clients, 4 senders, (.+): (?:[\d,]+|nothing .*)$", done.stderr, re.M)
    ours = "gochat, threads"
    assert order == ["the other", ours, ours, "the other"]


def test_comparison_with_a_server_that_fails() -> None:
    """A server that does not start is reported, and the other is still measured."""
    done = compare("--clients", "4", "--against", "false PORT")
    assert done.returncode == 0, done.stderr
    first, second, third, last = done.stderr.splitlines()
    assert first == last == "4 clients, 4 senders, the other: it does not listen: false PORT"
    for line in (second, third):
        assert re.fullmatch(r"4 clients, 4 senders, gochat, threads: [\d,]+", line)
    assert re.search(r"^median +- +-$", done.stdout, re.M)


# A chat that delivers only the call with which wsload begins.
MUTE = """\
import sys, gochat
upgrader = gochat.Upgrader(on_message=lambda conn, message: message if message == b"?" else None)
hub = gochat.Hub()
server = gochat.Server(sys.argv[1], gochat.make_app(hub, upgrader=upgrader))
with gochat.running(server, hub):
    server.serve_forever()
"""


def test_comparison_with_a_server_that_delivers_nothing() -> None:
    """A server that delivers nothing has failed; its figures are not part of a median."""
    other = shlex.join([sys.executable, "-c", MUTE, "127.0.0.1:PORT"])
    done = compare("--rounds", "3", "--clients", "4", "--against", other)
    assert done.returncode == 0, done.stderr
    failures = re.findall(r"^4 clients, 4 senders, the other: (.+)$", done.stderr, re.M)
    assert len(failures) == 2  # then it is skipped
    assert "nothing that was sent arrived in time" in failures
    assert re.search(r"^median +- +-$", done.stdout, re.M)


def test_a_comparison_that_is_killed() -> None:
    """Killing bench/run.py also ends the server it has started."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        waits = f"import socket; socket.create_connection(('127.0.0.1', {port})).recv(1)"
        server = shlex.join([sys.executable, "-c", waits, "PORT"])
        comparison = subprocess.Popen(
            [
                sys.executable,
                ROOT / "bench/run.py",
                *SHORTER,
                "--clients",
                "4",
                "--against",
                server,
            ],
            stderr=subprocess.DEVNULL,
        )
        listener.settimeout(10 * PATIENCE)
        with listener.accept()[0] as server_socket:
            comparison.kill()
            comparison.wait()
            server_socket.settimeout(PATIENCE)
            assert server_socket.recv(1) == b""


def test_a_page_about_some_servers() -> None:
    """--write refuses to update the page with only some of the servers."""
    done = compare("--write", "--servers", "socketify")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--write needs all servers" in done.stderr


def test_comparison_without_a_compiler(tmp_path: Path) -> None:
    done = compare("--against", "true", path=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "run.py: the load generator needs a C compiler: cc: No such file or directory\n"
    )


def test_fragments_for_the_generator_in_c(tmp_path: Path) -> None:
    """wsload.c counts each message once, however its frame is fragmented."""
    generator = tmp_path / "wsload"
    source = ROOT / "bench/wsload.c"
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", generator, source], check=True)

    def serve(stream: Stream) -> None:
        waiting: list[bytes] = []
        while True:
            opcode, payload = read_masked(stream)
            if opcode == PONG:
                continue
            waiting.append(payload)
            if payload != b"?" and len(waiting) < 2:
                continue
            text = b"\n".join(waiting)
            waiting.clear()
            # Both cuts fall in the middle of a time stamp.
            stream.sock.sendall(
                frame(text[:10], fin=False, mask=None)
                + frame(text[10:75], CONTINUATION, fin=False, mask=None)
                + frame(b"", PING, mask=None)
                + frame(text[75:], CONTINUATION, mask=None)
            )

    with Scripted(serve) as peer:
        port = peer.url.removesuffix("/ws").rpartition(":")[2]
        flags = ("-n", "1", "-s", "1", "-t", "0.3", "-u", "0")
        done = subprocess.run([generator, "-p", port, *flags], capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert found["clients"] == 1
    assert found["deliveries_per_s"] > 0
    # Up to four messages may be in flight at the beginning and at the end.
    assert abs(found["deliveries_per_s"] - found["sent_per_s"]) <= 4 / 0.3


@pytest.mark.xdist_group("go")
def test_comparison_of_runtimes(tmp_path: Path) -> None:
    """bench/runtimes/run.py prints a table with a column for each runtime.

    While one greenlet or asyncio task computes, the others make no progress over 99 % of the time.
    """
    picture = tmp_path / "picture.svg"
    flags = ("--rounds", "1", "--count", "200", "--seconds", "0.1", "--plot", str(picture))
    done = subprocess.run(
        [sys.executable, ROOT / "bench/runtimes/run.py", *flags],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 4,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    heads, line, *rows = (each.split(" | ") for each in done.stdout.split("\n\n")[0].splitlines())
    names = ["threads", "greenlets", "asyncio tasks |"]
    assert heads[1:] == (["goroutines", *names] if has_go() else names)
    assert len(line) == len(heads)
    figures = [[float(cell.rstrip(" |")) for cell in row[1:]] for row in rows]
    assert len(figures) == 5
    assert all(figure > 0 for row in figures[:1] + figures[2:] for figure in row)
    for row in figures[-2:]:
        assert min(row[-2:]) > 99
    if has_go():
        assert not_formatted(ROOT / "bench/runtimes") == ""
    assert "Medians of 1, " in done.stdout
    assert "asyncio tasks" in picture.read_text()


def test_medians() -> None:
    """Each figure has its own median. Drops and missing messages are summed."""
    runs = [
        replace(
            RESULT,
            deliveries_per_s=speed,
            latency_ms={**RESULT.latency_ms, "p50": late},
            closes=2,
            close_codes={1006: 1, code: 1},
            undelivered=5,
        )
        for speed, late, code in ((10.0, 3.0, 1009), (30.0, None, 1009), (20.0, 1.0, 1011))
    ]
    found = medians(runs)
    assert found.deliveries_per_s == 20
    assert found.latency_ms == {**RESULT.latency_ms, "p50": 2.0}
    assert (found.closes, found.undelivered) == (6, 15)
    assert found.close_codes == {1006: 3, 1009: 2, 1011: 1}
    assert found.clients == 100


def test_half_a_pair() -> None:
    """If a comparison ends early, only complete pairs of runs are shown."""
    report = Report(Load(), {"A": TARGET.url, "B": TARGET.url})
    unknown = replace(RESULT, latency_ms=dict.fromkeys(RESULT.latency_ms))
    report.runs.append(("A", unknown))
    assert re.search(r"^100 clients, medians +A$", report.text(), re.M)
    assert re.search(r"^median +- +- +-$", report.text(), re.M)
    assert report.json()["ratios"][0]["pairs"] == []
    report.runs.append(("B", unknown))
    assert re.search(r"^pair 1 +1.00 +- +-$", report.text(), re.M)


@pytest.mark.parametrize(
    ("change", "load", "text"),
    [
        ({"generator_cpu": 0.95}, {}, "the generator used 95% of a core"),
        ({"sent_per_s": 900.0}, {"rate": 1000.0}, "only 900 messages/s could be sent"),
        ({"undelivered": 7}, {}, "7 deliveries were missing 2 s after the end"),
    ],
)
def test_warnings(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], load: dict[str, Any], text: str
) -> None:
    """Each reason to distrust a result produces a warning."""
    monkeypatch.setattr(reporting, "BUSY", 0.9)
    report = Report(Load(**load), {"A": TARGET.url})
    report.runs.append(("A", replace(RESULT, **change)))
    (line,) = report.warnings()
    assert line.startswith("ws://localhost:8080/ws with 100 clients: ")
    assert text in line


def test_rate_that_is_too_high(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If not all messages could be sent on schedule, a warning says so."""
    monkeypatch.setattr(running, "DRAIN", 0.1)
    monkeypatch.setattr(running, "GOODBYE", 0.1)
    with Scripted(echo) as peer:
        flags = ("--rate", "1e8", "--seconds", "0.02", "--warmup", "0")
        assert main(["bench", peer.url, *ONE, *flags]) == 0
    out, err = capsys.readouterr()
    assert "fixed rate: 100,000,000 messages/s from 1 sender" in out
    assert re.search(r"^gochat: warning: .* only [\d,]+ messages/s could be sent$", err, re.M)


SVG = "{http://www.w3.org/2000/svg}"


def texts(path: Path) -> list[str]:
    """Return the texts in an SVG file, in order."""
    return [element.text or "" for element in ET.parse(path).iter(f"{SVG}text")]


def markers(path: Path) -> int:
    """Return the number of data points in an SVG file."""
    groups = [group for group in ET.parse(path).iter(f"{SVG}g") if group.get("clip-path")]
    return sum(len(list(group.iter(f"{SVG}use"))) for group in groups)


def test_plot(server: Gochat, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "plot.svg"
    measured(capsys, url(server), "--clients", "12,5", "--plot", str(path), *SHORT)
    found = texts(path)
    for text in (f"gochat bench {url(server)}", "clients", "deliveries/s", "latency, ms"):
        assert found.count(text) == 1
    assert sum("of warm-up" in text for text in found) == 1
    for text in ("all clients", "p50", "p90", "p99", "p99.9"):
        assert found.count(text) == 1
    assert found.count("5") == found.count("12") == 1
    assert markers(path) == 2 * 5


def draw(report: Report, path: Path) -> None:
    """Draw a report.

    matplotlib is imported here, because that takes half a second, and every test process imports
    this file.
    """
    from gochat.bench import plot  # noqa: PLC0415

    plot.draw(report, path)


def test_plot_of_two(tmp_path: Path) -> None:
    """The picture of two servers shows both servers' throughput, p50 and p99."""
    other = Address.parse("ws://example.org/a&b")
    report = Report(Load(), {"A": TARGET.url, "B": other.url})
    for clients in (10, 1000):
        report.runs.append(("A", replace(RESULT, clients=clients)))
        report.runs.append(("B", replace(RESULT, clients=clients, deliveries_per_s=5.0)))
    path = tmp_path / "plot.svg"
    draw(report, path)
    found = texts(path)
    assert f"gochat bench A: {TARGET.url}" in found
    assert "gochat bench B: ws://example.org/a&b" in found
    assert {"A", "B", "A p50", "A p99", "B p50", "B p99", "10", "1,000"} <= set(found)
    assert markers(path) == 2 * 6


def test_plot_is_reproducible(tmp_path: Path) -> None:
    report = Report(Load(), {"A": TARGET.url})
    report.runs += [("A", replace(RESULT, clients=clients)) for clients in (1, 10, 100)]
    draw(report, tmp_path / "a.svg")
    matplotlib = sys.modules["matplotlib"]
    with matplotlib.rc_context({"axes.facecolor": "black", "svg.fonttype": "path"}):
        draw(report, tmp_path / "b.svg")
        assert matplotlib.rcParams["axes.facecolor"] == "black"
    svg = (tmp_path / "a.svg").read_bytes()
    assert svg == (tmp_path / "b.svg").read_bytes()
    assert len(svg) < 50_000


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_plot_formats(tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = tmp_path / f"plot{suffix}"
    report = Report(Load(), {"A": TARGET.url})
    report.runs.append(("A", RESULT))
    draw(report, path)
    assert path.read_bytes().startswith(magic)


def test_plot_into_a_directory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "plot.svg").mkdir()
    with pytest.raises(SystemExit):
        main(["bench", "ws://h", "--plot", str(tmp_path / "plot.svg")])
    assert "plot.svg' cannot be written" in capsys.readouterr().err


def test_plot_without_matplotlib(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without matplotlib, --plot is refused before any client connects."""
    monkeypatch.delitem(sys.modules, "gochat.bench.plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        address = f"ws://127.0.0.1:{sock.getsockname()[1]}"
        with pytest.raises(SystemExit) as caught:
            main(["bench", address, "--plot", str(tmp_path / "plot.svg")])
        with pytest.raises(BlockingIOError):
            sock.accept()
    assert caught.value.code == 2
    assert capsys.readouterr() == (
        "",
        "gochat bench: --plot needs the package matplotlib: pip install 'gochat[plot]'\n",
    )


def test_imports() -> None:
    """The load generator imports neither matplotlib nor the chat server."""
    code = """
        import sys, types
        sys.modules["gochat"] = types.ModuleType("gochat")
        sys.modules["gochat"].__path__ = [sys.argv[1]]
        import gochat.bench.command
        print(*sorted(name for name in sys.modules if name.startswith(("gochat.", "matplotlib"))))
    """
    package = str(Path(str(gochat.__file__)).parent)
    command = [sys.executable, "-c", textwrap.dedent(code), package]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = [name.removeprefix("gochat.") for name in done.stdout.split()]
    own = [name for name in names if not name.startswith("bench")]
    assert own == ["golang", "golang.dial", "golang.flag", "golang.frames"]
    assert "bench.plot" not in names


def test_progress(server: Gochat) -> None:
    ours, theirs = pty.openpty()
    command = [COMMAND, "bench", url(server), "--clients", "4", *SHORT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as program:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 1024)
            except OSError:  # the program has closed its end
                break
        out, _ = program.communicate(timeout=PATIENCE)
    os.close(ours)
    assert program.returncode == 0
    assert "deliveries/s" in out
    assert shown.startswith(b"\r[" + b"." * 30 + b"] 127.0.0.1:%d, 4 clients" % server.port)
    assert b"#####" in shown
    assert shown.endswith(b"\r\x1b[K")


# Ctrl-C.


def interrupted(process: Gochat, *flags: str) -> tuple[str, str]:
    """Interrupt a run while messages are in flight; return its stdout and stderr."""
    command = [COMMAND, "bench", url(process), "--clients", "4", *flags]
    pipe = subprocess.PIPE
    with (
        Peer(process.port) as peer,
        subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as program,
    ):
        assert peer.open().status == 101
        while b"@" not in peer.read_frame().payload:
            pass
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=PATIENCE)
        assert program.returncode == 130
    return out, err


def test_interrupted() -> None:
    """Ctrl-C prints the result so far and no traceback."""
    with Gochat(measured=False) as process:
        out, err = interrupted(process, "--warmup", "0", "--seconds", "60", "--json")
    (run,) = json.loads(out)["runs"]
    assert run["interrupted"]
    assert 0 < run["seconds"] < 60
    assert "Traceback" not in err


def test_interrupted_too_early() -> None:
    """Ctrl-C during the warm-up prints nothing."""
    with Gochat(measured=False) as process:
        assert interrupted(process, "--warmup", "60") == ("", "")


# Errors.


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "URL"),
        (["ws://"], "is not an address such as :8080"),
        (["ws://host:99999"], "is not an address"),
        (["ws://host/\x07"], "is not an address"),
        (["ws://h", "--clients", "0"], "is not a whole number from 1"),
        (["ws://h", "--clients", "10,x"], "is not a whole number from 1"),
        (["ws://h", "--clients", "10,10"], "has the same number twice"),
        (["ws://h", "--clients", "10,3"], "--senders 4 is more than --clients 3"),
        (["ws://h", "--senders", "0"], "is not a whole number from 1 to 65536"),
        (["ws://h", "--senders", "1.5"], "is not a whole number from 1"),
        (["ws://h", "--size", "20"], "is not a whole number from 21 to 65535"),
        (["ws://h", "--size", "65536"], "is not a whole number from 21 to 65535"),
        (["ws://h", "--rate", "0"], "is not a number from 0.000001 to 1000000000"),
        (["ws://h", "--rate", "inf"], "is not a number from 0.000001 to 1000000000"),
        (["ws://h", "--seconds", "nan"], "is not a number of seconds above 0"),
        (["ws://h", "--warmup", "-1"], "is not a number of seconds from 0"),
        (["ws://h", "--warmup", "1e300"], "'1e300' is over the longest time, 9223372036 s"),
        (["ws://h", "--warmup", "1.2.3"], "'1.2.3' is not a number of seconds from 0"),
        (["ws://h", "--pairs", "two"], "is not a whole number from 1"),
        (["ws://h", "--pairs", "5"], "--pairs needs --versus"),
        (["ws://h", "--rate", "5", "--window", "4"], "--window cannot be combined with --rate"),
        (["ws://h", "--versus", "h:"], "is not an address"),
        (["ws://h", "--plot", "/nowhere/x.svg"], "cannot be written"),
        (["ws://h", "--plot", "x" * 300 + ".svg"], "cannot be written"),
        (["ws://h", "--plot", "/"], "does not end in .svg, .png, .pdf"),
        (["ws://h", "--plot", "x.jpeg"], "'x.jpeg' does not end in .svg, .png, .pdf"),
    ],
)
def test_nonsense(capsys: pytest.CaptureFixture[str], args: list[str], text: str) -> None:
    """Each invalid flag is refused with one line that explains the error."""
    with pytest.raises(SystemExit) as caught:
        main(["bench", *args])
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert err.startswith("gochat bench: ")
    assert text in err
    assert err[:-1].isprintable()


def test_the_url_of_an_address() -> None:
    """A server is named by its WebSocket URL, without username and password."""
    assert Address.parse("http://ann:tulip@localhost:8080/").url == "ws://localhost:8080/ws"
    assert Address.parse("https://[::1]:443/x?y=z").url == "wss://[::1]/x?y=z"
    # `gochat talk` accepts the same short forms.
    flags = parse_flags(["bench", ":8080", "--versus", "example.org"])
    assert (flags.url.url, flags.versus.url) == ("ws://localhost:8080/ws", "ws://example.org/ws")


class Guarded(Scripted):
    """A Scripted server with TLS."""

    def __init__(self, certificate: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        super().__init__(echo)

    def _talk(self, sock: socket.socket) -> None:
        with sock, suppress(ssl.SSLError):
            super()._talk(self.context.wrap_socket(sock, server_side=True))


@pytest.mark.parametrize("size", ["21", "60000"])
def test_tls(
    size: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server with TLS can be measured if its certificate is trusted."""
    certificate = make_certificate(tmp_path / "server.pem", "IP:127.0.0.1")
    with Guarded(certificate) as peer:
        url = peer.url.replace("ws://", "wss://")
        line = failed(capsys, url)
        assert line.startswith(
            f"gochat: no WebSocket at {url}: the certificate is not trusted: self"
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        (found,) = measured(capsys, url, *ONE, *SHORT, "--size", size)["runs"]
        assert found["url"] == url
        assert found["received"] == found["sent"] > 0


def test_a_login(capsys: pytest.CaptureFixture[str]) -> None:
    with Scripted(echo) as peer:
        report = measured(capsys, peer.url.replace("//", "//ann:tulip@"), *ONE, *SHORT)
    assert report["servers"] == {"A": peer.url}
    sent = base64.b64encode(b"ann:tulip").decode()
    assert f"\r\nAuthorization: Basic {sent}\r\n" in peer.requests[0]


def test_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    line = failed(capsys, f"ws://127.0.0.1:{port}")
    assert line == f"gochat: cannot connect to 127.0.0.1:{port}: Connection refused"


def test_no_websocket(server: Gochat, capsys: pytest.CaptureFixture[str]) -> None:
    """If the server answers without opening a WebSocket, the error shows the status."""
    line = failed(capsys, f"ws://127.0.0.1:{server.port}/elsewhere")
    assert "no WebSocket at" in line
    assert "'404 NOT FOUND'" in line.upper() or "'404 Not Found'" in line


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"", "the connection was closed without an answer"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "the answer's Sec-WebSocket-Accept does not match the key",
        ),
    ],
)
def test_bad_handshake(capsys: pytest.CaptureFixture[str], answer: bytes, text: str) -> None:
    with Scripted(lambda _: None, answer) as peer:
        assert failed(capsys, peer.url) == f"gochat: no WebSocket at {peer.url}: {text}"


def test_no_answer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "PATIENCE", 0.2)
    with Scripted(swallow, b"") as peer:
        assert failed(capsys, peer.url) == f"gochat: no WebSocket at {peer.url}: no answer in 0.2 s"


def test_server_is_full(capsys: pytest.CaptureFixture[str]) -> None:
    first = threading.Lock()

    class Small(Scripted):
        def _talk(self, sock: socket.socket) -> None:
            if first.acquire(blocking=False):
                super()._talk(sock)
            else:
                sock.close()

    with Small(echo) as peer:
        line = failed(capsys, peer.url, "--clients", "1000", "--senders", "1")
    assert line.endswith(" (for client 2 of 1,000)")


def limited(files: str, server: Gochat, clients: int) -> subprocess.CompletedProcess[str]:
    """Run `gochat bench` with a limit on open files, set by `ulimit`."""
    command = f'ulimit {files} && exec "$0" bench "$@"'
    args = [COMMAND, url(server), "--clients", str(clients), *SHORT]
    return subprocess.run(
        ["sh", "-c", command, *args], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_too_few_files(server: Gochat) -> None:
    """If the limit on open files is too low for all clients, none connects."""
    done = limited("-n 100", server, 90)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "gochat: 90 clients need 122 open files; 100 are allowed (see ulimit -n)\n"
    )


def test_more_files_are_asked_for(server: Gochat) -> None:
    """The soft limit on open files is raised up to the hard limit."""
    done = limited("-S -n 40", server, 50)
    assert done.returncode == 0
    assert re.search(r"^clients dropped +0$", done.stdout, re.M)


def test_drops(capsys: pytest.CaptureFixture[str]) -> None:
    """Dropped clients are counted by close code, and the command fails."""
    with Gochat("--max-message-size", "32", measured=False) as process:
        args = [url(process), "--clients", "6", "--senders", "2", "--json", *SHORT]
        assert main(["bench", *args]) == 1
    out, err = capsys.readouterr()
    (run,) = json.loads(out)["runs"]
    assert run["closes"] == 2
    assert run["close_codes"] == {"1009": 2}
    # The other four clients received nothing.
    assert run["undelivered"] == 4 * run["sent"]
    warning, line = err.splitlines()
    assert "deliveries were missing" in warning
    assert line == f"gochat: {url(process)} dropped 2 of 6 clients (1009: 2)"


def test_all_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    with Gochat("--max-message-size", "32", measured=False) as process:
        line = failed(capsys, url(process), "--clients", "4", "--seconds", str(10 * PATIENCE))
    assert "dropped 4 of 4 clients" in line


@pytest.mark.parametrize("serve", [swallow, lambda stream: stream.read(2)])
def test_no_chat(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    serve: Callable[[Stream], None],
) -> None:
    """If the server closes connections or does not pass on messages, an error is reported."""
    monkeypatch.setattr(running, "PATIENCE", 0.3)
    with Scripted(serve) as peer:
        line = failed(capsys, peer.url, "--clients", "3", "--senders", "1")
    assert line == (
        f"gochat: 3 of 3 clients at {peer.url} did not receive a message sent to all: is it a chat?"
    )


def test_fails_later(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If a later run fails, earlier results are still shown, with `-` for missing ones."""
    monkeypatch.setattr(running, "DRAIN", 0.1)
    path = tmp_path / "plot.svg"

    def serve(stream: Stream) -> None:
        stream.sock.sendall(frame(read_masked(stream)[1], mask=None))
        swallow(stream)

    def only_a_look(stream: Stream) -> None:
        other.answer = b"HTTP/1.1 503 Full\r\n\r\n"  # for the next connection
        swallow(stream)

    monkeypatch.setattr(running, "GOODBYE", 0.1)
    with Scripted(serve) as peer, Scripted(only_a_look) as other:
        flags = (*ONE, *SHORT, "--plot", str(path))
        assert main(["bench", peer.url, "--versus", other.url, *flags]) == 1
    out, err = capsys.readouterr()
    assert re.search(r"^latency p50, ms +-$", out, re.M)
    assert err.splitlines()[-1] == f"gochat: no WebSocket at {other.url}: the answer is '503 Full'"
    assert "A p50" in texts(path)


def test_nobody_to_compare_with(capsys: pytest.CaptureFixture[str]) -> None:
    """If the second server cannot be reached, the first server is not measured."""
    with Scripted(swallow) as peer, socket.create_server(("127.0.0.1", 0)) as sock:
        nobody = f"127.0.0.1:{sock.getsockname()[1]}"
        sock.close()
        assert main(["bench", peer.url, "--versus", nobody, *ONE, *SHORT]) == 1
        assert peer.requests == []
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"gochat: cannot connect to {nobody}: Connection refused\n")


@pytest.mark.parametrize(
    ("host", "clients", "index", "expected"),
    [
        ("127.0.0.1", 20_000, 19_999, None),
        ("127.0.0.1", 50_000, 0, ("127.0.1.1", 0)),
        ("localhost", 50_000, 19_999, ("127.0.1.1", 0)),
        ("127.0.0.1", 50_000, 49_999, ("127.0.3.1", 0)),
        ("192.0.2.1", 50_000, 49_999, None),
    ],
)
def test_source(host: str, clients: int, index: int, expected: tuple[str, int] | None) -> None:
    """On loopback, clients use more source addresses if one has too few ports."""
    run = Run(Address.parse(f"ws://{host}:80"), Load(clients=clients), lambda _: None)
    with run.selector:
        assert run.source(index) == expected

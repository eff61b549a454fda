"""Cause many faults in a real gochat while two clients chat, and print a table of the results.

    python -m tests.harm --seed 1

Each fault gets a new server on 127.0.0.1 with short timeouts. The two clients run in their own
process, so that the process that causes the fault cannot disturb them. Each must get every message
once and in order, and the server must release all threads and descriptors. Otherwise,
AssertionError names the fault and the seed.

--write puts the table into docs/run/reliability.md, between two comments.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple

from gochat.golang.http.address import listen

from .fuzz import (
    BROKEN,
    CLOSED,
    FRAMES,
    LIMIT,
    NOT_UTF8,
    REQUESTS,
    TOO_BIG,
    Friends,
    Fuzz,
    Guest,
    Input,
    Kinds,
    any_source,
    close,
    flood_of_messages,
    make_input,
)
from .loop import Frames, Loop, idle, resources
from .support import (
    CLOSE,
    HANDSHAKE,
    PATIENCE,
    PING,
    PONG,
    ROOT,
    TEXT,
    Gochat,
    Peer,
    deaf,
    frame,
    join,
    request,
    wait_until,
)

PAGE = ROOT / "docs" / "run" / "reliability.md"
BEGIN, END = "<!-- begin: written by tests/harm.py -->", "<!-- end: written by tests/harm.py -->"

#: The timeouts of client.go, scaled down. The send buffer is so large that a flood never
#: disconnects a client that reads.
HEADER_TIMEOUT, PONG_WAIT, WRITE_WAIT, SHUTDOWN_TIMEOUT = 1.0, 3.0, 1.0, 1.0
FLAGS = [
    f"--read-header-timeout={HEADER_TIMEOUT}",
    f"--pong-wait={PONG_WAIT}",
    f"--write-wait={WRITE_WAIT}",
    f"--shutdown-timeout={SHUTDOWN_TIMEOUT}",
    "--ping-period=1",
    "--send-buffer=20000",
]

#: Seconds that a busy machine may add to any step.
SLACK = 15.0

#: The source address of the harmful clients. The two chatting clients use 127.0.0.1.
ELSEWHERE = "127.0.0.2"

#: Code for the server that makes sends and receives on its connections fail at random: a call may
#: be short, late or interrupted, or raise BlockingIOError. With probability `reset`, the connection
#: is lost, unless its client has the address `spare`. At its end, the process prints how often each
#: fault occurred.
SHIM = """
    import atexit, collections, random, signal, socket, sys, threading, time

    chance, lock = random.Random({seed}), threading.Lock()
    done = collections.Counter()
    sleep, kind = time.sleep, socket.socket
    greenlets = hasattr(kind, "_gevent_sock_class")
    if greenlets:
        from gevent.monkey import get_original
        sleep, kind = get_original("time", "sleep"), kind._gevent_sock_class

    def happens(what, how_often):
        with lock:
            happening = chance.random() < how_often
            done[what] += happening
        return happening

    def tell():
        signal.setitimer(signal.ITIMER_REAL, 0)
        counts = (f"{{count:,}} {{what}}" for what, count in done.items())
        print("faults:", ", ".join(counts), file=sys.stderr)

    def interrupt():
        # Only a signal with a Python handler interrupts a system call: see PEP 475.
        while True:
            time.sleep(0.002)
            thread = random.choice(threading.enumerate())
            try:
                signal.pthread_kill(thread.ident, signal.SIGUSR2)
                done["interrupts"] += 1
            except (ProcessLookupError, TypeError):
                pass

    def faulty(call, take):
        def shim(self, what, *args):
            if self.family == socket.AF_UNIX:  # it wakes the server, and is not a connection
                return call(self, what, *args)
            spared = {spare!r} and self.getpeername()[0] == {spare!r}
            if not spared and happens("resets", {reset}):
                self.shutdown(socket.SHUT_RDWR)
                raise ConnectionResetError(104, "fault")
            if happens("delayed", 0.02):
                sleep(0.005)
            if args and happens("retried", 0.1):
                raise BlockingIOError(11, "fault")
            if happens("short", 0.5):
                what = take(what, chance.random())
            return call(self, what, *args)
        return shim

    def some(data, part):
        return data[: max(1, int(len(data) * part))]

    def fewer(size, part):
        return max(1, int(size * part))

    kind.send = faulty(kind.send, some)
    kind.recv = faulty(kind.recv, fewer)
    signal.signal(signal.SIGUSR2, lambda *_: None)
    signal.signal(signal.SIGALRM, lambda *_: done.update(["interrupts"]))
    if greenlets:  # there is only one thread
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    else:
        threading.Thread(target=interrupt, name="interrupt", daemon=True).start()
    atexit.register(tell)
"""


class Row(NamedTuple):
    done: str
    client: str
    others: str = ""
    left: str = ""


class Amount(NamedTuple):
    """A count or a duration: `much`, or `little` in a quick run."""

    seed: int
    quick: bool = False

    def __call__(self, much: int, little: int) -> int:
        return little if self.quick else much


# The wording of the table.


def took(times: Sequence[float]) -> str:
    """Return the median and the maximum, with a unit."""
    if not times:
        return "immediately"
    middle, most = statistics.median(times), max(times)
    if most < 0.1:
        return f"{1000 * middle:.0f} / {1000 * most:.0f} ms"
    return f"{middle:.2f} / {most:.2f} s"


def counted(outcomes: Counter[str]) -> str:
    """Return the number of each outcome, as text. Three or more kinds of refusal count as one."""
    counts: Counter[str] = Counter()
    refusals = {outcome for outcome in outcomes if outcome[:1] in "45"}
    for outcome, count in outcomes.items():
        words = {"left": "client left", "EOF": "cut", "reset": "reset"}
        name = outcome.removeprefix("101, ")
        if len(refusals) > 2 and outcome in refusals:
            name = "400 to 505"
        counts[words.get(name, name)] += count
    return "; ".join(f"{count:,} × {name}" for name, count in counts.most_common())


# The two clients that chat.


class Word:
    """Part of a loop: notices that stdin has ended."""

    said = False

    def ready(self, _: int) -> None:
        self.said = True

    def close(self) -> None:
        pass


def chat_as_friends(seed: int) -> None:
    """Run the two clients' process: read the port, chat until stdin ends, print the results."""
    port, loop, word = int(sys.stdin.readline()), Loop(), Word()
    friends = Friends(loop, port, f"friends of {seed}")
    print("ready", flush=True)
    loop.selector.register(sys.stdin, select.EPOLLIN, word)
    while not word.said:
        loop.turn()
        friends.check()
    friends.end()
    trips = [trip for friend in friends.all for trip in friend.round_trips]
    print(json.dumps({"said": friends.said, "trips": trips}))
    loop.close()


class Others:
    """The process with the two chatting clients."""

    def __init__(self, seed: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.harm", "--chat", "--seed", str(seed)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self, port: int) -> None:
        """Let the two clients join; return once they are chatting."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{port}\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "ready\n":
            self.end()

    def check(self) -> None:
        """Raise AssertionError if one of the two clients had trouble."""
        if self.process.poll() is not None:
            self.end()

    def end(self) -> str:
        """Return what the two clients measured. Raises AssertionError if a client had trouble."""
        out, errors = self.process.communicate(timeout=2 * PATIENCE)
        assert self.process.returncode == 0, f"the two who chat: {errors}"
        found = json.loads(out)
        trips = [1000 * trip for trip in found["trips"]]
        said = f"{found['said']:,} of {found['said']:,}"
        return f"{said}; {statistics.median(trips):.1f} / {max(trips):.0f} ms"

    def kill(self) -> None:
        """End the process after a failure, without a result."""
        self.process.kill()
        self.process.communicate()


# The server under attack.


class Scene:
    """A gochat with two chatting clients.

    threads: the number of threads that the server has without clients.

    After the block, `others` is what the two clients measured, and `left` is what the server did
    not release.
    """

    def __init__(
        self,
        amount: Amount,
        *flags: str,
        fault: str = "",
        threads: int = 2,
        traceback: bool = False,
    ) -> None:
        self.seed = amount.seed
        self.traceback = traceback
        self.two = Others(self.seed)
        try:
            self.gochat = Gochat(*FLAGS, *flags, fault=fault)
            self.before = idle(self.gochat, threads)
            self.memory = self.gochat.memory()
            self.loop = Loop()
        except BaseException:
            self.two.kill()
            raise
        self.others = self.left = ""

    def __enter__(self) -> Scene:
        self.two.begin(self.gochat.port)
        #: The server's resources with only those two clients.
        self.calm = resources(self.gochat)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _tb: object) -> None:
        with self.gochat:
            try:
                if error is None:
                    self.run_until(lambda: resources(self.gochat) == self.calm, "nothing is left")
                    self.others = self.two.end()
                    wait_until(lambda: resources(self.gochat) == self.before, "all is released")
                    self.left = f"nothing; {(self.gochat.memory() - self.memory) / 1e6:+.1f} MB"
                else:
                    self.two.kill()
            finally:
                self.loop.close()
        if error is None:
            assert self.gochat.process.returncode == 0
            tail = "\n".join(self.gochat.lines[-50:])
            assert self.traceback or not self.gochat.logged("Traceback"), tail

    def row(self, done: str, client: str) -> Row:
        """Return the table's row. Call it after the block."""
        return Row(done, client, self.others, self.left)

    def run_until(self, condition: Callable[[], bool], what: str) -> None:
        """Run until a condition holds. Raises AssertionError if a client had trouble."""

        def checked() -> bool:
            self.two.check()
            return condition()

        self.loop.run_until(checked, what)

    def run_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.run_until(lambda: time.monotonic() >= end, "the time")

    def inflict(
        self,
        count: int,
        make: Callable[[int], Input],
        *,
        at_once: int = 100,
        source: Callable[[int], str] = any_source,
        breaking: bool = False,
    ) -> tuple[Counter[str], list[float]]:
        """Send `count` inputs; return the outcomes and the time each one took, in seconds."""

        def make_one(_: int, number: int) -> tuple[str, Input]:
            return "made", make(number)

        return self.fuzz(count, make_one, at_once=at_once, source=source, breaking=breaking)

    def fuzz(
        self,
        count: int,
        make: Callable[[int, int], tuple[str, Input]],
        *,
        at_once: int = 100,
        source: Callable[[int], str] = any_source,
        breaking: bool = False,
    ) -> tuple[Counter[str], list[float]]:
        """Send `count` inputs like `inflict`, from a function that also returns their kinds."""
        fuzz = Fuzz(
            self.gochat.port,
            self.seed,
            make=make,
            source=source,
            loop=self.loop,
            breaking=breaking,
        )
        fuzz.attack(count, 0, at_once, 0, self.two.check)
        assert not fuzz.failures, "\n".join(fuzz.failures[:20])
        return sum(fuzz.kinds.values(), Counter()), fuzz.waits

    def gone(self, count: int, since: float) -> list[float]:
        """Wait until the server has released `count` sockets; return the seconds each took.

        since: the time to measure from. A client's threads end before its socket is closed. When
        this returns, only the two chatting clients are left.
        """
        times: list[float] = []

        def look() -> None:
            left = max(0, self.gochat.descriptors() - self.calm[1])
            times.extend([time.monotonic() - since] * (count - len(times) - left))
            if left:
                self.loop.after(0.002, look)

        look()

        self.run_until(lambda: len(times) == count, "the end of all of them")
        return times

    def strangers(self, count: int) -> list[Stranger]:
        """Add `count` clients that read."""
        strangers = [Stranger(self.loop, self.gochat.port) for _ in range(count)]
        self.run_until(lambda: all(one.connected for one in strangers), "a full room")
        return strangers


class Stranger(Guest):
    """A client other than the two that chat. `outcome` tells how the connection ended."""

    def __init__(self, loop: Loop, port: int) -> None:
        super().__init__(loop, port, ELSEWHERE)
        self.outcome = ""

    def ended(self, reset: bool) -> None:
        self.outcome = self.answer.outcome("reset" if reset else "EOF")


def deaf_strangers(gochat: Gochat, count: int, stack: ExitStack) -> list[Peer]:
    """Add `count` clients that do not read."""
    return [stack.enter_context(deaf(gochat.port, ELSEWHERE)) for _ in range(count)]


class EchoTalker(Stranger):
    """Sends a message whenever the previous one comes back, and records all messages."""

    def __init__(self, loop: Loop, port: int, number: int, size: int) -> None:
        super().__init__(loop, port)
        self.mine = b"talker %d " % number
        self.padding = b"x" * size
        self.said = 0
        #: The talker's and the message's number, for each message received.
        self.heard: list[tuple[int, int]] = []

    def say(self) -> None:
        if self.answer.farewell is None and not self.closed:
            self.send(frame(b"%s%d %s" % (self.mine, self.said, self.padding)))
            self.said += 1

    def hear(self, message: bytes) -> None:
        if message.startswith(b"talker "):
            _, who, number, _ = message.split(b" ", 3)
            self.heard.append((int(who), int(number)))
            if message.startswith(self.mine):
                self.say()


# The faults. Each function causes one and returns its row.

Trial = Callable[[Amount], Row]

#: For each name: the fault, its function, and the tests of the same fault.
TRIALS: dict[str, tuple[str, Trial, str]] = {}


def trial(name: str, fault: str, tests: str = "") -> Callable[[Trial], Trial]:
    """Return a decorator that registers the fault's function in TRIALS."""

    def add(function: Trial) -> Trial:
        TRIALS[name] = fault, function, tests
        return function

    return add


def inflicted(
    amount: Amount,
    done: str,
    count: int,
    make: Callable[[int], Input],
    *flags: str,
    at_once: int = 100,
    deadline: tuple[str, float] | None = None,
) -> Row:
    """Return the row for a fault that only sends inputs.

    deadline: the name of the timeout that ends each connection, and its length in seconds.
    """
    with Scene(amount, *flags) as scene:
        outcomes, times = scene.inflict(count, make, at_once=at_once)
    client = f"{counted(outcomes)}; {took(times)}"
    if deadline is not None:
        name, seconds = deadline
        assert min(times) > seconds - 0.5
        assert max(times) < seconds + SLACK
        client += f", with a {name} of {seconds:g} s"
    return scene.row(done, client)


@trial("calm", "None")
def calm(amount: Amount) -> Row:
    with Scene(amount) as scene:
        scene.run_for(amount(10, 1))
    return scene.row("10 s", "-")


@trial("deaf", "Clients stop reading", "`test_client_that_stops_reading_is_dropped`")
def stops_reading(amount: Amount) -> Row:
    count = amount(50, 5)
    with Scene(amount, "--send-buffer=256", "--max-message-size=20100") as scene:
        with ExitStack() as stack:
            deaf_strangers(scene.gochat, count, stack)
            talker = EchoTalker(scene.loop, scene.gochat.port, 0, 20_000)
            scene.run_until(lambda: talker.connected, "one who talks")
            scene.calm = scene.calm[0] + 2, scene.calm[1] + 1
            begin = time.monotonic()
            talker.say()
            times = scene.gone(count, begin)
            talker.close()
            said = talker.said
            scene.calm = scene.calm[0] - 2, scene.calm[1] - 1
        assert talker.heard == [(0, number) for number in range(len(talker.heard))]
    return scene.row(
        f"{count} clients; another client sends {said:,} messages of 20 kB",
        f"{count} × dropped; {took(times)}: the buffers fill, then a write wait of"
        f" {WRITE_WAIT:g} s",
    )


class CountingFlooder(Stranger):
    """Sends as fast as the server reads, and counts its own messages as they come back."""

    def __init__(self, loop: Loop, port: int, number: int) -> None:
        super().__init__(loop, port)
        self.mine = b"flood %d " % number
        self.said = 0
        self.accepted = 0

    def ended(self, reset: bool) -> None:
        super().ended(reset)
        raise AssertionError(f"a flooder was cut: {self.outcome}")

    def flood(self) -> None:
        """Keep more data ready than the server accepts."""
        if self.closed:
            return
        if len(self._unsent) < 1 << 16:
            numbers = range(self.said, self.said + 500)
            self.send(b"".join(frame(b"%s%d %s" % (self.mine, i, b"x" * 100)) for i in numbers))
            self.said += 500
        self.loop.after(0.02, self.flood)

    def hear(self, message: bytes) -> None:
        if message.startswith(self.mine):
            self.accepted += 1


class SlowReader:
    """Reads a little now and then, and must not miss a message."""

    def __init__(self, scene: Scene, peer: Peer, size: int) -> None:
        self.scene, self.peer, self.size = scene, peer, size
        self.frames = Frames()
        self.stopped = False
        self.last: dict[bytes, int] = {}

    def read(self) -> None:
        if self.stopped:
            return
        with suppress(BlockingIOError):
            data = self.peer.sock.recv(self.size, socket.MSG_DONTWAIT)
            assert data, "a slow reader was dropped"
            for got in self.frames.take(bytes(self.peer.buffer) + data):
                assert got.opcode != CLOSE, f"a slow reader was dropped: {got}"
                if got.opcode == PING:
                    self.peer.send(got.payload, PONG)
                if got.opcode == TEXT:
                    self.hear(got.payload)
            self.peer.buffer.clear()
        self.scene.loop.after(0.05, self.read)

    def hear(self, payload: bytes) -> None:
        for message in payload.split(b"\n"):
            if message.startswith(b"flood "):
                _, who, number, _ = message.split(b" ", 3)
                if who in self.last:
                    assert int(number) == self.last[who] + 1, message
                self.last[who] = int(number)


@trial("flood", "Clients flood, with `--rate`", "`test_a_flooder_at_its_rate_hurts_nobody`")
def floods(amount: Amount) -> Row:
    """Flooders stay longer than the pong wait, although their pongs are stuck behind the flood."""
    count, seconds, rate, burst = amount(10, 3), amount(5, 2), 60, 10
    flags = (f"--rate={rate}", f"--burst={burst}", f"--pong-wait={seconds}", "--send-buffer=256")
    with Scene(amount, *flags) as scene:
        with ExitStack() as stack:
            slow = [
                SlowReader(scene, peer, 8192)  # reads up to 160 kB/s, slightly more than is sent
                for peer in deaf_strangers(scene.gochat, 2, stack)
            ]
            port = scene.gochat.port
            flooders = [CountingFlooder(scene.loop, port, number) for number in range(count)]
            scene.run_until(lambda: all(f.connected for f in flooders), "all flooders")
            memory, begin = scene.gochat.memory(), time.monotonic()
            for reader in slow:
                reader.read()
            for flooder in flooders:
                flooder.flood()
            scene.run_for(1.5 * seconds)
            lived, more = time.monotonic() - begin, scene.gochat.memory() - memory
            for flooder in flooders:
                flooder.close(reset=True)
            for reader in slow:
                reader.stopped = True
                assert len(reader.last) == count, "a slow reader gets nothing"
        for flooder in flooders:
            # After a delay, a busy server can read a burst at once, but no more.
            assert flooder.accepted <= burst + rate * (lived + 1), (
                f"{flooder.accepted} in {lived} s"
            )
            assert flooder.accepted >= rate * lived / 4, f"{flooder.accepted} in {lived} s"
        assert more < 20e6, f"{more} bytes more"
    each = [(flooder.accepted - burst) / lived for flooder in flooders]
    return scene.row(
        f"{count} flooders and 2 slow readers for {lived:.1f} s; `--rate {rate}`,"
        f" `--burst {burst}`, `--pong-wait {seconds}`",
        f"none cut or dropped; {min(each):.1f} to {max(each):.1f} messages a second read from each"
        f" flooder after its burst; memory {more / 1e6:+.1f} MB during the flood",
    )


@trial("silent", "Clients are silent", "`test_silent_client_is_given_up_at_the_pong_wait`")
def answers_no_ping(amount: Amount) -> Row:
    count, ends = amount(50, 5), ["101, EOF", "101, close 1005"]
    return inflicted(
        amount,
        f"{count} clients that answer no pings",
        count,
        lambda _: Input([request(), None], "wait", ends),
        deadline=("pong wait", PONG_WAIT),
    )


@trial("killed", "Clients disconnect without a close frame", "tests/test_delivery.py")
def killed(amount: Amount) -> Row:
    count = amount(200, 10)
    times: list[float] = []
    with Scene(amount) as scene:
        for reset in (True, False):
            strangers = scene.strangers(count)
            begin = time.monotonic()
            for stranger in strangers:
                if reset:
                    stranger.close(reset=True)
                else:
                    stranger.half_close()
            times += scene.gone(count, begin)
            scene.run_until(lambda: all(s.closed for s in strangers), "each end")  # noqa: B023
    return scene.row(
        f"{count} clients reset their connections; {count} send FIN",
        f"{2 * count} × released; {took(times)}",
    )


@trial("drip", "Requests are incomplete or very slow", "`test_a_request_that_drips_is_cut`")
def drips(amount: Amount) -> Row:
    count = amount(200, 10)
    whole = request()

    def make(number: int) -> Input:
        if number % 2:
            return Input([whole[: number % len(whole)]], "wait", ["EOF"])
        drops: list[bytes | float | None] = []
        for i in range(len(whole)):
            drops += [whole[i : i + 1], 1.0 if number % 4 else 0.1]
        return Input(drops, "wait", ["EOF"])

    return inflicted(
        amount,
        f"{count // 2} stop in the middle; {count // 2} send 1 or 10 bytes a second",
        count,
        make,
        at_once=count,
        deadline=("request timeout", HEADER_TIMEOUT),
    )


@trial("abandoned", "Connections are opened and dropped", "`test_clients_that_leave`")
def leaves_at_once(amount: Amount) -> Row:
    count = amount(5000, 100)
    ways = [
        Input([], "close", ["left"]),
        Input([], "reset", ["left"]),
        Input([request()], "reset", ["left", "101, left"]),
        Input([request(), None], "close", ["101, left"]),
    ]
    with Scene(amount) as scene:
        outcomes, _ = scene.inflict(count, lambda number: ways[number % len(ways)])
        begin = time.monotonic()
        scene.run_until(lambda: resources(scene.gochat) == scene.calm, "an end of it")
        over = time.monotonic() - begin
        assert outcomes.total() == count
        assert over < HEADER_TIMEOUT + SLACK
    return scene.row(
        f"{count:,}: half before sending a request, half after",
        f"all released {1000 * over:.0f} ms after the last one",
    )


def bad_input(amount: Amount, kinds: Kinds) -> Row:
    count = amount(2000, 100)
    with Scene(amount) as scene:
        outcomes, times = scene.fuzz(count, lambda seed, n: make_input(seed, n, kinds))
        assert max(times) < LIMIT
    return scene.row(
        f"{count:,}, at random from {len(kinds)} kinds", f"{counted(outcomes)}; {took(times)}"
    )


@trial("handshakes", "Bad handshakes", "tests/test_fuzz.py, `test_a_malformed_request`")
def bad_handshakes(amount: Amount) -> Row:
    return bad_input(amount, REQUESTS)


@trial("frames", "Bad frames", "tests/test_fuzz.py, 301 Autobahn cases")
def bad_frames(amount: Amount) -> Row:
    # Floods are valid frames and have their own rows.
    return bad_input(amount, [kind for kind in FRAMES if kind[0] is not flood_of_messages])


@trial("body", "Requests with a body", "`test_a_body_that_nobody_reads`, `test_a_body_without_end`")
def bodies(amount: Amount) -> Row:
    count = amount(200, 10)
    head = request([*HANDSHAKE[:1], ("Content-Length", "1000000")], "GET / HTTP/1.1")
    with Scene(amount) as scene:
        outcomes, times = scene.inflict(
            count, lambda number: Input([head + b"x" * (number * 5000)], "wait", ["200"])
        )
        assert max(times) < HEADER_TIMEOUT + SLACK
    return scene.row(f"{count}, of up to 1 MB", f"{counted(outcomes)}; {took(times)}")


@trial("messages", "Messages are refused", "test_conn.py, test_recorded.py")
def bad_messages(amount: Amount) -> Row:
    count = amount(200, 10)
    ways = [
        (frame("x" * 513), TOO_BIG),
        (frame("hello", mask=None), BROKEN),
        (frame(b"caf\xe9"), NOT_UTF8),
    ]

    def make(number: int) -> Input:
        data, expected = ways[number % len(ways)]
        return Input([request(), None, data], "half close", [expected])

    done = f"{count} too long; {count} unmasked; {count} not UTF-8"
    return inflicted(amount, done, count * len(ways), make)


@trial("pings", "Floods of pings", "tests/test_fuzz.py")
def pings(amount: Amount) -> Row:
    count, each = amount(200, 5), amount(1000, 200)
    data = frame(b"x" * 125, PING) * each + close()
    return inflicted(
        amount,
        f"{count} clients with {each:,} each",
        count,
        lambda _: Input([request(), None, data], "wait", [CLOSED]),
        # These clients answer no pings, and a busy machine needs longer than the usual timeouts.
        *("--pong-wait=30", "--write-wait=30"),
        at_once=10,
    )


@trial("empty", "Floods of empty messages", "tests/test_fuzz.py")
def empty_messages(amount: Amount) -> Row:
    count, each = amount(50, 3), amount(500, 100)
    data = frame("") * each + close()
    return inflicted(
        amount,
        f"{count} clients with {each:,} each",
        count,
        lambda _: Input([request(), None, data], "wait", [CLOSED]),
        at_once=10,
    )


#: A refusal is sent before the request arrives. A request that arrives later is answered with a
#: reset.
REFUSED = ["503", "503, reset", "reset"]


def too_many(amount: Amount, flag: str, inside: int, source: Callable[[int], str]) -> Row:
    count = amount(1000, 30)
    with Scene(amount, flag) as scene:
        strangers = scene.strangers(inside)
        outcomes, times = scene.inflict(
            count, lambda _: Input([request()], "wait", REFUSED), source=source
        )
        assert outcomes["503"] + outcomes["503, reset"] > 0
        for stranger in strangers:
            stranger.close()
        scene.run_until(lambda: resources(scene.gochat) == scene.calm, "room")
        again, _ = scene.inflict(
            inside,
            lambda _: Input([request() + close()], "wait", [CLOSED]),
            at_once=1,
            source=source,
        )
    return scene.row(
        f"{count:,} more than `{flag}` allows",
        f"{counted(outcomes)}; {took(times)}; with room again, {counted(again)}",
    )


@trial("full", "Too many clients", "`test_many_connections`")
def too_many_in_all(amount: Amount) -> Row:
    return too_many(amount, "--max-clients=20", 18, any_source)


@trial("address", "Too many clients at one address", "`test_connections_of_one_address`")
def too_many_of_one_address(amount: Amount) -> Row:
    return too_many(amount, "--max-clients-per-address=5", 5, lambda _: ELSEWHERE)


@trial("descriptors", "No descriptors left", "`test_no_more_descriptors`")
def no_descriptors(amount: Amount) -> Row:
    limit, count = amount(60, 30), amount(200, 20)
    fault = f"""
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, hard))
    """
    with Scene(amount, fault=fault) as scene:
        assert resource.prlimit(scene.gochat.process.pid, resource.RLIMIT_NOFILE)[0] == limit
        room = limit - scene.calm[1]
        strangers = scene.strangers(room)
        outcomes, times = scene.inflict(count, lambda _: Input([request()], "wait", REFUSED))
        assert outcomes["503"] + outcomes["503, reset"] > 0
        for stranger in strangers:
            assert not stranger.closed, "a client that was served was cut"
            stranger.close()
        scene.run_until(lambda: resources(scene.gochat) == scene.calm, "room")
        again, _ = scene.inflict(
            room, lambda _: Input([request() + close()], "wait", [CLOSED]), at_once=5
        )
    return scene.row(
        f"{count} more than {limit} descriptors allow",
        f"{counted(outcomes)}; {took(times)}; with room again, {counted(again)}",
    )


@trial(
    "threads",
    "No threads left",
    "`test_a_thread_that_cannot_be_started`, `test_write_pump_that_cannot_be_started`, "
    "`test_a_burst_when_threads_are_short`",
)
def no_threads(amount: Amount) -> Row:
    count = amount(500, 50)
    # Only clients from other addresses are affected, so the two chatting clients are spared.
    fault = f"""
        import random, threading

        chance = random.Random({amount.seed})

        def start(self, start=threading.Thread.start):
            pump = self.name.startswith(("serve ", "writePump "))
            if pump and " 127.0.0.1:" not in self.name and chance.random() < 0.3:
                raise RuntimeError("can't start new thread")
            start(self)

        threading.Thread.start = start
    """
    expected = [*REFUSED, CLOSED]
    with Scene(amount, fault=fault) as scene:
        outcomes, times = scene.inflict(
            count, lambda _: Input([request(), close()], "wait", expected), at_once=20
        )
        for answer in ("503", CLOSED):
            assert outcomes[answer] > 0, f"{answer} is not among {outcomes}"
    return scene.row(
        f"{count} clients; 30% of their threads fail to start",
        f"{counted(outcomes)}; {took(times)}",
    )


def injected(gochat: Gochat) -> str:
    """Return the shim's counts of the faults it has injected."""
    (line,) = (line for line in gochat.lines if line.startswith("faults: "))
    parts = line.removeprefix("faults: ").split(", ")
    return ", ".join(part for part in parts if not part.startswith("0 "))


@trial(
    "calls",
    "System calls are short, slow or interrupted",
    "`test_socket_calls_that_do_half_their_work`",
)
def half_calls(amount: Amount) -> Row:
    count = amount(10, 4)
    fault = SHIM.format(seed=amount.seed, reset=0, spare="")
    with Scene(amount, fault=fault, threads=3) as scene:
        names = [f"No{number}" for number in range(count)]
        talk = Friends(scene.loop, scene.gochat.port, "these", names=names)
        end = time.monotonic() + amount(10, 1)
        while time.monotonic() < end:
            scene.loop.turn()
            talk.check()
            scene.two.check()
        talk.end()
        for friend in talk.all:
            friend.close()
    return scene.row(
        f"{count} clients that chat; {injected(scene.gochat)}",
        f"each received all {talk.said:,} messages, once and in order",
    )


@trial("resets", "Connections break during any call", "`test_connections_that_are_reset`")
def resets(amount: Amount) -> Row:
    count = amount(500, 30)
    fault = SHIM.format(seed=amount.seed, reset=0.02, spare="127.0.0.1")
    data = [frame(f"{i} " + "x" * 100) for i in range(10)]
    with Scene(amount, fault=fault, threads=3) as scene:
        outcomes, _ = scene.inflict(
            count,
            lambda _: Input([request(), None, *data, close()], "wait"),
            at_once=20,
            breaking=True,
        )
        cut = outcomes.total() - outcomes[CLOSED]
        assert cut > 0
    return scene.row(f"{count} clients; {injected(scene.gochat)}", f"{counted(outcomes)}")


@trial("origin", "Pages from other origins", "`test_ways_round_the_origin_check`")
def origins(amount: Amount) -> Row:
    count = amount(500, 30)
    foreign = ["http://evil.example", "null", "http://localhost.evil.example", "http://localhost:1"]

    def make(number: int) -> Input:
        headers = [*HANDSHAKE, ("Origin", foreign[number % len(foreign)])]
        return Input([request(headers) + frame("hello")], "half close", ["403"])

    with Scene(amount) as scene:
        outcomes, times = scene.inflict(count, make)
        assert scene.gochat.logged("may not connect")
    return scene.row(f"{count}, from 4 origins", f"{counted(outcomes)}; {took(times)}")


@trial("disk", "The log's disk is full", "`test_a_full_disk_under_the_log`")
def full_disk(amount: Amount) -> Row:
    count = amount(500, 30)
    fault = """
        import os, signal

        full = os.open("/dev/full", os.O_WRONLY)
        signal.signal(signal.SIGUSR2, lambda *_: os.dup2(full, 2))
    """
    headers = [*HANDSHAKE, ("Origin", "http://evil.example")]
    with Scene(amount, fault=fault) as scene:
        scene.gochat.process.send_signal(signal.SIGUSR2)
        log = Path(f"/proc/{scene.gochat.process.pid}/fd/2")
        wait_until(lambda: str(log.readlink()) == "/dev/full", "a full disk")
        outcomes, times = scene.inflict(
            count, lambda _: Input([request(headers)], "half close", ["403"])
        )
    return scene.row(f"{count} lines that cannot be written", f"{counted(outcomes)}; {took(times)}")


# Shutdown.


@contextmanager
def stage(*flags: str, fault: str = "") -> Iterator[tuple[Gochat, Loop, ExitStack]]:
    """Yield a gochat to shut down, a loop, and a stack. All three are closed at the end."""
    loop = Loop()
    try:
        with ExitStack() as stack, Gochat(*FLAGS, *flags, fault=fault) as gochat:
            yield gochat, loop, stack
    finally:
        loop.close()


def process_end(gochat: Gochat, loop: Loop | None = None) -> float:
    """Wait until the process has ended; return the time of its end. Runs the loop meanwhile."""
    fd = os.pidfd_open(gochat.process.pid)
    try:
        ended = select.poll()
        ended.register(fd, select.POLLIN)
        deadline = time.monotonic() + PATIENCE
        while not ended.poll(0 if loop else 100):
            assert time.monotonic() < deadline, "the process does not end"
            if loop:
                loop.turn()
        return time.monotonic()
    finally:
        os.close(fd)


def fill_buffers(talker: EchoTalker, loop: Loop, size: int) -> None:
    """Let a talker send `size` bytes, to fill the buffers of clients that do not read."""
    enough = talker.said + size // len(talker.padding)
    loop.run_until(lambda: talker.said > enough, "full buffers")


@trial("term", "SIGTERM at full load", "`test_the_end_in_the_middle_of_full_load`")
def terminated(amount: Amount) -> Row:
    runs, count, stuck = amount(10, 1), amount(50, 10), amount(5, 2)
    times: list[float] = []
    codes: Counter[str] = Counter()
    messages = 0
    for _ in range(runs):
        # The timeouts must not end the clients that do not read.
        flags = ("--write-wait=60", "--pong-wait=60", "--max-message-size=4100")
        with stage(*flags) as (gochat, loop, stack):
            deaf_strangers(gochat, stuck, stack)
            talkers = [EchoTalker(loop, gochat.port, i, 4000) for i in range(count)]
            loop.run_until(
                lambda: all(t.connected for t in talkers),  # noqa: B023
                "a full room",
            )
            for talker in talkers:
                talker.say()
            fill_buffers(talkers[0], loop, 6_000_000 // count)
            begin = time.monotonic()
            gochat.process.send_signal(signal.SIGTERM)
            times.append(process_end(gochat, loop) - begin)
            assert gochat.wait() == 0
            listen(f"127.0.0.1:{gochat.port}").close()
            loop.run_until(lambda: all(t.closed for t in talkers), "their ends")  # noqa: B023
            assert not gochat.logged("Traceback")
        codes.update(talker.outcome for talker in talkers)
        # A talker that joined later misses only the first messages.
        longest = max((talker.heard for talker in talkers), key=len)
        for talker in talkers:
            had = len(talker.heard)
            assert talker.heard == longest[-had:], f"{had} of {len(longest)}, {talker.outcome}"
        messages += len(longest)
        for number in range(count):
            mine = [n for who, n in longest if who == number]
            assert mine == list(range(mine[0], mine[0] + len(mine))), "not in order"
    assert codes == Counter({"101, close 1001": runs * count}), codes
    assert max(times) < SHUTDOWN_TIMEOUT + SLACK
    return Row(
        f"{runs} times, with {count} clients that talk and {stuck} that do not read",
        f"{runs * stuck} × cut (those that do not read); process ends: {took(times)},"
        f" with a shutdown timeout of {SHUTDOWN_TIMEOUT:g} s",
        f"{counted(codes)}; {messages:,} messages, the same for all",
        "status 0, port free",
    )


@trial("twice", "A second Ctrl-C", "`test_the_second_signal_is_the_last`")
def interrupted_twice(amount: Amount) -> Row:
    runs = amount(10, 1)
    times = []
    for _ in range(runs):
        flags = ["--write-wait=60", "--pong-wait=60", "--shutdown-timeout=60"]
        with stage(*flags, "--max-message-size=20100") as (gochat, loop, stack):
            deaf_strangers(gochat, 1, stack)
            talker = EchoTalker(loop, gochat.port, 0, 20_000)
            loop.run_until(lambda: talker.connected, "somebody")  # noqa: B023
            talker.say()
            fill_buffers(talker, loop, 6_000_000)
            gochat.process.send_signal(signal.SIGINT)
            loop.run_until(lambda: gochat.logged("stopping"), "the first signal")
            begin = time.monotonic()
            gochat.process.send_signal(signal.SIGINT)
            times.append(process_end(gochat) - begin)
            assert gochat.wait() == -signal.SIGINT
            listen(f"127.0.0.1:{gochat.port}").close()
            assert not gochat.logged("Traceback")
    assert max(times) < SLACK
    return Row(
        f"{runs} times; one client does not read; a shutdown timeout of 60 s",
        f"cut; process ends: {took(times)}",
        "cut",
        "ended by SIGINT, port free",
    )


@trial("hub", "The hub's thread dies", "`test_a_hub_that_fails`")
def hub_dies(amount: Amount) -> Row:
    runs = amount(10, 1)
    fault = """
        import time
        from gochat import Hub

        def run(self, run=Hub.run):
            broadcast = self.broadcast

            def fail(client, message):
                raise LookupError(f"at {time.monotonic()} s")

            from gochat import Channel
            try_send = Channel.try_send
            Channel.try_send = lambda c, m: fail(c, m) if m == b"die" else try_send(c, m)
            run(self)

        Hub.run = run
    """
    times = []
    for _ in range(runs):
        with stage(fault=fault) as (gochat, _, stack):
            peers = [stack.enter_context(join(gochat.port)) for _ in range(10)]
            peers[0].send("die")
            ended = process_end(gochat)
            assert gochat.wait() == 1
            listen(f"127.0.0.1:{gochat.port}").close()
            assert gochat.logged("the hub has failed")
            (line,) = (line for line in gochat.lines if line.startswith("LookupError: at "))
            times.append(ended - float(line.split()[2]))
    assert max(times) < SLACK
    return Row(
        f"{runs} times, with 10 clients",
        f"cut; process ends: {took(times)}",
        "cut",
        "status 1, port free",
    )


# The table.

HEAD = (
    "| Fault | Extent | Faulty clients: outcome; time, median / max"
    " | The other two: messages; round trip, median / max | Left over; memory |\n"
    "| --- | --- | --- | --- | --- |"
)


def run(name: str, amount: Amount) -> str:
    """Cause the fault; return its row. An AssertionError names the fault and the seed."""
    fault, function, _ = TRIALS[name]
    try:
        row = function(amount)
    except AssertionError as error:
        raise AssertionError(f"{name}, with the seed {amount.seed}: {error}") from error
    return f"| {fault} | {' | '.join(row)} |"


def write_table(
    begin: str, end: str, head: str, rows: Sequence[str], command: str, *, seconds: float
) -> None:
    """Replace the text between two comments of the page with a table.

    command: the command that made the table. seconds: the time it took.
    """
    made = (
        f"`{command}`: {seconds:.0f} s, {date.today():%B %Y},"
        f" {platform.python_implementation()} {platform.python_version()}, {platform.system()} on"
        f" {platform.machine()} with {os.cpu_count()} cores."
    )
    before, found, rest = PAGE.read_text().partition(begin)
    _, also_found, behind = rest.partition(end)
    if not (found and also_found):
        sys.exit(f"{PAGE} lacks {begin} and {end}")
    PAGE.write_text("\n".join([before + begin, "", head, *rows, "", made, "", end + behind]))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.harm", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=TRIALS, metavar="NAME", help=", ".join(TRIALS))
    parser.add_argument("--quick", action="store_true", help="cause only a few of each fault")
    page = "docs/run/reliability.md"
    parser.add_argument("--write", action="store_true", help=f"write the table to {page}")
    parser.add_argument("--chat", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.chat:
        chat_as_friends(args.seed)
        return 0
    if args.write and (args.only or args.quick):
        parser.error("--write excludes --only and --quick")
    amount, begin, rows = Amount(args.seed, args.quick), time.monotonic(), []
    print(HEAD, flush=True)
    for name in [args.only] if args.only else TRIALS:
        rows.append(run(name, amount))
        print(rows[-1], flush=True)
    seconds = time.monotonic() - begin
    print(f"{seconds:.0f} s", file=sys.stderr)
    if args.write:
        command = f"python -m tests.harm --seed {args.seed}"
        write_table(BEGIN, END, HEAD, rows, command, seconds=seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())

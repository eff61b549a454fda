"""Cause faults in Redis while two processes chat, and print a table of the results.

    python -m tests.relay_faults --seed 1

Each fault is caused once with Redis and once with Valkey. Two processes with three talkers each
share a room. What each process hears is compared with what was said: messages may be lost, doubled,
reordered within one sender, or ordered differently in the two processes. Every lost message must
have been reported as missing. In the column Health, 503 means that a process was unhealthy at some
time. The last status is that of both processes at the end.

--write puts the table into docs/run/scale.md, between two comments.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

from redis import ResponseError

from gochat.ops.metrics import health_app

from .redis_support import SERVERS, Node, Proxy, Redis, node
from .support import (
    CLOSE,
    PATIENCE,
    ROOT,
    TEXT,
    Gochat,
    Peer,
    in_background,
    join,
    wait_until,
)

PAGE = ROOT / "docs" / "run" / "scale.md"
BEGIN, END = (f"<!-- {what}: written by tests/relay_faults.py -->" for what in ("begin", "end"))
COLUMNS = ("Sent", "Lost, all reported", "Orders", "Health")
HEAD = f"""| Fault | {" | ".join(COLUMNS)} |
| --- |{" ---: |" * 2} --- | --- |"""

EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


class Row(NamedTuple):
    fault: str
    #: Messages said in both processes.
    said: int
    #: Messages not heard, summed over both processes.
    lost: int
    #: Messages reported as missing, summed over both processes.
    missing: int
    doubled: int
    #: Messages that arrived after a later message from the same sender.
    reordered: int
    #: Whether messages heard in both processes arrived in the same order.
    one_order: bool
    health: str

    @property
    def cells(self) -> list[str]:
        """The cells of this row for one server.

        The table omits `missing`, which equals `lost`, and `doubled` and `reordered`, which are 0.
        """
        order = "same" if self.one_order else "differ"
        return [self.fault, f"{self.said:,}", f"{self.lost:,}", order, self.health]


def line(rows: Sequence[Row]) -> str:
    """Return one row for all servers. A value that several servers share appears once."""
    cells = zip(*(row.cells for row in rows), strict=True)
    return f"| {' | '.join(' / '.join(dict.fromkeys(cell)) for cell in cells)} |"


class Scene:
    """Two processes that share a room, and their messages.

    short: whether to shorten some faults.
    """

    def __init__(self, redis: Redis, proxy: Proxy, stack: ExitStack, *, short: bool) -> None:
        self.redis = redis
        self.proxy = proxy
        #: Closed after both processes.
        self.stack = stack
        self.short = short
        self.a: Node
        self.b: Node
        #: Each talker's messages.
        self.said: list[list[str]] = []
        #: Messages heard that no talker said.
        self.forged: set[str] = set()

    @property
    def count(self) -> int:
        return sum(map(len, self.said))

    def lasts(self, seconds: float) -> None:
        """Let a fault last for this many seconds."""
        time.sleep(seconds / 10 if self.short else seconds)

    def tell(self, each: Node, talker: str, count: int) -> None:
        """Say `count` messages in a row."""
        mine = [f"{talker} {number}" for number in range(count)]
        self.said.append(mine)
        each.say(*mine)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep process b from reading during the block; then trim the stream."""
        gate = threading.Event()
        holding = self.b.hold(gate)
        self.tell(self.b, "b-held", 1)
        assert holding.wait(PATIENCE)
        yield
        self.redis.do("XTRIM", "gochat:main", "MAXLEN", 0)
        gate.set()


Do = Callable[[Scene], None]


class Fault(NamedTuple):
    text: str
    #: Causes the fault. If `silent` is true, nobody talks meanwhile.
    do: Do
    options: tuple[str, ...] = ()
    #: Whether Redis keeps what it acknowledges, so that nothing may be lost.
    keeps: bool = True
    silent: bool = False
    #: Whether process b starts only after a has talked.
    late: bool = False
    #: Prepares Redis before the processes start.
    before: Callable[[Redis], object] = lambda _: None


def crash(seconds: float) -> Do:
    def do(scene: Scene) -> None:
        scene.redis.kill()
        scene.lasts(seconds)
        scene.redis.start()

    return do


def kill_clients(scene: Scene) -> None:
    for _time in range(3 if scene.short else 30):
        scene.redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(0.05)


def pause(scene: Scene) -> None:
    scene.redis.pause()
    scene.lasts(5)
    scene.redis.go_on()


def flush(scene: Scene) -> None:
    for _time in range(3 if scene.short else 30):
        scene.redis.do("FLUSHALL")
        time.sleep(0.05)


def delete(scene: Scene) -> None:
    scene.redis.do("DEL", "gochat:main")


def roll_back(scene: Scene) -> None:
    files = Path(scene.redis.folder) / "appendonlydir"
    (file,) = files.glob("*.incr.aof")
    kept = file.read_bytes()
    scene.lasts(0.5)
    scene.redis.kill()
    file.write_bytes(kept)
    scene.redis.start()


def trim(scene: Scene) -> None:
    """Trim the stream while process b is kept from reading."""
    with scene.held():
        scene.lasts(1)


def trim_the_last(scene: Scene) -> None:
    """Trim the stream while process b is kept from reading, then stay silent."""
    with scene.held():
        scene.tell(scene.a, "a1", 50)
        wait_until(lambda: len(scene.a.hears(0)) == scene.count, "all of it")


def refuse(deny: Sequence[str | int], allow: Sequence[str | int]) -> Do:
    """Return a fault: Redis refuses writes for a while."""

    def do(scene: Scene) -> None:
        scene.redis.do(*deny)
        wait_until(lambda: scene.a.relay.deaf and scene.b.relay.deaf, "a notice")
        scene.lasts(2.5)
        scene.redis.do(*allow)

    return do


def fill(scene: Scene) -> None:
    """Limit Redis's memory, and say more than fits."""
    scene.redis.do("CONFIG", "SET", "maxmemory", scene.redis.memory() + (2 << 20))
    scene.tell(scene.a, "a" * 400, 2000 if scene.short else 20_000)


def starve(scene: Scene) -> None:
    """Limit Redis to 64 MB, fill it with other keys during four floods, then delete these keys."""
    scene.redis.do("CONFIG", "SET", "maxmemory", 64 << 20)
    with ExitStack() as stack:
        for number in range(4):
            name = f"a-{number}-".ljust(400, "x")
            stack.enter_context(in_background(partial(scene.tell, scene.a, name, 2000)))
        count, size = 0, 1_000_000
        while not (scene.a.relay.deaf and scene.b.relay.deaf):
            try:
                scene.redis.do("SETRANGE", f"ballast {count}", size, "x")
                count += 1
            except ResponseError:  # OOM
                size = 100_000
        scene.lasts(2.5)
        scene.redis.do("DEL", *(f"ballast {number}" for number in range(count)))


def fail_over(scene: Scene) -> None:
    """Move the address to a replica that becomes the primary. Connections stay open."""
    old = scene.redis
    folder = scene.stack.enter_context(tempfile.TemporaryDirectory())
    new = scene.stack.enter_context(Redis(Path(folder), server=old.server))
    new.do("REPLICAOF", "127.0.0.1", old.port)
    wait_until(lambda: bool(new.do("EXISTS", "gochat:main")), "a copy")
    old.do("CLIENT", "PAUSE", 60_000, "WRITE")  # as FAILOVER does

    def offset(redis: Redis) -> object:
        info = redis.do("INFO", "replication")
        assert isinstance(info, dict)
        return info["master_repl_offset"]

    wait_until(lambda: offset(new) == offset(old), "all of it in the copy")
    new.do("REPLICAOF", "NO", "ONE")
    scene.proxy.server = new.port
    old.do("REPLICAOF", "127.0.0.1", new.port)
    old.do("CLIENT", "UNPAUSE")


def forge(scene: Scene) -> None:
    """Append invalid entries, and entries that claim to come from process a."""
    name = scene.a.name
    key = "gochat:main"
    scene.forged = {"forged"}
    for text in (b"\xff", b"x" * 10_000_000, b"\n" * 1000):
        scene.redis.do("XADD", key, "*", "p", name, "n", 1, "m", text)
    for process, number in ((b"\x1b[31m\n", b"1"), (name, b"9" * 400), (name, b"9" * 18)):
        scene.redis.do("XADD", key, "*", "p", process, "n", number, "m", "forged")


FAULTS = {
    **{
        f"crash, {name}, {seconds:g} s": Fault(
            f"`kill -9`, {name}, down for {seconds:g} s",
            crash(seconds),
            options,
            # With everysec, Redis delays writes to a slow disk by up to 2 s.
            keeps=options is ALWAYS,
        )
        for name, options in (
            ("no persistence", ()),
            ("appendfsync everysec", EVERYSEC),
            ("appendfsync always", ALWAYS),
        )
        for seconds in (0.5, 2.5)
    },
    "kill clients": Fault("CLIENT KILL, thirty times", kill_clients),
    "pause": Fault("SIGSTOP for 5 s", pause),
    "flush": Fault("FLUSHALL, thirty times", flush, keeps=False),
    "roll back": Fault("restarted with an older AOF", roll_back, ALWAYS, keeps=False),
    "trim": Fault("stream trimmed while a process does not read", trim, keeps=False),
    "trim the last": Fault(
        "stream trimmed while a process does not read, and nobody sends afterward",
        trim_the_last,
        keeps=False,
        silent=True,
    ),
    "trim, newcomer": Fault(
        "the same, and that process joined after others had sent",
        trim_the_last,
        (),
        False,
        True,
        True,
    ),
    "no replicas": Fault(
        "writes refused for 2.5 s: NOREPLICAS",
        refuse(
            ("CONFIG", "SET", "min-replicas-to-write", 1),
            ("CONFIG", "SET", "min-replicas-to-write", 0),
        ),
    ),
    "read only": Fault(
        "writes refused for 2.5 s: READONLY",
        refuse(("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE")),
    ),
    "acl": Fault(
        "writes refused for 2.5 s: no permission for XADD",
        refuse(("ACL", "SETUSER", "default", "-xadd"), ("ACL", "SETUSER", "default", "+xadd")),
    ),
    "oom": Fault(
        "writes refused for 2.5 s: memory full of other keys",
        refuse(("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)),
        keeps=False,
    ),
    "last id": Fault(
        "writes refused for 2.5 s: no ids left until the stream is deleted",
        refuse(
            ("XADD", "gochat:main", f"{2**64 - 1}-{2**64 - 1}", "x", "y"), ("DEL", "gochat:main")
        ),
        keeps=False,
    ),
    "fill": Fault("memory filled by 20,000 messages of the room", fill, keeps=False),
    "starve": Fault("64 MB full of other keys for 2.5 s, during four floods", starve, keeps=False),
    "fail over": Fault(
        "the address moves to a new primary, and connections to the old one stay open", fail_over
    ),
    "future": Fault(
        "a stream with ids from the future is deleted",
        delete,
        keeps=False,
        before=lambda redis: redis.do("XADD", "gochat:main", "99999999999999-0", "x", "y"),
    ),
    "forge": Fault("invalid entries in the stream", forge),
}


class Health:
    """Polls the health of both processes, on its own thread."""

    def __init__(self, scene: Scene) -> None:
        self.apps = [health_app(each.hub, each.relay) for each in (scene.a, scene.b)]
        self.failed = False
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def ask(self) -> bool:
        """Return whether both processes are healthy."""
        statuses: list[str] = []
        for app in self.apps:
            list(app({}, lambda status, *_: statuses.append(status)))  # type: ignore[arg-type]
        return all(status.startswith("200") for status in statuses)

    def _run(self) -> None:
        while not self._enough.wait(0.02):
            self.failed |= not self.ask()

    def __enter__(self) -> Health:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join(PATIENCE)


def run(name: str, server: str, seed: int, *, short: bool) -> Row:
    """Cause a fault and return its row. Raises AssertionError if a promise is broken."""
    fault = FAULTS[name]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(Redis(Path(folder), *fault.options, server=server))
        proxy = stack.enter_context(Proxy(redis.port))
        fault.before(redis)
        scene = Scene(redis, proxy, stack, short=short)
        url = proxy.url if name == "fail over" else redis.url
        with node(url) as scene.a:
            if fault.late:
                scene.tell(scene.a, "a0", 100)
                scene.a.hears(100)
            early = {text for mine in scene.said for text in mine}
            with node(url) as scene.b, Health(scene) as health:
                if fault.silent:
                    heard = silence(scene, fault, early)
                else:
                    heard = talk(scene, fault, random.Random(f"{seed} {name}"))
                wait_until(health.ask, "both are healthy")
            missing = scene.a.relay.statistics().missing + scene.b.relay.statistics().missing
    texts = {text for mine in scene.said for text in mine}
    lost = len(texts - set(heard[0])) + len(texts - early - set(heard[1]))
    row = Row(
        fault.text,
        len(texts),
        lost,
        missing,
        sum(len(each) - len(set(each)) for each in heard),
        sum(map(out_of_order, heard)),
        in_one_order(*heard),
        "503, then 200" if health.failed else "200",
    )
    where = f"{name} with seed {seed}: {row}"
    assert row.doubled == row.reordered == 0, where
    assert row.lost == row.missing, where
    assert row.lost == 0 or not fault.keeps, where
    assert row.one_order or not fault.keeps, where
    for letter, each in zip("ab", heard, strict=True):
        own = {text for text in texts if text.startswith(letter)}
        assert own <= set(each), f"{where}: a message of process {letter} did not come back to it"
    return row


def talk(scene: Scene, fault: Fault, chance: random.Random) -> list[list[str]]:
    """Cause a fault while three talkers talk in each process; return what the processes heard."""
    enough = threading.Event()

    def speak(each: Node, talker: str) -> None:
        mine: list[str] = []
        scene.said.append(mine)
        while not enough.is_set() or len(mine) < 100:
            # Talk fast at first, so that an append is usually in progress when the fault begins.
            dense = len(mine) < 200
            for _message in range(1 if dense else chance.randint(1, 7)):
                mine.append(f"{talker} {len(mine)}")
                each.say(mine[-1])
            time.sleep(chance.random() / (500 if dense else 100))

    talkers = [
        threading.Thread(target=speak, args=(each, f"{letter}{i}"))
        for letter, each in (("a", scene.a), ("b", scene.b))
        for i in range(3)
    ]
    for talker in talkers:
        talker.start()
    wait_until(lambda: scene.count >= 300, "some talk")
    fault.do(scene)
    before = scene.count
    wait_until(lambda: scene.count >= before + 300, "some talk after that")
    enough.set()
    for talker in talkers:
        talker.join(PATIENCE)
        assert not talker.is_alive(), f"{fault.text}: a talker is stuck"
    with in_background(lambda: scene.a.say("the end of a")):
        scene.b.say("the end of b")
        return [
            [text for text in hears_the_end(each) if text not in scene.forged]
            for each in (scene.a, scene.b)
        ]


def silence(scene: Scene, fault: Fault, early: set[str]) -> list[list[str]]:
    """Cause a fault while nobody talks; return what the processes heard."""
    fault.do(scene)
    a, b = scene.a, scene.b

    def known() -> bool:
        lost = a.relay.statistics().missing + b.relay.statistics().missing
        return len(a.hears(0)) + len(b.hears(0)) + lost == 2 * scene.count - len(early)

    wait_until(known, "all is heard, or reported as missing")
    return [a.hears(0), b.hears(0)]


class Talker:
    """A client that talks on its own threads and keeps every message."""

    def __init__(self, gochat: Gochat, name: str, chance: random.Random) -> None:
        self.peer = join(gochat.port)
        self.name = name
        self.heard: list[str] = []
        #: The code of the server's close frame.
        self.code: int | None = None
        #: Whether the connection has ended.
        self.gone = False
        self._chance = chance
        self._number = 0
        self._quiet = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._hear, self._talk)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def _hear(self) -> None:
        with suppress(OSError, EOFError):
            while self.code is None:
                got = self.peer.read_frame()
                if got.opcode == TEXT:
                    texts = got.payload.decode().split("\n")
                    self.heard += [text for text in texts if not text.startswith("hello from")]
                elif got.opcode == CLOSE:
                    self.code = got.code
        self.gone = True
        self._quiet.set()

    def _talk(self) -> None:
        with suppress(OSError):
            while not self._quiet.wait(self._chance.random() / 10):
                for _message in range(self._chance.randint(1, 7)):
                    self.peer.send(f"{self.name} {self._number}")
                    self._number += 1

    def has_heard_itself(self) -> bool:
        """Return whether this client's last message has come back."""
        return f"{self.name} {self._number - 1}" in self.heard

    def quiet(self) -> None:
        self._quiet.set()
        self._threads[1].join(PATIENCE)

    def end(self) -> None:
        self._quiet.set()
        with suppress(OSError):  # the server may have closed it
            self.peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        self.peer.sock.close()


class Ending(NamedTuple):
    """A fault in process a, and how that process ends."""

    text: str
    do: Callable[[Gochat, Redis, ExitStack], None]
    #: Python code that makes process a fail once FILE exists.
    fault: str = ""
    #: The close code and exit status of process a, or None if it goes on.
    end: tuple[int, int] | None = None
    #: Flags for process a.
    flags: tuple[str, ...] = ()


def fail(method: str) -> str:
    """Return Python code that makes a method of Stream fail once FILE exists."""
    return f"""
import os
from gochat.relay.stream import Stream
whole = Stream.{method}
def fail(*args):
    if os.path.exists(FILE):
        raise ValueError("a mistake")
    return whole(*args)
Stream.{method} = fail
"""


def take_descriptors(gochat: Gochat, redis: Redis, stack: ExitStack) -> None:
    """Exhaust the process's descriptors, then cut all connections to Redis three times."""
    pid = gochat.process.pid
    most = len(os.listdir(f"/proc/{pid}/fd")) + 20
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    for _ in range(40):
        stack.enter_context(Peer(gochat.port)).sock.sendall(b"GET /ws HTTP/1.1\r\n")
    wait_until(lambda: gochat.logged("Too many open files"), "no more descriptors")
    for _ in range(3):
        redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(0.5)


def stop_for_long(gochat: Gochat, redis: Redis, _: ExitStack) -> None:
    """Pause a process for longer than its relay's timeout; cut all connections to Redis."""
    gochat.pause()
    redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    time.sleep(4)
    gochat.process.send_signal(signal.SIGCONT)


def terminate(gochat: Gochat, _: Redis, __: ExitStack) -> None:
    gochat.process.terminate()


def stop_child(gochat: Gochat, _: Redis, __: ExitStack) -> None:
    """Pause a child until the parent has replaced it."""
    pid = gochat.process.pid
    child, *_others = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(child), signal.SIGSTOP)
    wait_until(lambda: "\n".join(gochat.lines).count(" ready") == 3, "another child")
    for _newcomer in range(10):
        join(gochat.port).sock.close()


ENDINGS = {
    "terminate": Ending("SIGTERM to a process", terminate, end=(1001, 0)),
    "stop": Ending(
        "SIGSTOP of a process for 4 s, and CLIENT KILL, with `--relay-timeout 2`",
        stop_for_long,
        flags=("--relay-timeout=2",),
    ),
    "hang": Ending("SIGSTOP of a child of `--processes 2`", stop_child, flags=("--processes=2",)),
    "out fails": Ending("the thread `relay out` fails", lambda *_: None, fail("append"), (1013, 1)),
    "in fails": Ending("the thread `relay in` fails", lambda *_: None, fail("read"), (1013, 1)),
    "descriptors": Ending("CLIENT KILL while clients hold all descriptors", take_descriptors),
}


def run_ending(name: str, server: str, seed: int) -> Row:
    """Cause a fault in process a; return its row. Raises AssertionError if a message is missing."""
    ending = ENDINGS[name]
    chance = random.Random(f"{seed} {name}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(Redis(folder, server=server))
        file = folder / "now"
        fault = f"FILE = {str(file)!r}\n{ending.fault}" if ending.fault else ""
        flags = ("--relay", redis.url, "--metrics-addr", "127.0.0.1:0", "--send-buffer", "10000")
        own = ("--read-header-timeout=30", *ending.flags)
        a = stack.enter_context(Gochat(*flags, *own, fault=fault))
        b = stack.enter_context(Gochat(*flags))
        talkers = [
            Talker(each, f"{n}{i}", chance) for n, each in (("a", a), ("b", b)) for i in "012"
        ]
        for talker in talkers:
            stack.callback(talker.end)
        for talker in talkers:
            talker.start()
        wait_until(lambda: all(len(talker.heard) > 300 for talker in talkers), "some talk")
        file.touch()
        with ExitStack() as idle:
            ending.do(a, redis, idle)
        if ending.end:
            assert a.wait() == ending.end[1]
            code = ending.end[0]
            wait_until(lambda: all(t.code == code for t in talkers[:3]), "a farewell")
        before = [len(talker.heard) for talker in talkers[3:]]
        wait_until(lambda: len(talkers[3].heard) > before[0] + 300, "some talk after that")
        for talker in talkers:
            talker.quiet()
        living = [talker for talker in talkers if not talker.gone]
        assert living[-3:] == talkers[3:]
        wait_until(
            lambda: (
                all(talker.has_heard_itself() for talker in living)
                and len({len(talker.heard) for talker in living}) == 1
            ),
            "all of it",
        )
        health = (
            "process ends: {}, status {}".format(*ending.end) if ending.end else f"{healths(a)}"
        )
        assert healths(b) == 200
        missing = sum(
            int(count)
            for each in (a, b)
            for count in re.findall(
                r"(\d+) messages of (?:process|\d+ more)", "\n".join(each.lines)
            )
        )
    order = talkers[3].heard
    lost = sum(len(set(order[: len(talker.heard)]) - set(talker.heard)) for talker in talkers)
    # A client that stayed connected must have heard as much as the others of its process.
    for some in (talkers[:3], talkers[3:]):
        whole = [len(talker.heard) for talker in some if talker.code or not talker.gone]
        lost += sum(max(whole, default=0) - length for length in whole)
    row = Row(
        ending.text,
        len(set(order)),
        lost,
        missing,
        sum(len(talker.heard) - len(set(talker.heard)) for talker in talkers),
        sum(out_of_order(talker.heard) for talker in talkers),
        all(in_one_order(order, talker.heard) for talker in talkers),
        health,
    )
    assert row.one_order, row
    assert row.lost == row.missing == row.doubled == row.reordered == 0, row
    return row


def healths(gochat: Gochat) -> int:
    """Return the status of /healthz."""
    port = re.findall(r"metrics at http://127.0.0.1:(\d+)/", "\n".join(gochat.lines))[-1]
    with Peer(int(port)) as peer:
        return peer.request("/healthz").status


def hears_the_end(each: Node) -> list[str]:
    """Wait for both processes' last messages; return what else this process has heard."""
    ends = {"the end of a", "the end of b"}
    heard: list[str] = []

    def enough() -> bool:
        heard[:] = each.hears(0)
        return ends <= set(heard)

    wait_until(enough, "the end")
    return [text for text in heard if text not in ends]


def out_of_order(heard: Sequence[str]) -> int:
    latest: dict[str, int] = {}
    count = 0
    for text in heard:
        talker, _, number = text.partition(" ")
        count += int(number) < latest.get(talker, -1)
        latest[talker] = max(int(number), latest.get(talker, -1))
    return count


def in_one_order(one: Sequence[str], other: Sequence[str]) -> bool:
    common = set(one) & set(other)
    return [t for t in one if t in common] == [t for t in other if t in common]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.relay_faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    names = [*FAULTS, *ENDINGS]
    parser.add_argument("--only", choices=names, metavar="NAME", help="; ".join(names))
    parser.add_argument("--write", action="store_true", help="write the table to docs/run/scale.md")
    args = parser.parse_args(argv)
    if args.write and args.only:
        parser.error("--write excludes --only")
    rows = []
    print(HEAD, flush=True)
    for name in [args.only] if args.only else names:
        if name in FAULTS:
            found = [run(name, server, args.seed, short=False) for server in SERVERS]
        else:
            found = [run_ending(name, server, args.seed) for server in SERVERS]
        rows.append(line(found))
        print(rows[-1], flush=True)
    if args.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, behind = rest.partition(END)
        about = f"`python -m tests.relay_faults --seed {args.seed}`, {date.today():%B %Y}."
        table = "\n".join([BEGIN, "", HEAD, *rows, "", about, "", END])
        PAGE.write_text(before + table + behind)
    return 0


if __name__ == "__main__":
    sys.exit(main())

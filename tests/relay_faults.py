"""Faults of Redis while two processes talk, and a table of what came of them.

    python -m tests.relay_faults --seed 1

Each fault is done to a Redis and to a Valkey, under two processes of a room, with three talkers
each. What each process hears is compared with what was said: lost, doubled, out of a sender's
order, and heard in another order than by the other process. What is lost has to have been said to
be missing.

--write puts the table into docs/run/scale.md, between two comments.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from .redis_support import SERVERS, Node, Redis, node
from .support import PATIENCE, ROOT, in_background, wait_until

PAGE = ROOT / "docs" / "run" / "scale.md"
BEGIN, END = (f"<!-- {what}: written by tests/relay_faults.py -->" for what in ("begin", "end"))
HEAD = """| Fault | Server | Said | Lost | Said to be missing | Doubled | Out of order | Orders |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"""

EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


class Row(NamedTuple):
    fault: str
    server: str
    #: Messages said by both processes.
    said: int
    #: Not heard, of both processes together; and what their figures say of that.
    lost: int
    missing: int
    doubled: int
    #: Messages that came before an earlier one of the same sender.
    reordered: int
    #: Whether both have heard what both have heard in the same order.
    one_order: bool

    def __str__(self) -> str:
        order = "one" if self.one_order else "differ"
        numbers = " | ".join(f"{n:,}" for n in self[2:7])
        return f"| {self.fault} | {self.server} | {numbers} | {order} |"


class Fault(NamedTuple):
    text: str
    options: tuple[str, ...]
    #: What is done while they talk. Of a short run some times are shorter.
    do: Callable[[Redis, Node, bool], None]
    #: Whether Redis keeps what it has acknowledged, so that nothing may be lost.
    keeps: bool = True


def crash(seconds: float) -> Callable[[Redis, Node, bool], None]:
    def do(redis: Redis, _: Node, short: bool) -> None:
        redis.kill()
        time.sleep(seconds / (10 if short else 1))
        redis.start()

    return do


def kill_clients(redis: Redis, _: Node, short: bool) -> None:
    for _time in range(3 if short else 30):
        redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(0.05)


def pause(redis: Redis, _: Node, short: bool) -> None:
    redis.pause()
    time.sleep(0.5 if short else 5)
    redis.go_on()


def flush(redis: Redis, _: Node, __: bool) -> None:
    redis.do("FLUSHALL")


def roll_back(redis: Redis, _: Node, short: bool) -> None:
    files = Path(redis.folder) / "appendonlydir"
    (file,) = files.glob("*.incr.aof")
    kept = file.read_bytes()
    time.sleep(0.1 if short else 0.5)
    redis.kill()
    file.write_bytes(kept)
    redis.start()


def trim(redis: Redis, reader: Node, short: bool) -> None:
    """Trim under a reader that does not come to read."""
    gate = threading.Event()
    deliver = reader.relay.hub.broadcast.send

    def held(value: bytes) -> None:
        gate.wait(PATIENCE)
        deliver(value)

    reader.relay.hub.broadcast.send = held  # type: ignore[method-assign]
    time.sleep(0.1 if short else 1)
    redis.do("XTRIM", "gochat:main", "MAXLEN", "0")
    gate.set()


FAULTS = {
    **{
        f"crash, {name}, {seconds:g} s": Fault(
            f"`kill -9`, {name}, down for {seconds:g} s", options, crash(seconds), bool(options)
        )
        for name, options in (
            ("no persistence", ()),
            ("appendfsync everysec", EVERYSEC),
            ("appendfsync always", ALWAYS),
        )
        for seconds in (0.5, 2.5)
    },
    "kill clients": Fault("CLIENT KILL, thirty times", (), kill_clients),
    "pause": Fault("SIGSTOP for 5 s", (), pause),
    "flush": Fault("FLUSHALL", (), flush, keeps=False),
    "roll back": Fault("started with an older AOF", ALWAYS, roll_back, keeps=False),
    "trim": Fault("all trimmed under a reader that is held up", (), trim, keeps=False),
}


def run(name: str, server: str, seed: int, *, short: bool) -> Row:
    """Do a fault while they talk. AssertionError if they break the promise of docs/run/scale.md."""
    fault = FAULTS[name]
    chance = random.Random(f"{seed} {name}")
    enough = threading.Event()
    said: list[list[str]] = []

    def talk(each: Node, talker: str) -> None:
        mine: list[str] = []
        said.append(mine)
        while not enough.is_set() or len(mine) < 100:
            mine.append(f"{talker} {len(mine)}")
            each.say(mine[-1])
            time.sleep(chance.random() / 500)

    with (
        tempfile.TemporaryDirectory() as folder,
        Redis(Path(folder), *fault.options, server=server) as redis,
        node(redis.url) as a,
        node(redis.url) as b,
    ):
        talkers = [
            threading.Thread(target=talk, args=(each, f"{letter}{i}"))
            for letter, each in (("a", a), ("b", b))
            for i in range(3)
        ]
        for talker in talkers:
            talker.start()
        wait_until(lambda: sum(map(len, said)) >= 300, "some talk")
        fault.do(redis, b, short)
        before = sum(map(len, said))
        wait_until(lambda: sum(map(len, said)) >= before + 300, "some talk after that")
        enough.set()
        for talker in talkers:
            talker.join(PATIENCE)
            assert not talker.is_alive(), f"{name}: a talker is stuck"
        texts = {text for mine in said for text in mine}
        with in_background(lambda: a.say("the end of a")):
            b.say("the end of b")
            heard = [hears_the_end(each) for each in (a, b)]
        missing = a.relay.figures.missing + b.relay.figures.missing
    row = Row(
        fault.text,
        server,
        len(texts),
        sum(len(texts - set(each)) for each in heard),
        missing,
        sum(len(each) - len(set(each)) for each in heard),
        sum(map(out_of_order, heard)),
        in_one_order(*heard),
    )
    where = f"{name} with seed {seed}: {row}"
    assert row.doubled == row.reordered == 0, where
    assert row.lost == row.missing, where
    assert row.lost == 0 or not fault.keeps, where
    assert row.one_order or not fault.keeps, where
    for letter, each in zip("ab", heard, strict=True):
        own = {text for text in texts if text.startswith(letter)}
        assert own <= set(each), f"{where}: a message of its own is lost"
    return row


def hears_the_end(each: Node) -> list[str]:
    """What a process has heard, up to what both say at the end."""
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
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.relay_faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=FAULTS, metavar="NAME", help="; ".join(FAULTS))
    parser.add_argument("--write", action="store_true", help="the table into docs/run/scale.md")
    args = parser.parse_args(argv)
    if args.write and args.only:
        parser.error("--write needs all of it")
    rows = []
    print(HEAD, flush=True)
    for name in [args.only] if args.only else FAULTS:
        for server in SERVERS:
            rows.append(str(run(name, server, args.seed, short=False)))
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

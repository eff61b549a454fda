"""Measure gochat beside other servers of the same chat, and write what was found to docs/.

    python -m pip install -e . -r bench/requirements.txt
    python bench/run.py

Each server is pinned to one core, and the generator, `gochat bench`, to another. They are measured
in rounds, A B C, A B C and so on, so that what else the machine does meets them all alike, and each
server's ratio to the first one is taken round by round. Medians are written: a table to
docs/performance.md, between two comments, and a picture beside it.

With --against gochat is measured beside one other command, and nothing is written: to see what a
flag costs, or a change, if the command is that of another checkout. Its ratio of processor time for
each delivery says more than that of deliveries: what else the machine does is not in it.

A server is started for each measurement and ended behind it, and listens on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import os
import platform
import shlex
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
PAGE = DOCS / "performance.md"
PICTURE = DOCS / "performance.svg"
BEGIN, END = "<!-- begin: written by bench/run.py -->", "<!-- end: written by bench/run.py -->"
# How long a server has until it listens, and until it has ended, in seconds.
PATIENCE = 20.0
# How long it is put to its load before the measurement begins, in seconds.
WARMUP = 1.0


class Server(NamedTuple):
    name: str
    #: In it, PORT stands for the port.
    command: tuple[str, ...]
    #: The Python package that it is made of.
    package: str = ""
    directory: Path = HERE


def servers(go: Path | None) -> list[Server]:
    """All of them. The first one is what the others are compared with."""
    python = sys.executable

    def peer(name: str, package: str, file: str) -> Server:
        return Server(name, (python, str(HERE / "peers" / file), "PORT"), package)

    command = (python, "-m", "gochat", "serve", "--addr", "127.0.0.1:PORT")
    found = [Server("gochat", command, "gochat")]
    if go is not None:
        command = (str(go.resolve()), "-addr", "127.0.0.1:PORT")
        found.append(Server("the Go example", command, directory=go.resolve().parent))
    return [
        *found,
        peer("picows, asyncio", "picows", "picows_asyncio.py"),
        peer("websockets, asyncio", "websockets", "websockets_asyncio.py"),
        peer("aiohttp, asyncio", "aiohttp", "aiohttp_asyncio.py"),
        peer("websockets, threads", "websockets", "websockets_threads.py"),
        peer("simple-websocket, threads", "simple-websocket", "naive_threads.py"),
    ]


class Found(NamedTuple):
    """What a measurement has shown, or the medians of several. Latencies are in milliseconds."""

    deliveries: float
    p50: float
    p99: float
    dropped: float
    generator: float
    #: Processor time of the server for a delivery, in microseconds.
    cost: float


#: By server and number of clients; None where a measurement failed.
Results = dict[tuple[str, int], list[Found | None]]


# Measuring.


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started in here stays on this core, where the system can do that."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def two_cores() -> tuple[int | None, int | None]:
    """One for the server and one for the generator; None and None if there are no two."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[-1]) if len(cores) > 1 else (None, None)


@contextmanager
def running(server: Server, core: int | None) -> Iterator[tuple[int, int]]:
    """The server, in a process of its own. Gives its port and its process's number."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with on_core(core):
        process = subprocess.Popen(
            [part.replace("PORT", str(port)) for part in server.command],
            cwd=server.directory,
            # For the Go example: as many as there are cores would not be what it has here.
            env=os.environ | {"GOMAXPROCS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        wait_for(port, server, process)
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(port: int, server: Server, process: subprocess.Popen[bytes]) -> None:
    """Return when the server listens."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    sys.exit(f"bench/run.py: {server.name} does not listen: {' '.join(server.command)}")


def cpu_time(pid: int) -> float:
    """The processor time of a process, in seconds; NaN where the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return math.nan
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure(port: int, pid: int, clients: int, seconds: float, core: int | None) -> Found | None:
    """What `gochat bench` finds; None if it finds nothing, after it has said why."""
    flags = ["--clients", str(clients), "--seconds", str(seconds), "--warmup", str(WARMUP)]
    command = [
        sys.executable,
        "-m",
        "gochat",
        "bench",
        f"ws://127.0.0.1:{port}/ws",
        *flags,
        "--json",
    ]
    with on_core(core):
        # A server that has dropped somebody makes it fail, and its figures are worth showing.
        before = cpu_time(pid)
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        spent = cpu_time(pid) - before
    if not done.stdout:
        return None
    (run,) = json.loads(done.stdout)["runs"]
    # With the warm-up, in which as much is delivered a second.
    delivered = run["deliveries_per_s"] * (seconds + WARMUP)
    late = {name: value or math.nan for name, value in run["latency_ms"].items()}
    return Found(
        run["deliveries_per_s"],
        late["p50"],
        late["p99"],
        run["closes"],
        run["generator_cpu"],
        spent / delivered * 1e6 if delivered else math.nan,
    )


def measure_all(
    contenders: Sequence[Server], clients: Sequence[int], rounds: int, seconds: float
) -> Results:
    core, other = two_cores()
    if core is None:
        print("there are no two cores: nothing is pinned", file=sys.stderr)
    results: Results = {(server.name, n): [] for n in clients for server in contenders}
    for number in range(1, rounds + 1):
        for n in clients:
            # There and back: what gets slower meanwhile does so for the last one, too.
            for server in contenders if number % 2 else reversed(contenders):
                with running(server, core) as (port, pid):
                    found = measure(port, pid, n, seconds, other)
                results[server.name, n].append(found)
                text = "failed" if found is None else f"{found.deliveries:,.0f} deliveries/s"
                where = f"round {number} of {rounds}, {n:,} clients, {server.name}"
                print(f"{where}: {text}", file=sys.stderr)
    return results


# What is written.


def medians(found: Sequence[Found | None]) -> Found | None:
    known = [one for one in found if one is not None]
    return Found(*map(statistics.median, zip(*known, strict=True))) if known else None


def ratios(
    found: Sequence[Found | None], first: Sequence[Found | None], what: str = "deliveries"
) -> list[float]:
    """The rounds' ratios of a figure, in order of size."""
    pairs = [(a, b) for a, b in zip(found, first, strict=True) if a and b]
    values = [(getattr(a, what), getattr(b, what)) for a, b in pairs]
    return sorted(a / b for a, b in values if b)


def ratio(found: Sequence[Found | None], first: Sequence[Found | None]) -> float:
    """The median of the rounds' ratios of deliveries; NaN if there is none."""
    return statistics.median(ratios(found, first) or [math.nan])


def compare(contenders: Sequence[Server], clients: Sequence[int], results: Results) -> None:
    """Print the ratios of the last server to the first."""
    ours, other = contenders[0].name, contenders[-1].name
    for n in clients:
        for what, text in (("deliveries", "deliveries/s"), ("cost", "processor time a delivery")):
            of_all = ratios(results[other, n], results[ours, n], what)
            if of_all:
                print(
                    f"{n:,} clients, {text}: {other!r} to {ours}"
                    f" {statistics.median(of_all):.3f}"
                    f" (from {of_all[0]:.3f} to {of_all[-1]:.3f}, {len(of_all)} pairs)"
                )


def shown(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def tables(contenders: Sequence[Server], clients: Sequence[int], results: Results) -> list[str]:
    """One for each number of clients, in Markdown."""
    lines = []
    for n in clients:
        lines += [
            f"With {n:,} clients:",
            "",
            f"| Server | Deliveries/s | Ratio to {contenders[0].name} | Latency p50, ms | p99, ms"
            " | Clients dropped | Generator's CPU |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for server in contenders:
            found = results[server.name, n]
            middle = medians(found)
            if middle is None:
                lines.append(f"| {server.name} | failed | - | - | - | - | - |")
                continue
            quotient = ratio(found, results[contenders[0].name, n])
            cells = [
                f"{middle.deliveries:,.0f}",
                shown(quotient, ".3f" if quotient < 0.1 else ".2f"),
                shown(middle.p50, ",.1f"),
                shown(middle.p99, ",.1f"),
                f"{middle.dropped:,.0f}",
                f"{middle.generator:.0%}",
            ]
            lines.append(f"| {server.name} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def made_of(contenders: Sequence[Server]) -> str:
    """Versions of all that was measured."""
    packages = sorted({server.package for server in contenders if server.package})
    return ", ".join(f"{package} {version(package)}" for package in packages)


def section(
    contenders: Sequence[Server],
    clients: Sequence[int],
    results: Results,
    rounds: int,
    seconds: float,
) -> str:
    """What stands between the two comments."""
    cores = os.cpu_count()
    return "\n".join(
        [
            BEGIN,
            "",
            f"![Deliveries a second of each server]({PICTURE.name})",
            "",
            *tables(contenders, clients, results),
            f"Medians of {rounds} rounds of {seconds:g} seconds, {date.today():%B %Y},"
            f" {platform.python_implementation()} {platform.python_version()},"
            f" {platform.system()} on {platform.machine()} with {cores} cores;"
            f" {made_of(contenders)}.",
            "",
            END,
        ]
    )


NEW_PAGE = f"""# Performance

Everybody in a room of so many clients reads, four of them also send: each has four messages of 64
bytes on their way, and sends the next when one of its own comes back. A delivery is a message that
one client got. Latency is from sending a message to getting it. The server has one core, the
generator, `gochat bench`, another. A generator that needs all of its core may have been slower than
the server.

`python bench/run.py` measures it again, and writes what follows; `--help` says more.

{BEGIN}
{END}
"""


def write_page(text: str) -> None:
    """Put the text in place of what stands between the two comments."""
    page = PAGE.read_text() if PAGE.exists() else NEW_PAGE
    before, begin, rest = page.partition(BEGIN)
    _, end, behind = rest.partition(END)
    if not (begin and end):
        sys.exit(f"bench/run.py: {PAGE} lacks {BEGIN} and {END}")
    PAGE.write_text(before + text + behind)


# In pixels.
BAR, GAP, LEFT, WIDTH, RIGHT, TOP = 20, 16, 200, 560, 90, 96
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")


def picture(contenders: Sequence[Server], clients: Sequence[int], results: Results) -> str:
    """Deliveries a second, in SVG: a bar for each server and number of clients."""
    middle = {key: medians(found) for key, found in results.items()}
    most = max((found.deliveries for found in middle.values() if found), default=0) or 1
    step = 10 ** math.floor(math.log10(most))
    step *= next(part for part in (0.2, 0.5, 1, 2) if most / (step * part) <= 7)
    ticks = [step * i for i in range(math.ceil(most / step) + 1)]
    block = BAR * len(clients) + GAP
    bottom = TOP + block * len(contenders)
    width, height = LEFT + WIDTH + RIGHT, bottom + 56

    def words(x: float, y: float, text: str, style: str = "") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(text)}</text>'

    def place(value: float) -> float:
        return LEFT + WIDTH * value / ticks[-1]

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        words(20, 30, "The same chat, on one core", 'font-size="18" font-weight="bold"'),
        words(20, 50, "messages that all clients get in a second; more is better", 'fill="#555"'),
    ]
    for i, n in enumerate(clients):
        at = LEFT + 120 * i
        parts += [
            f'<rect x="{at}" y="65" width="14" height="14" fill="{COLOURS[i % 4]}"/>',
            words(at + 20, 77, f"{n:,} clients"),
        ]
    for tick in ticks:
        x = place(tick)
        parts += [
            f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#ddd"/>',
            words(x, bottom + 18, f"{tick:,.10g}", 'text-anchor="middle"'),
        ]
    for row, server in enumerate(contenders):
        top = TOP + GAP / 2 + block * row
        centre = top + BAR * len(clients) / 2 + 4
        parts.append(words(LEFT - 10, centre, server.name, 'text-anchor="end"'))
        for i, n in enumerate(clients):
            found, y = middle[server.name, n], top + BAR * i
            value = found.deliveries if found else 0.0
            text = f"{value:,.0f}" if found else "failed"
            parts += [
                f'<rect x="{LEFT}" y="{y + 1:.1f}" width="{place(value) - LEFT:.1f}"'
                f' height="{BAR - 2}" fill="{COLOURS[i % 4]}"/>',
                words(place(value) + 6, y + 15, text),
            ]
    parts += [
        f'<path d="M{LEFT} {TOP}V{bottom}" stroke="#000"/>',
        words(LEFT + WIDTH / 2, bottom + 42, "deliveries/s", 'text-anchor="middle"'),
        "</svg>\n",
    ]
    return "\n".join(parts)


# The command.


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measures gochat beside other servers of the same chat, and writes"
        " docs/performance.md and docs/performance.svg.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long, after a warm-up")
    parser.add_argument(
        "--clients", type=numbers, default="100,1000", help="numbers of clients, with commas"
    )
    parser.add_argument(
        "--go",
        type=Path,
        metavar="BINARY",
        help="the Go example, to put beside them: what `go build` makes in the directory"
        " examples/chat of the repository gorilla/websocket. It is run in the directory where it"
        " is, as it looks for its home.html there",
    )
    parser.add_argument(
        "--against",
        metavar="COMMAND",
        help="measure gochat beside this command alone, in which PORT stands for the port, print"
        " the ratios, and write nothing",
    )
    args = parser.parse_args()
    if args.go is not None and not os.access(args.go, os.X_OK):
        parser.error(f"{args.go} is no program")
    contenders = servers(args.go)
    if args.against is not None:
        command = tuple(shlex.split(args.against))
        contenders = [contenders[0], Server(args.against, command, directory=Path.cwd())]
    try:
        made_of(contenders)
    except PackageNotFoundError as error:
        parser.error(f"{error.name} is missing: pip install -r bench/requirements.txt")
    try:
        results = measure_all(contenders, args.clients, args.rounds, args.seconds)
    except KeyboardInterrupt:
        sys.exit(130)
    if args.against is not None:
        compare(contenders, args.clients, results)
        return
    write_page(section(contenders, args.clients, results, args.rounds, args.seconds))
    PICTURE.write_text(picture(contenders, args.clients, results))
    print(f"written: {PAGE.relative_to(HERE.parent)}, {PICTURE.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()

"""Compare gochat with other servers of the same chat, and write the results to docs/.

    python -m pip install -e . -r bench/requirements.txt
    python bench/run.py

Each server is pinned to one core, and the load generator, `gochat bench`, to another. The servers
are measured in rounds, A B C, C B A and so on, so that other work of the machine affects all alike,
and each server's ratio to the first one is taken within a round. The medians are written: a table
to docs/why/performance.md, between two comments, and a picture beside that page.

With --against gochat is compared with one other command only, and nothing is written. That shows
the cost of a flag, or of a change if the command is that of another checkout. The ratio of the
processor time per delivery is more reliable than that of deliveries: other work of the machine is
not part of it.

A server is started for each measurement and ended after it, and listens on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from gochat.bench.command import clients as numbers
from gochat.bench.load import Result, median, medians, ratios
from gochat.bench.report import shown
from gochat.golang.flag import count
from gochat.golang.flag import seconds as duration

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs" / "why"
PAGE = DOCS / "performance.md"
PICTURE = DOCS / "performance.svg"
BEGIN, END = "<!-- begin: written by bench/run.py -->", "<!-- end: written by bench/run.py -->"
# How long a server may take to listen, and to end, in seconds.
PATIENCE = 20.0
# How long a server is under load before it is measured, in seconds.
WARMUP = 1.0


class Server(NamedTuple):
    name: str
    #: PORT in it is replaced by the port.
    command: tuple[str, ...]
    #: The Python package to name with its version.
    package: str = ""
    directory: Path = HERE


def servers(go: Path | None) -> list[Server]:
    """Return all servers; the others are compared with the first one. go: the Go example."""
    python = sys.executable

    def peer(name: str, package: str, file: str) -> Server:
        return Server(name, (python, str(HERE / "peers" / file), "PORT"), package)

    address = "127.0.0.1:PORT"
    found = [Server("gochat", (python, "-m", "gochat", "serve", "--addr", address), "gochat")]
    if go is not None:
        command = (str(go.resolve()), "-addr", address)
        found.append(Server("the Go example", command, directory=go.resolve().parent))
    return [
        *found,
        peer("picows, asyncio", "picows", "picows_asyncio.py"),
        peer("websockets, asyncio", "websockets", "websockets_asyncio.py"),
        peer("aiohttp, asyncio", "aiohttp", "aiohttp_asyncio.py"),
        peer("websockets, threads", "websockets", "websockets_threads.py"),
        peer("simple-websocket, threads", "simple-websocket", "naive_threads.py"),
    ]


class Measurement(NamedTuple):
    result: Result
    #: The server's processor time per delivery, in microseconds, if the system tells.
    cost: float | None


#: For each server's name and number of clients, a value per round; None where it failed.
Results = dict[tuple[str, int], list[Measurement | None]]


# Measuring.


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Pin the processes that are started in the block to a core; None pins nothing."""
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
    """Return cores for the server and for the generator; twice None if there is only one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[-1]) if len(cores) > 1 else (None, None)


@contextmanager
def running(server: Server, core: int | None) -> Iterator[tuple[int, int]]:
    """Run a server for the time of the block. Yields its port and its process's id."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with on_core(core):
        process = subprocess.Popen(
            [part.replace("PORT", str(port)) for part in server.command],
            cwd=server.directory,
            # The Go example has one core, even where nothing can be pinned.
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
    """Wait until the server listens. Exits with 1 if it does not."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    sys.exit(f"bench/run.py: {server.name} does not listen: {' '.join(server.command)}")


def cpu_time(pid: int) -> float | None:
    """Return the processor time of a process in seconds, or None without /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure(
    port: int, pid: int, clients: int, seconds: float, core: int | None
) -> Measurement | None:
    """Run `gochat bench`, pinned to a core. Returns None if it fails; it has said why."""
    command = [sys.executable, "-m", "gochat", "bench", f"ws://127.0.0.1:{port}/ws", "--json"]
    command += ["--clients", str(clients), "--seconds", str(seconds), "--warmup", str(WARMUP)]
    with on_core(core):
        before = cpu_time(pid)
        # Dropped clients are an error, but there are results, which are worth showing.
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        after = cpu_time(pid)
    if not done.stdout:
        return None
    (run,) = json.loads(done.stdout)["runs"]
    del run["server"]
    result = Result(**run)
    if before is None or after is None or not result.received:
        return Measurement(result, None)
    return Measurement(result, (after - before) / result.received * 1e6)


def measure_all(
    contenders: Sequence[Server], clients: Sequence[int], rounds: int, seconds: float
) -> Results:
    core, other = two_cores()
    if core is None:
        print("there is only one core: nothing is pinned", file=sys.stderr)
    results: Results = {(server.name, n): [] for n in clients for server in contenders}
    for number in range(1, rounds + 1):
        for n in clients:
            # In alternating order, so that a machine that slows down does not favour the first.
            for server in contenders if number % 2 else reversed(contenders):
                with running(server, core) as (port, pid):
                    found = measure(port, pid, n, seconds, other)
                results[server.name, n].append(found)
                speed = found and f"{found.result.deliveries_per_s:,.0f} deliveries/s"
                where = f"round {number} of {rounds}, {n:,} clients, {server.name}"
                print(f"{where}: {speed or 'failed'}", file=sys.stderr)
    return results


# The output.


def values(found: Sequence[Measurement | None], what: str) -> list[float | None]:
    """Return a figure's value in each round: `cost`, or a field of Result."""
    if what == "cost":
        return [m and m.cost for m in found]
    return [m and getattr(m.result, what) for m in found]


def known_ratios(
    found: Sequence[Measurement | None],
    first: Sequence[Measurement | None],
    what: str = "deliveries_per_s",
) -> list[float]:
    """Return the ratios of a figure in all rounds that have one, in ascending order."""
    pairs = zip(values(found, what), values(first, what), strict=True)
    return sorted(ratio for ratio in ratios(pairs) if ratio is not None)


def compare(contenders: Sequence[Server], clients: Sequence[int], results: Results) -> None:
    """Print the ratios of the last server to the first."""
    ours, other = contenders[0].name, contenders[-1].name
    for n in clients:
        for what, text in (
            ("deliveries_per_s", "deliveries/s"),
            ("cost", "processor time a delivery"),
        ):
            known = known_ratios(results[other, n], results[ours, n], what)
            if known:
                print(
                    f"{n:,} clients, {text}: {other!r} to {ours} {median(known):.3f}"
                    f" (from {known[0]:.3f} to {known[-1]:.3f}, {len(known)} pairs)"
                )


def tables(contenders: Sequence[Server], clients: Sequence[int], results: Results) -> list[str]:
    """Return the lines of a Markdown table for each number of clients."""
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
            runs = [m.result for m in found if m]
            if not runs:
                lines.append(f"| {server.name} | failed | - | - | - | - | - |")
                continue
            middle = medians(runs)
            ratio = median(known_ratios(found, results[contenders[0].name, n]))
            cells = [
                f"{middle.deliveries_per_s:,.0f}",
                shown(ratio, ".3f" if ratio and ratio < 0.1 else ".2f"),
                shown(middle.latency_ms["p50"], ",.1f"),
                shown(middle.latency_ms["p99"], ",.1f"),
                # The median, as of all others: `medians` adds up.
                shown(median(run.closes for run in runs), ",.0f"),
                f"{middle.generator_cpu:.0%}",
            ]
            lines.append(f"| {server.name} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def made_of(contenders: Sequence[Server]) -> str:
    """Return the packages measured, with their versions. Raises PackageNotFoundError."""
    packages = sorted({server.package for server in contenders if server.package})
    return ", ".join(f"{package} {version(package)}" for package in packages)


def section(
    contenders: Sequence[Server],
    clients: Sequence[int],
    results: Results,
    rounds: int,
    seconds: float,
) -> str:
    """Return the text between the two comments, with them."""
    return "\n".join(
        [
            BEGIN,
            "",
            f"![Deliveries a second of each server]({PICTURE.name})",
            "",
            *tables(contenders, clients, results),
            f"Medians of {rounds} rounds of {seconds:g} seconds, {date.today():%B %Y},"
            f" {platform.python_implementation()} {platform.python_version()},"
            f" {platform.system()} on {platform.machine()} with {os.cpu_count()} cores;"
            f" {made_of(contenders)}.",
            "",
            END,
        ]
    )


def write_page(text: str) -> None:
    """Replace the section between the two comments. Exits with 1 if they are missing."""
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"bench/run.py: {PAGE} lacks {BEGIN} and {END}")
    PAGE.write_text(before + text + after)


def draw(contenders: Sequence[Server], clients: Sequence[int], results: Results) -> None:
    """Draw deliveries per second: a group of bars for each server, a bar for each load."""
    from gochat.bench.plot import picture  # noqa: PLC0415

    names = [server.name for server in contenders]
    thickness = 0.8 / len(clients)
    height = 1.5 + len(names) * (0.25 + 0.2 * len(clients))
    with picture(PICTURE, 8.7, height, "The same chat, on one core") as figure:
        axes = figure.subplots()
        for i, n in enumerate(clients):
            speeds = [median(values(results[name, n], "deliveries_per_s")) for name in names]
            places = [row + (i + 0.5) * thickness - 0.4 for row in range(len(names))]
            bars = axes.barh(
                places, [speed or 0 for speed in speeds], 0.9 * thickness, label=f"{n:,} clients"
            )
            labels = ["failed" if speed is None else f"{speed:,.0f}" for speed in speeds]
            axes.bar_label(bars, labels, padding=4)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params("y", length=0)
        axes.grid(False, axis="y")
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.margins(x=0.1)
        axes.xaxis.set_major_formatter("{x:,.10g}")
        axes.set(xlabel="deliveries/s", title="messages received by all clients; more is better")
        # Above the axes: bars may reach any place on them.
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(clients))


# The command.


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Compares gochat with other servers of the same chat, and writes"
        " docs/why/performance.md and docs/why/performance.svg.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=count, default=5, help="measurements of each server")
    parser.add_argument(
        "--seconds", type=duration, default=5.0, help="seconds to measure after a warm-up"
    )
    parser.add_argument(
        "--clients",
        type=numbers,
        default="100,1000",
        help="numbers of clients, with commas",
    )
    parser.add_argument(
        "--go",
        type=Path,
        metavar="BINARY",
        help="also measure the Go example: the program that `go build` makes in the directory"
        " examples/chat of the repository gorilla/websocket. It is run in its own directory, where"
        " it looks for its home.html",
    )
    parser.add_argument(
        "--against",
        metavar="COMMAND",
        help="compare gochat with this command only, print the ratios, and write nothing; PORT in"
        " it is replaced by the port",
    )
    args = parser.parse_args()
    if args.go is not None and not os.access(args.go, os.X_OK):
        parser.error(f"{args.go} is not a program")
    contenders = servers(args.go)
    if args.against is not None:
        command = tuple(shlex.split(args.against))
        contenders = [contenders[0], Server(args.against, command, directory=Path.cwd())]
    try:
        made_of(contenders)
        if args.against is None:
            version("matplotlib")
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
    draw(contenders, args.clients, results)
    print(f"written: {PAGE.relative_to(HERE.parent)}, {PICTURE.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()

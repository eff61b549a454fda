"""Compare gochat with other servers of the same chat, and write the results to docs/.

    python -m pip install -e . -r bench/requirements.txt
    python bench/run.py

Each server is pinned to one core, and this program, with the load generator of `gochat bench`, to
another. The servers are measured in rounds, A B C, C B A and so on, so that other work of the
machine affects all alike, and each server's ratio to the first one is taken within a round. The
medians are written: tables to docs/why/performance.md, between two comments, and two pictures next
to that page. The second picture compares threads, greenlets and goroutines over numbers of clients.

With --against gochat is compared with one other command only, and nothing is written. That shows
the cost of a flag, or of a change if the command is that of another checkout. The ratio of the
processor time per delivery is more reliable than that of deliveries: other work of the machine is
not part of it.

A server is started for each measurement and ended after it, and listens on 127.0.0.1 only.
"""

from __future__ import annotations

import os
import platform
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gochat.bench.command import clients as numbers
from gochat.bench.load import Load, Result, median, medians
from gochat.bench.report import COMPARED, DELIVERIES, FIGURES, Figure, Report, shown
from gochat.bench.run import Run
from gochat.golang.dial import Address
from gochat.golang.flag import Parser, count, seconds

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs" / "why"
PAGE = DOCS / "performance.md"
PICTURE = DOCS / "performance.svg"
CURVES = DOCS / "performance-clients.svg"
BEGIN, END = "<!-- begin: written by bench/run.py -->", "<!-- end: written by bench/run.py -->"
# How long a server may take to listen, and to end, in seconds.
PATIENCE = 20.0


@dataclass(frozen=True)
class Server:
    """A server to measure. PORT in its command is replaced by the port."""

    name: str
    command: tuple[str, ...]
    #: The Python package to name with its version.
    package: str = ""
    directory: Path = HERE


def servers(go: Path | None) -> tuple[list[Server], list[Server]]:
    """Return the runtimes of this chat, and then the servers on other libraries.

    go: the Go example, which is among the first if it is there. All are compared with threads.
    """
    python = sys.executable

    def peer(name: str, package: str, file: str) -> Server:
        return Server(name, (python, str(HERE / "peers" / file), "PORT"), package)

    address = "127.0.0.1:PORT"
    gochat = (python, "-m", "gochat", "serve", "--addr", address)
    runtimes = [
        Server("gochat, threads", gochat, "gochat"),
        Server("gochat, greenlets", (*gochat, "--runtime", "greenlets"), "gevent"),
    ]
    if go is not None:
        command = (str(go.resolve()), "-addr", address)
        runtimes.append(Server("the Go example", command, directory=go.resolve().parent))
    peers = [
        peer("socketify, C++", "socketify", "socketify_uws.py"),
        peer("picows, asyncio", "picows", "picows_asyncio.py"),
        peer("websockets, asyncio", "websockets", "websockets_asyncio.py"),
        peer("aiohttp, asyncio", "aiohttp", "aiohttp_asyncio.py"),
        peer("websockets, threads", "websockets", "websockets_threads.py"),
        peer("simple-websocket, threads", "simple-websocket", "naive_threads.py"),
    ]
    return runtimes, peers


# Measuring.


@dataclass(frozen=True)
class Measured(Result):
    #: The server's processor time per delivery, in microseconds, if the system tells.
    cost: float | None
    #: What its memory has grown by at most, in KB for each client, if the system tells.
    memory: float | None


#: The cores for the server and for the generator; None if there is no choice.
Cores = tuple[int | None, int | None]


def two_cores() -> Cores:
    """Return two cores, for a process that has not been pinned yet."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[-1]) if len(cores) > 1 else (None, None)


def pin(core: int | None) -> None:
    """Keep this program, and what it starts from now on, on a core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


@contextmanager
def running(server: Server, cores: Cores) -> Iterator[tuple[int, int]]:
    """Run a server for the time of the block. Yields its port and its process's id."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    pin(cores[0])
    process = subprocess.Popen(
        [part.replace("PORT", str(port)) for part in server.command],
        cwd=server.directory,
        # The Go example has one core, even where nothing can be pinned.
        env=os.environ | {"GOMAXPROCS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    pin(cores[1])
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


def memory(pid: int, name: str) -> int | None:
    """Return a figure of a process's memory in KB, such as VmRSS, or None without /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return int(status.partition(f"{name}:")[2].split()[0])


def cpu_time(pid: int) -> float | None:
    """Return the processor time of a process in seconds, or None without /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure(server: Server, load: Load, cores: Cores) -> Measured:
    """Start a server and measure it. Raises what Run.measure raises."""
    with running(server, cores) as (port, pid):
        before, empty = cpu_time(pid), memory(pid, "VmRSS")
        run = Run(Address.parse(f"ws://127.0.0.1:{port}"), load, lambda _: None).measure()
        after, peak = cpu_time(pid), memory(pid, "VmHWM")
    if run.interrupted:
        raise KeyboardInterrupt
    known = before is not None and after is not None and run.received
    return Measured(
        **vars(run),
        cost=(after - before) / run.received * 1e6 if known else None,
        memory=(peak - empty) / load.clients if peak and empty else None,
    )


def measure_all(
    contenders: Sequence[Server],
    cores: Cores,
    load: Load,
    clients: Sequence[int],
    rounds: int,
    *,
    compared: Sequence[Figure] = COMPARED,
) -> Report:
    """Measure every server, but not again with a number of clients with which it has failed."""
    report = Report(load, {each.name: " ".join(each.command) for each in contenders}, compared)
    by_name = {server.name: server for server in contenders}
    failed: set[tuple[str, int]] = set()
    for name, step in report.plan(clients, rounds):
        if (name, step.clients) in failed:
            continue
        try:
            run = measure(by_name[name], step, cores)
            report.runs.append((name, run))
            text = f"{run.deliveries_per_s:,.0f} deliveries/s"
        except OSError as error:
            failed.add((name, step.clients))
            text = str(error)
        print(f"{step.clients:,} clients, {name}: {text}", file=sys.stderr)
    return report


# The rows of the table that compares the runtimes: what is measured, the load, and the figure.
QUIET = Figure("p50", lambda run: run.latency_ms["p50"], ",.1f")
MEMORY = Figure("memory", lambda run: run.memory, ",.0f")
ROWS: tuple[tuple[str, Load, Figure], ...] = (
    ("deliveries/s, 100 clients, 4 senders", Load(), DELIVERIES),
    ("100 clients, 20 senders", Load(senders=20), DELIVERIES),
    ("1,000 clients, 4 senders", Load(1000), DELIVERIES),
    ("5,000 clients, 4 senders", Load(5000), DELIVERIES),
    ("latency p50 at 20 messages/s, ms: 100 clients", Load(rate=20), QUIET),
    ("1,000 clients", Load(1000, rate=20), QUIET),
    ("memory per client, KB, 1,000 clients", Load(1000, rate=1), MEMORY),
)


# The output.


def tables(report: Report, clients: Sequence[int]) -> list[str]:
    """Return the lines of a Markdown table for each number of clients."""
    names = ("latency p50, ms", "latency p99, ms", "clients dropped", "generator's CPU")
    figures = [figure for figure in FIGURES if figure.name in names]
    first = next(iter(report.servers))
    heads = ["server", DELIVERIES.name, f"ratio to {first}", *(figure.name for figure in figures)]
    lines = []
    for n in clients:
        lines += [f"With {n:,} clients:", "", row(heads), row(["---", *["---:"] * len(heads[1:])])]
        for name in report.servers:
            runs = report.of(name, n)
            if not runs:
                lines.append(row([name, "failed", *["-"] * len(heads[2:])]))
                continue
            middle = medians(runs)
            ratio = median(report.ratios(n, DELIVERIES, name, first))
            cells = [DELIVERIES.of(middle), shown(ratio, ".3f" if ratio and ratio < 0.1 else ".2f")]
            lines.append(row([name, *cells, *(figure.of(middle) for figure in figures)]))
        lines.append("")
    return lines


def runtimes_table(runtimes: Sequence[Server], measured: Sequence[Report]) -> list[str]:
    """Return the lines of a Markdown table: a row for each load, with ratios to the last."""
    names = [server.name for server in runtimes]
    last = names[-1]
    ratios = [f"{name.rpartition(' ')[2]} to Go" for name in names[:-1]]
    lines = [row(["", *names, *ratios]), row(["---", *["---:"] * (len(names) + len(ratios))])]
    for (title, load, figure), report in zip(ROWS, measured, strict=True):
        values = [median(map(figure.value, report.of(name, load.clients))) for name in names]
        pairs = [median(report.ratios(load.clients, figure, name, last)) for name in names[:-1]]
        lines.append(
            row([title, *(shown(value, figure.format) for value in values), *map(shown, pairs)])
        )
    return [*lines, ""]


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def made_of(contenders: Sequence[Server]) -> str:
    """Return the packages measured, with their versions. Raises PackageNotFoundError."""
    packages = sorted({server.package for server in contenders if server.package})
    return ", ".join(f"{package} {version(package)}" for package in packages)


def write_page(lines: Sequence[str]) -> None:
    """Replace what is between the two comments. Exits with 1 if they are missing."""
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"bench/run.py: {PAGE} lacks {BEGIN} and {END}")
    PAGE.write_text("\n".join([before + begin, "", *lines, "", end + after]))


def draw(report: Report, clients: Sequence[int]) -> None:
    """Draw deliveries per second: a group of bars for each server, a bar for each load."""
    from gochat.bench.plot import picture  # noqa: PLC0415

    names = list(report.servers)
    thickness = 0.8 / len(clients)
    height = 1.5 + len(names) * (0.25 + 0.2 * len(clients))
    with picture(PICTURE, 8.7, height, "The same chat, on one core") as figure:
        axes = figure.subplots()
        for i, n in enumerate(clients):
            speeds = [median(map(DELIVERIES.value, report.of(name, n))) for name in names]
            places = [place + (i + 0.5) * thickness - 0.4 for place in range(len(names))]
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


def draw_curves(report: Report) -> None:
    """Draw deliveries per second over the number of clients."""
    from gochat.bench.plot import picture  # noqa: PLC0415

    with picture(CURVES, 8.7, 4, "Threads, greenlets and goroutines, on one core") as figure:
        axes = figure.subplots()
        for name in report.servers:
            speeds = {run.clients: run.deliveries_per_s for run in report.medians(name)}
            axes.plot(list(speeds), list(speeds.values()), "o-", label=name)
        axes.set(xlabel="clients", ylabel="deliveries/s", xscale="log")
        axes.set_xticks(report.clients, [f"{n:,}" for n in report.clients])
        axes.minorticks_off()
        axes.set_xlim(0.8 * min(report.clients), 1.25 * max(report.clients))
        axes.set_ylim(0)
        axes.yaxis.set_major_formatter("{x:,.10g}")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


# The command.


def main() -> None:
    """Compare the servers, as the flags say."""
    parser = Parser(
        description="Compares gochat with other servers of the same chat, and writes"
        " docs/why/performance.md and its two pictures."
    )
    parser.add_flag("rounds", count, 5, "measurements of each server")
    parser.add_flag("seconds", seconds, Load.seconds, "seconds to measure after a warm-up", "S")
    parser.add_flag("clients", numbers, "100,1000", "numbers of clients, with commas", "N,N")
    parser.add_flag(
        "curves",
        numbers,
        "10,30,100,300,1000,3000,5000",
        "numbers of clients for the picture of the three runtimes",
        "N,N",
    )
    parser.add_flag(
        "go",
        Path,
        None,
        "also measure the Go example: the program that `go build` makes in the directory"
        " examples/chat of the repository gorilla/websocket. It is run in its own directory, where"
        " it looks for its home.html",
        "BINARY",
    )
    parser.add_flag(
        "against",
        str,
        None,
        "compare this command with gochat only, print the ratios, and write nothing; PORT in it is"
        " replaced by the port",
        "COMMAND",
    )
    args = parser.parse_args()
    if args.go is not None and not os.access(args.go, os.X_OK):
        parser.error(f"{args.go} is not a program")
    runtimes, peers = servers(args.go)
    contenders = [*runtimes, *peers]
    against = args.against is not None
    if against:
        command = tuple(shlex.split(args.against))
        contenders = [Server("the other", command, directory=Path.cwd()), runtimes[0]]
    try:
        made_of(contenders)
        if not against:
            version("matplotlib")
    except PackageNotFoundError as error:
        parser.error(f"{error.name} is missing: pip install -r bench/requirements.txt")
    cores = two_cores()
    if cores[0] is None:
        print("there is only one core: nothing is pinned", file=sys.stderr)
    load = Load(seconds=args.seconds)
    try:
        if against:
            figures = (DELIVERIES, Figure("CPU per delivery", lambda run: run.cost))
            print(
                measure_all(
                    contenders, cores, load, args.clients, args.rounds, compared=figures
                ).text()
            )
            return
        report = measure_all(contenders, cores, load, args.clients, args.rounds)
        curves = measure_all(runtimes, cores, load, args.curves, args.rounds)
        rows = []
        for _, each, _ in ROWS if args.go is not None else ():
            if each == Load(each.clients) and each.clients in args.curves:
                rows.append(curves)
            else:
                load = replace(each, seconds=args.seconds)
                rows.append(measure_all(runtimes, cores, load, [each.clients], args.rounds))
    except KeyboardInterrupt:
        sys.exit(130)
    write_page(
        [
            f"![Deliveries a second of each server]({PICTURE.name})",
            "",
            *tables(report, args.clients),
            "The two runtimes and the Go example:",
            "",
            f"![Deliveries a second over the number of clients]({CURVES.name})",
            "",
            *(runtimes_table(runtimes, rows) if rows else ()),
            f"Medians of {args.rounds} rounds of {args.seconds:g} seconds, {date.today():%B %Y},"
            f" {platform.python_implementation()} {platform.python_version()},"
            f" {platform.system()} on {platform.machine()} with {os.cpu_count()} cores;"
            f" {made_of(contenders)}.",
        ]
    )
    draw(report, args.clients)
    draw_curves(curves)
    written = (PAGE, PICTURE, CURVES)
    print(f"written: {', '.join(str(path.relative_to(HERE.parent)) for path in written)}")


if __name__ == "__main__":
    main()

"""Compare gochat with other servers of the same chat.

    python -m pip install -e . -r bench/requirements.txt
    python bench/run.py --go BINARY --write

Each measurement starts a new server, which listens on 127.0.0.1 and runs on one core. The load
generator, wsload.c, runs on another core. Every other round measures the servers in reverse order,
so that other work on the machine affects all of them alike. The tables show the medians of the
values, and of the ratios within each round.

Each measurement is appended to a file (--json) as soon as it ends; --read makes the tables from
such a file. --write puts the tables into docs/why/performance.md, between two comments, and draws
its two pictures. With all servers and cases, this takes more than 20 minutes.

--against compares gochat with another command, such as gochat with another flag or from an older
checkout. Trust the ratio of processor time per delivery more than the ratio of deliveries, because
other work on the machine affects processor time less.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import random
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from gochat.bench.command import clients as numbers
from gochat.bench.load import median, ratios
from gochat.bench.report import ratio_table, shown
from gochat.golang.flag import Parser, count, seconds

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs" / "why"
PAGE = DOCS / "performance.md"
PICTURE = DOCS / "performance.svg"
CURVES = DOCS / "performance-clients.svg"
BEGIN, END = "<!-- begin: written by bench/run.py -->", "<!-- end: written by bench/run.py -->"
# Time limit for a server to start listening, and for it to end, in seconds.
PATIENCE = 20.0
# The server runs on the first of these cores, and the load generator on the last.
CORES = sorted(os.sched_getaffinity(0))
PRCTL = ctypes.CDLL(None).prctl

# The servers.

#: The names of the two servers that --against compares, and of the Go example.
OTHER, OURS, GO = "the other", "gochat, threads", "the Go example"
#: Pattern that matches gochat on either runtime and the Go example.
RUNTIMES = "gochat|Go"
#: The programs in `peers`. A name begins with the package that the program uses.
PEERS = {
    "socketify, C++": "socketify_uws.py",
    "picows, asyncio": "picows_asyncio.py",
    "websockets, asyncio": "websockets_asyncio.py",
    "aiohttp, asyncio": "aiohttp_asyncio.py",
    "websockets, threads": "websockets_threads.py",
    "simple-websocket, threads": "naive_threads.py",
}
#: The command of each server, by name. In a command, PORT stands for the port.
Servers = Mapping[str, Sequence[str]]


def servers(go: Path | None) -> Servers:
    """Return gochat on both runtimes, the Go example, and the servers that use other libraries.

    go: the compiled Go example; None to leave it out.
    """
    gochat = [sys.executable, "-m", "gochat", "serve", "--addr", "127.0.0.1:PORT"]
    found = {OURS: gochat, "gochat, greenlets": [*gochat, "--runtime", "greenlets"]}
    if go is not None:
        found[GO] = [str(go.resolve()), "-addr", "127.0.0.1:PORT"]
    for name, file in PEERS.items():
        found[name] = [sys.executable, str(HERE / "peers" / file), "PORT"]
    return found


def versions(names: Iterable[str]) -> str:
    """Return the versions of the servers' packages. Raises PackageNotFoundError."""
    packages = {
        "gevent" if name.endswith("greenlets") else name.partition(",")[0]
        for name in names
        if name not in (GO, OTHER)
    }
    return ", ".join(f"{package} {version(package)}" for package in sorted(packages))


# The cases.


@dataclass(frozen=True)
class Case:
    """A measurement: its load, its servers, and the value that is shown."""

    title: str
    #: Flags for wsload. `-t` replaces the value of --seconds.
    flags: str
    #: The value's key in wsload's output.
    figure: str = "deliveries_per_s"
    #: The value's format.
    format: str = ",.0f"
    #: Pattern for the names of the servers to measure.
    servers: str = RUNTIMES
    #: If set, each round has a second run, with these flags. The value is the first run's
    #: deliveries divided by the second run's.
    without: str = ""


class Cases(NamedTuple):
    """All cases, grouped by the place where they are shown."""

    #: The cases that each have a table.
    compared: Sequence[Case]
    #: The rows in the table of the runtimes: what the tables of `compared` do not show.
    runtimes: Sequence[Case]
    #: The points in the picture of the runtimes, by number of clients.
    curves: Mapping[int, Case]


def load(clients: int, senders: int = 4) -> str:
    return f"-n {clients} -s {min(senders, clients)}"


def busy(clients: int, senders: int = 4, pattern: str = RUNTIMES) -> Case:
    """Return a case in which each sender keeps four messages in flight."""
    return Case(f"{clients:,} clients, {senders} senders", load(clients, senders), servers=pattern)


def quiet(clients: int) -> Case:
    title = f"latency p50 at 20 messages/s, {clients:,} clients, ms"
    return Case(title, f"{load(clients)} -r 20", "p50_ms", ",.1f")


def all_cases(shrink: int, seconds: float) -> Cases:
    """Return all cases. shrink: divisor for all numbers of clients. seconds: --seconds."""
    hundred, thousand, most = 100 // shrink, 1000 // shrink, 20_000 // shrink
    stopped = max(hundred // 5, 1)
    rest = hundred - stopped
    # The system buffers about 4 MB for a client that has stopped reading, which small messages or a
    # short measurement would not fill.
    large = f"-b 500 -t {2 * seconds}"
    return Cases(
        [
            busy(hundred, pattern=""),
            busy(hundred, 20, f"{RUNTIMES}|socketify|picows"),
            busy(thousand, pattern=""),
            busy(5 * thousand),
        ],
        [
            quiet(hundred),
            quiet(thousand),
            Case(
                f"{stopped} of {hundred:,} clients stop reading: deliveries to the other {rest},"
                f" divided by those in a room of {rest}",
                f"{load(hundred)} {large} -z {stopped}",
                "ratio",
                ".2f",
                without=f"{load(rest)} {large}",
            ),
            Case(
                "memory of an idle client, KB",
                f"{load(3 * thousand)} -t 0 -k {thousand // 2}",
                "memory_kb",
                ",.1f",
            ),
            Case(
                f"{5 * thousand:,} clients are cut off: time until all are back, s",
                f"{load(5 * thousand)} -t 0 -c",
                "away_s",
                ",.2f",
            ),
            Case(
                f"clients in one process, at most {most:,}",
                f"{load(most)} -t 0 -f",
                "clients",
                servers="greenlets",
            ),
        ],
        {n: busy(n) for n in (max(n // shrink, 1) for n in (10, 30, 100, 300, 1000, 3000, 5000))},
    )


# Measuring.


class Results:
    """All measurements, oldest first."""

    def __init__(self, path: Path) -> None:
        """Make an empty list. path: a file to append each measurement to."""
        self.path = path
        #: The keys are "case", "server", "round", those of wsload's output, and "error" after a
        #: failure.
        self.rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(f"{json.dumps(row)}\n")

    def values(self, case: Case, server: str, key: str = "") -> list[float | None]:
        """Return a value for each round, or None after a failure.

        key: empty for the value that the case shows.
        """
        rows = [row for row in self.rows if (row["case"], row["server"]) == (case.title, server)]
        return [row.get(key or case.figure) for row in rows]

    def middle(self, case: Case, server: str, key: str = "", form: str = "") -> str:
        return shown(median(self.values(case, server, key)), form or case.format)

    def ratios(self, case: Case, a: str, b: str, key: str = "") -> list[float | None]:
        """Return server a's values divided by server b's, by round."""
        return ratios(self.values(case, a, key), self.values(case, b, key))

    def dropped(self, cases: Sequence[Case], server: str) -> str:
        """Return how many clients a server has dropped even though they were reading."""
        each = (n for case in cases for n in self.values(case, server, "dropped"))
        return f"{sum(n or 0 for n in each):,}"


def measure_all(
    results: Results, cases: Iterable[Case], contenders: Servers, args: argparse.Namespace
) -> None:
    """Compile wsload, and measure all cases. Exits with status 2 if there is no C compiler.

    Skips a server after two failures in a case.
    """
    with tempfile.TemporaryDirectory() as folder:
        generator = str(Path(folder) / "wsload")
        try:
            subprocess.run(["cc", "-O2", "-o", generator, HERE / "wsload.c"], check=True)
        except OSError as error:
            args.error(f"the load generator needs a C compiler: cc: {error.strerror}")
        for case in cases:
            names = [name for name in contenders if re.search(case.servers, name)]
            for i in range(args.rounds):
                for name in names[:: -1 if i % 2 else 1]:
                    if results.values(case, name).count(None) == 2:
                        continue
                    run = partial(measure, generator, contenders[name], args.seconds)
                    row: dict[str, Any] = {"case": case.title, "server": name, "round": i}
                    try:
                        row |= run(case.flags)
                        if case.without:
                            other = run(case.without)
                            row["ratio"] = row["deliveries_per_s"] / other["deliveries_per_s"]
                        if not row[case.figure]:
                            raise OSError("nothing that was sent arrived in time")
                        text = format(row[case.figure], case.format)
                    except (OSError, ArithmeticError) as error:
                        text = str(error)
                        row |= {case.figure: None, "error": text}
                    results.add(row)
                    print(f"{case.title}, {name}: {text}", file=sys.stderr)


def measure(generator: str, command: Sequence[str], seconds: float, flags: str) -> dict[str, Any]:
    """Run a server and wsload, and return the output of wsload.

    Raises OSError if the server or wsload fails.
    """
    times = ["-t", str(seconds), "-u", str(min(seconds, 1))]
    with serving(command) as (port, pid):
        done = subprocess.run(
            [generator, "-p", str(port), "-P", str(pid), *times, *flags.split()],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=partial(begin, CORES[-1]),
        )
    if done.returncode:
        raise OSError(done.stderr.strip() or f"wsload ended with {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextmanager
def serving(command: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Run a server for the duration of the block. Yields its port and process id."""
    port = free_port()
    process = subprocess.Popen(
        [part.replace("PORT", str(port)) for part in command],
        env=os.environ | {"GOMAXPROCS": "1"},  # one core, also in Go's view
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=partial(begin, CORES[0]),  # noqa: PLW1509 - this process has one thread
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"it does not listen: {shlex.join(command)}")
            time.sleep(0.02)
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def begin(core: int) -> None:
    """Pin a new process to a core, and end it when this process ends, even if it is killed."""
    os.sched_setaffinity(0, {core})
    PRCTL(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, which only Linux has


def free_port() -> int:
    """Return a free port below 32768. Linux uses higher ports for outgoing connections."""
    while True:
        port = random.randrange(10_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


# The output.


def markdown(*rows: Sequence[str]) -> list[str]:
    """Return the lines of a table. The first row contains the titles."""
    first, *others = rows
    line = ["---", *["---:"] * len(first[1:])]
    return [*(f"| {' | '.join(cells)} |" for cells in (first, line, *others)), ""]


def short(name: str) -> str:
    return name.removeprefix("gochat, ")


def compared_table(results: Results, case: Case, contenders: Servers) -> list[str]:
    """Return a table with a row for each measured server, or no lines if there is none."""
    measured = [name for name in contenders if results.values(case, name)]
    ours = [name for name in measured if name.startswith("gochat")]
    keys = {"p50_ms": ",.2f", "p99_ms": ",.2f", "generator_cpu": ".0%"}
    ratios = [f"{short(name)} / this server" for name in ours]
    figures = ["latency p50, ms", "latency p99, ms", "generator's CPU", "clients dropped"]
    rows = [["server", "deliveries/s", *ratios, *figures]]
    for name in measured:
        cells = [name, results.middle(case, name)]
        cells += [shown(median(results.ratios(case, other, name))) for other in ours]
        cells += [results.middle(case, name, key, form) for key, form in keys.items()]
        rows.append([*cells, results.dropped([case], name)])
    return [f"With {case.title}:", "", *markdown(*rows)] if measured else []


def runtimes_table(results: Results, cases: Sequence[Case], contenders: Servers) -> list[str]:
    """Return a table with a row for each measured case, or no lines if there is none."""
    names = [name for name in contenders if re.search(RUNTIMES, name)]
    measured = [case for case in cases if any(results.values(case, name) for name in names)]
    if not measured:
        return []
    *others, last = names
    rows = [["load", *names, *(f"{short(name)} / {last}" for name in others)]]
    for case in measured:
        cells = [results.middle(case, name) for name in names]
        cells += [shown(median(results.ratios(case, name, last))) for name in others]
        rows.append([case.title, *cells])
    dropped = [results.dropped(cases, name) for name in names]
    rows.append(["clients dropped in all of these", *dropped, *["-"] * len(others)])
    picture = f"![Deliveries a second over the number of clients]({CURVES.name})"
    return ["The two runtimes and the Go example:", "", picture, "", *markdown(*rows)]


def tables(results: Results, cases: Cases, contenders: Servers, end: str) -> list[str]:
    """Return the lines for the page. end: the page's last sentence."""
    lines = [f"![Deliveries a second of each server]({PICTURE.name})", ""]
    for case in cases.compared:
        lines += compared_table(results, case, contenders)
    return [*lines, *runtimes_table(results, cases.runtimes, contenders), end]


def comparison(results: Results, cases: Sequence[Case]) -> Iterator[str]:
    """Yield a table for each case of --against, with the ratios in each round."""
    keys = {"deliveries/s": "deliveries_per_s", "CPU per delivery": "cpu_us"}
    for case in cases:
        columns = {title: results.ratios(case, OTHER, OURS, key) for title, key in keys.items()}
        yield from ["", f"{case.title}:", *ratio_table(f"{OTHER} / {OURS}", columns)]


def write_page(lines: Sequence[str]) -> None:
    """Replace the text between the two comments. Raises ValueError if a comment is missing."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]))


def draw(results: Results, cases: Sequence[Case], contenders: Servers) -> None:
    from gochat.bench.plot import picture  # noqa: PLC0415

    names = list(contenders)
    thickness = 0.8 / len(cases)
    height = 1.5 + len(names) * (0.25 + 0.2 * len(cases))
    with picture(PICTURE, 8.7, height, "The same chat, on one core") as figure:
        axes = figure.subplots()
        for i, case in enumerate(cases):
            places = [place + (i + 0.5) * thickness - 0.4 for place in range(len(names))]
            lengths = [median(results.values(case, name)) or 0 for name in names]
            label = case.title.removesuffix(", 4 senders")
            bars = axes.barh(places, lengths, 0.9 * thickness, label=label)
            labels = [f"{length:,.0f}" if length else "failed" for length in lengths]
            axes.bar_label(bars, labels, padding=4)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params("y", length=0)
        axes.grid(False, axis="y")
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.margins(x=0.1)
        axes.xaxis.set_major_formatter("{x:,.10g}")
        axes.set(xlabel="deliveries/s", title="messages received by all clients; more is better")
        # Above the axes, because bars may cover any part of the axes.
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(cases))


def draw_curves(results: Results, cases: Mapping[int, Case], contenders: Servers) -> None:
    from gochat.bench.plot import picture, set_clients  # noqa: PLC0415

    with picture(CURVES, 8.7, 4, "Threads, greenlets and goroutines, on one core") as figure:
        axes = figure.subplots()
        set_clients(axes, list(cases), ylabel="deliveries/s")
        for name in filter(re.compile(RUNTIMES).search, contenders):
            found = {n: median(results.values(case, name)) for n, case in cases.items()}
            speeds = {n: speed for n, speed in found.items() if speed}
            axes.plot(list(speeds), list(speeds.values()), "o-", label=name)
        axes.set_ylim(0)
        axes.set_xlim(0.8 * min(cases), 1.25 * max(cases))
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


# The command.


def pattern(text: str) -> str:
    """Return a flag's value. Raises ValueError unless it is a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a pattern: {error}") from None
    return text


def program(text: str) -> Path:
    """Return a flag's value. Raises ValueError unless it is the path of a program."""
    if not os.access(text, os.X_OK):
        raise ValueError(f"{text} is not a program")
    return Path(text)


def arguments() -> argparse.Namespace:
    parser = Parser(description="Compares gochat with other servers of the same chat.")
    parser.add_group("what to measure")
    parser.add_flag("rounds", count, 5, "measurements of each server in each case")
    parser.add_flag("seconds", seconds, 2.0, "seconds to measure after a warm-up", "S")
    text = "also measure the Go example: the program that `go build` makes in the directory"
    parser.add_flag("go", program, None, f"{text} examples/chat of gorilla/websocket", "BINARY")
    text = "only servers whose names match this (default: all)"
    parser.add_flag("servers", pattern, None, text, "PATTERN")
    text = "only cases whose titles match this (default: all)"
    parser.add_flag("cases", pattern, None, text, "PATTERN")
    text = "divide the numbers of clients by this, for a trial"
    parser.add_flag("shrink", partial(count, most=20), 1, text)
    text = "compare gochat only with this command, and print the ratios; PORT in the command is"
    parser.add_flag("against", str, None, f"{text} replaced by the port", "COMMAND")
    parser.add_flag("clients", numbers, "100,1000", "numbers of clients for --against", "N,N")
    parser.add_group("the results")
    file = HERE.parent / "build" / time.strftime("bench-%m%d-%H%M%S.jsonl")
    parser.add_flag(
        "json", Path, file, "file to append each measurement to, as a line of JSON", "FILE"
    )
    text = "make the tables from this file; measure nothing"
    parser.add_flag("read", Path, None, text, "FILE")
    parser.add_option(
        "write",
        action="store_true",
        help="also write docs/why/performance.md and its two pictures",
    )
    args = parser.parse_args()
    if args.write and (args.servers or args.cases or args.shrink > 1 or args.against is not None):
        parser.error("--write needs all servers and cases, in full size")
    return args


def main() -> None:
    args = arguments()
    contenders, cases = servers(args.go), all_cases(args.shrink, args.seconds)
    if args.against is not None:
        contenders = {OTHER: shlex.split(args.against), OURS: contenders[OURS]}
        cases = Cases([busy(clients, pattern="") for clients in args.clients], [], {})
    contenders = {
        name: contenders[name] for name in contenders if re.search(args.servers or "", name)
    }
    try:
        made_of = versions(contenders)
        if args.write:
            version("matplotlib")
    except PackageNotFoundError as error:
        args.error(f"{error.name} is missing: pip install -r bench/requirements.txt")
    results = Results(args.json)
    interrupted = False
    if args.read is not None:
        results.rows += map(json.loads, args.read.read_text().splitlines())
    else:
        args.json.parent.mkdir(exist_ok=True)
        wanted: dict[str, Case] = {}
        for case in [*cases.compared, *cases.runtimes, *cases.curves.values()]:
            if re.search(args.cases or "", case.title):
                # If two cases have the same title, keep the first, which measures more servers.
                wanted.setdefault(case.title, case)
        try:
            measure_all(results, wanted.values(), contenders, args)
        except KeyboardInterrupt:
            interrupted = True
    if args.against is None:
        end = (
            f"Medians of {args.rounds} rounds of {args.seconds:g} seconds, {date.today():%B %Y},"
            f" {platform.python_implementation()} {platform.python_version()},"
            f" {platform.system()} on {platform.machine()} with {os.cpu_count()} cores and at most"
            f" {resource.getrlimit(resource.RLIMIT_NOFILE)[1]:,} open files; {made_of}."
        )
        page = tables(results, cases, contenders, end)
    else:
        page = [*comparison(results, cases.compared)]
    print(*page, sep="\n")
    if interrupted:
        sys.exit(130)
    if args.write:
        write_page(page)
        draw(results, [case for case in cases.compared if not case.servers], contenders)
        draw_curves(results, cases.curves, contenders)
        written = (PAGE, PICTURE, CURVES)
        print(f"written: {', '.join(str(path.relative_to(HERE.parent)) for path in written)}")


if __name__ == "__main__":
    main()

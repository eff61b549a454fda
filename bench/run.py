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
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from gochat.bench.command import clients as numbers
from gochat.golang.flag import Parser, count, seconds

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs" / "why"
PAGE = DOCS / "performance.md"
PICTURE = DOCS / "performance.svg"
CURVES = DOCS / "performance-clients.svg"
BEGIN, END = "<!-- begin: written by bench/run.py -->", "<!-- end: written by bench/run.py -->"
# Time limit for a server to start listening, and for it to end, in seconds.
PATIENCE = 20.0
# Time that wsload may take in addition to the time for which it sends, in seconds.
LONGEST = 300.0
# Ends a child process when this process ends, even if it is killed. The 1 is PR_SET_PDEATHSIG,
# which only Linux has.
END_WITH_PARENT = partial(ctypes.CDLL(None).prctl, 1, signal.SIGTERM)


@dataclass(frozen=True)
class Server:
    """A server to measure. In its command, PORT stands for the port."""

    name: str
    command: tuple[str, ...]
    package: str = ""
    directory: Path = HERE


def servers(go: Path | None) -> list[Server]:
    """Return gochat on both runtimes, the Go example, and the servers that use other libraries.

    go: the compiled Go example; None to leave it out.
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
    return [
        *runtimes,
        peer("socketify, C++", "socketify", "socketify_uws.py"),
        peer("picows, asyncio", "picows", "picows_asyncio.py"),
        peer("websockets, asyncio", "websockets", "websockets_asyncio.py"),
        peer("aiohttp, asyncio", "aiohttp", "aiohttp_asyncio.py"),
        peer("websockets, threads", "websockets", "websockets_threads.py"),
        peer("simple-websocket, threads", "simple-websocket", "naive_threads.py"),
    ]


# The cases.

#: Pattern that matches gochat on either runtime and the Go example.
RUNTIMES = "gochat|Go"
#: The numbers of clients in the picture of the runtimes.
CURVE = (10, 30, 100, 300, 1000, 3000, 5000)
#: Flags for large messages. The system buffers about 4 MB for a client that has stopped reading,
#: which small messages would not fill during a measurement.
LARGE = ("-b", "500")


@dataclass(frozen=True)
class Case:
    """A measurement: its load, its servers, and the value that is shown."""

    title: str
    #: Flags for wsload, except those for the server and the time.
    flags: tuple[str, ...]
    #: The value's key in wsload's output.
    figure: str = "deliveries_per_s"
    #: The value's format.
    format: str = ",.0f"
    #: Pattern for the names of the servers to measure.
    servers: str = RUNTIMES
    #: Time for which messages are sent, as a multiple of --seconds; 0 to send none.
    longer: int = 1
    #: Whether one round is enough.
    once: bool = False
    #: If set, each round has a second run, with these flags. The value is the first run's
    #: deliveries divided by the second run's.
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cases:
    """All cases, grouped by the place where they are shown."""

    #: The cases that each have a table.
    compared: Sequence[Case]
    #: The rows in the table of the runtimes: what the tables of `compared` do not show.
    runtimes: Sequence[Case]
    #: The points in the picture of the runtimes, by number of clients.
    curves: Mapping[int, Case]
    #: The case shown as a sentence.
    most: Case


def load(clients: int, senders: int = 4) -> tuple[str, ...]:
    return "-n", str(clients), "-s", str(min(senders, clients))


def busy(clients: int, senders: int = 4, pattern: str = RUNTIMES) -> Case:
    """Return a case in which each sender keeps four messages in flight."""
    return Case(f"{clients:,} clients, {senders} senders", load(clients, senders), servers=pattern)


def quiet(clients: int) -> Case:
    title = f"latency p50 at 20 messages/s, {clients:,} clients, ms"
    return Case(title, (*load(clients), "-r", "20"), "p50_ms", ",.1f")


def all_cases(shrink: int) -> Cases:
    """Return all cases. shrink: divisor for all numbers of clients."""
    hundred, thousand, most = 100 // shrink, 1000 // shrink, 20_000 // shrink
    stopped = max(hundred // 5, 1)
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
                f"{stopped} of {hundred:,} clients stop reading: deliveries to the other"
                f" {hundred - stopped}, divided by those in a room of {hundred - stopped}",
                (*load(hundred), *LARGE, "-z", str(stopped)),
                "ratio",
                ".2f",
                longer=2,
                without=(*load(hundred - stopped), *LARGE),
            ),
            Case(
                "memory of an idle client, KB",
                (*load(3 * thousand), "-k", str(thousand // 2)),
                "memory_kb",
                ",.1f",
                longer=0,
            ),
            Case(
                f"{5 * thousand:,} clients are cut off: time until all are back, s",
                (*load(5 * thousand), "-c"),
                "away_s",
                ",.2f",
                longer=0,
            ),
        ],
        {clients: busy(clients) for clients in (max(n // shrink, 1) for n in CURVE)},
        Case(
            "clients in one process",
            (*load(most), "-f"),
            "clients",
            ",",
            "greenlets",
            longer=0,
            once=True,
        ),
    )


# Measuring.


class Results:
    """All measurements, oldest first."""

    def __init__(self, path: Path | None) -> None:
        """Make an empty list. path: a file to append each measurement to; None for no file."""
        self.path = path
        #: The keys are "case", "server", "round", those of wsload's output, and "error" after a
        #: failure.
        self.rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(f"{json.dumps(row)}\n")

    def of(self, case: Case, server: str = "") -> list[dict[str, Any]]:
        """Return the measurements of a case, oldest first. server: empty for all servers."""
        rows = [row for row in self.rows if row["case"] == case.title]
        return [row for row in rows if row["server"] == server] if server else rows

    def values(self, case: Case, server: str, key: str = "") -> dict[int, float]:
        """Return a server's values by round. key: empty for the value that the case shows."""
        key = key or case.figure
        rows = self.of(case, server)
        return {row["round"]: row[key] for row in rows if row.get(key) is not None}

    def ratios(self, case: Case, a: str, b: str, key: str = "") -> dict[int, float]:
        """Return server a's values divided by server b's, by round."""
        values, others = self.values(case, a, key), self.values(case, b, key)
        return {i: value / others[i] for i, value in values.items() if others.get(i)}

    def dropped(self, cases: Sequence[Case], server: str) -> int:
        """Return how many clients a server has dropped even though they were reading."""
        return sum(row.get("dropped", 0) for case in cases for row in self.of(case, server))


@dataclass(frozen=True)
class Bench:
    generator: str
    results: Results
    rounds: int
    seconds: float
    #: The cores for the server and the generator; None if there is only one core.
    cores: tuple[int | None, int | None]

    def measure(self, case: Case, contenders: Sequence[Server]) -> None:
        """Measure a case on each server. Skips a server after two failures."""
        contenders = [server for server in contenders if re.search(case.servers, server.name)]
        failures: Counter[str] = Counter()
        for i in range(1 if case.once else self.rounds):
            for server in contenders[:: -1 if i % 2 else 1]:
                if failures[server.name] == 2:
                    continue
                result: dict[str, Any] = {"case": case.title, "server": server.name, "round": i}
                try:
                    result |= self.once(case, server)
                    if result[case.figure] is None:
                        raise OSError("nothing that was sent arrived in time")
                    text = format(result[case.figure], case.format)
                except (OSError, subprocess.SubprocessError, ValueError) as error:
                    failures[server.name] += 1
                    result["error"] = text = str(error)
                self.results.add(result)
                print(f"{case.title}, {server.name}: {text}", file=sys.stderr)

    def once(self, case: Case, server: Server) -> dict[str, Any]:
        duration = self.seconds * case.longer
        result = self.run(server, case.flags, duration)
        if case.without:
            other = self.run(server, case.without, duration)
            result["ratio"] = result["deliveries_per_s"] / other["deliveries_per_s"]
        return result

    def run(self, server: Server, flags: Sequence[str], duration: float) -> dict[str, Any]:
        """Run a server and wsload, and return the output of wsload.

        duration: time for which messages are sent, in seconds; 0 to send none. Raises OSError,
        SubprocessError or ValueError if the server or wsload fails.
        """
        times = ["-t", str(duration), "-u", str(min(duration, 1))]
        with self.running(server) as (port, pid):
            done = subprocess.run(
                [self.generator, "-p", str(port), "-P", str(pid), *flags, *times],
                capture_output=True,
                text=True,
                timeout=LONGEST + duration,
                check=False,
                preexec_fn=END_WITH_PARENT,
            )
        if done.returncode:
            raise OSError(done.stderr.strip() or f"wsload ended with {done.returncode}")
        result: dict[str, Any] = json.loads(done.stdout)
        if duration and not result["deliveries_per_s"]:
            raise OSError("nothing was delivered")
        return result

    @contextmanager
    def running(self, server: Server) -> Iterator[tuple[int, int]]:
        """Run a server for the duration of the block. Yields its port and process id."""
        port = free_port()
        pin(self.cores[0])
        process = subprocess.Popen(
            [part.replace("PORT", str(port)) for part in server.command],
            cwd=server.directory,
            # Limits the Go example to one core even where processes cannot be pinned.
            env=os.environ | {"GOMAXPROCS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=END_WITH_PARENT,  # noqa: PLW1509 - this process has one thread
        )
        pin(self.cores[1])
        try:
            wait_for(port, process, server)
            yield port, process.pid
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def two_cores() -> tuple[int | None, int | None]:
    """Return the first and the last core that this process may use. Call before `pin`."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[-1]) if len(cores) > 1 else (None, None)


def pin(core: int | None) -> None:
    """Pin this process, and all processes that it starts later, to a core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def free_port() -> int:
    """Return a free port below 32768. Linux uses higher ports for outgoing connections."""
    while True:
        port = random.randrange(10_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def wait_for(port: int, process: subprocess.Popen[bytes], server: Server) -> None:
    """Wait until the server listens. Raises OSError if it does not."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port)):
                return
        except OSError:
            time.sleep(0.02)
    raise OSError(f"it does not listen: {shlex.join(server.command)}")


# The output.


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def head(*titles: str) -> list[str]:
    return [row(titles), row(["---", *["---:"] * len(titles[1:])])]


def middle(values: Mapping[int, float], form: str = ".2f") -> str:
    """Return the median, formatted for a table, or `-` if there are no values."""
    return format(median(values.values()), form) if values else "-"


def short(name: str) -> str:
    return name.removeprefix("gochat, ")


def compared_table(results: Results, case: Case, contenders: Sequence[Server]) -> list[str]:
    measured = [server.name for server in contenders if results.of(case, server.name)]
    ours = [name for name in measured if name.startswith("gochat")]
    keys = {"p50_ms": ",.2f", "p99_ms": ",.2f", "generator_cpu": ".0%"}
    figures = ("latency p50, ms", "latency p99, ms", "generator's CPU", "clients dropped")
    ratios = (f"{short(name)} / this server" for name in ours)
    lines = [f"With {case.title}:", "", *head("server", "deliveries/s", *ratios, *figures)]
    for name in measured:
        cells = [name, middle(results.values(case, name), case.format)]
        cells += [middle(results.ratios(case, other, name)) for other in ours]
        cells += [middle(results.values(case, name, key), form) for key, form in keys.items()]
        lines.append(row([*cells, f"{results.dropped([case], name):,}"]))
    return [*lines, ""]


def runtimes_table(
    results: Results, cases: Sequence[Case], contenders: Sequence[Server]
) -> list[str]:
    """Return a table with a row for each measured case, or no lines if there is none."""
    runtimes = [server.name for server in contenders if re.search(RUNTIMES, server.name)]
    measured = [case for case in cases if results.of(case)]
    if not (runtimes and measured):
        return []
    *names, last = runtimes
    lines = head("load", *names, last, *(f"{short(name)} / {last}" for name in names))
    for case in measured:
        cells = [middle(results.values(case, name), case.format) for name in (*names, last)]
        cells += [middle(results.ratios(case, name, last)) for name in names]
        lines.append(row([case.title, *cells]))
    dropped = [f"{results.dropped(cases, name):,}" for name in (*names, last)]
    return [*lines, row(["clients dropped in all of these", *dropped, *["-"] * len(names)]), ""]


def tables(results: Results, cases: Cases, contenders: Sequence[Server], end: str) -> list[str]:
    """Return the lines for the page. end: the page's last sentence."""
    lines = [f"![Deliveries a second of each server]({PICTURE.name})", ""]
    for case in filter(results.of, cases.compared):
        lines += compared_table(results, case, contenders)
    if table := runtimes_table(results, cases.runtimes, contenders):
        lines += ["The two runtimes and the Go example:", ""]
        lines += [f"![Deliveries a second over the number of clients]({CURVES.name})", "", *table]
    for found in results.of(cases.most):
        if "error" not in found:
            text = f"On greenlets, one process served {found['clients']:,} clients at once."
            if why := found.get("refused"):
                files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
                text += f" The next one failed ({why}); the limit on open files was {files:,}."
            lines += [text, ""]
    return [*lines, end]


def comparison(results: Results, cases: Sequence[Case], a: str, b: str) -> Iterator[str]:
    """Yield the lines of a table with the ratios of two servers in each round, for each case."""
    keys = {"deliveries/s": "deliveries_per_s", "CPU per delivery": "cpu_us"}
    for case in cases:
        yield from ["", f"{case.title}: {a} / {b}", "", *head("round", *keys)]
        ratios = [results.ratios(case, a, b, key) for key in keys.values()]
        for i in ratios[0]:
            cells = (format(each[i], ".2f") if i in each else "-" for each in ratios)
            yield row([str(i + 1), *cells])
        yield row(["median", *map(middle, ratios)])


def write_page(lines: Sequence[str]) -> None:
    """Replace the text between the two comments. Exits with status 1 if a comment is missing."""
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"bench/run.py: {PAGE} lacks {BEGIN} and {END}")
    PAGE.write_text("\n".join([before + begin, "", *lines, "", end + after]))


def draw(results: Results, cases: Sequence[Case], contenders: Sequence[Server]) -> None:
    from gochat.bench.plot import picture  # noqa: PLC0415

    names = [server.name for server in contenders]
    thickness = 0.8 / len(cases)
    height = 1.5 + len(names) * (0.25 + 0.2 * len(cases))
    with picture(PICTURE, 8.7, height, "The same chat, on one core") as figure:
        axes = figure.subplots()
        for i, case in enumerate(cases):
            speeds = [results.values(case, name) for name in names]
            places = [place + (i + 0.5) * thickness - 0.4 for place in range(len(names))]
            lengths = [median(each.values()) if each else 0 for each in speeds]
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


def draw_curves(results: Results, cases: Mapping[int, Case], contenders: Sequence[Server]) -> None:
    from gochat.bench.plot import picture  # noqa: PLC0415

    with picture(CURVES, 8.7, 4, "Threads, greenlets and goroutines, on one core") as figure:
        axes = figure.subplots()
        for server in contenders:
            found = {n: results.values(case, server.name) for n, case in cases.items()}
            speeds = {n: median(values.values()) for n, values in found.items() if values}
            if speeds and re.search(RUNTIMES, server.name):
                axes.plot(list(speeds), list(speeds.values()), "o-", label=server.name)
        axes.set(xlabel="clients", ylabel="deliveries/s", xscale="log")
        axes.set_xticks(list(cases), [f"{n:,}" for n in cases])
        axes.minorticks_off()
        axes.set_xlim(0.8 * min(cases), 1.25 * max(cases))
        axes.set_ylim(0)
        axes.yaxis.set_major_formatter("{x:,.10g}")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


# The command.


def pattern(text: str) -> str:
    """Return a flag's value. Raises ArgumentTypeError unless it is a regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a pattern: {error}") from None
    return text


def arguments() -> argparse.Namespace:
    parser = Parser(description="Compares gochat with other servers of the same chat.")
    parser.add_flag("rounds", count, 5, "measurements of each server in each case")
    parser.add_flag("seconds", seconds, 2.0, "seconds to measure after a warm-up", "S")
    parser.add_flag(
        "go",
        Path,
        None,
        "also measure the Go example: the program that `go build` makes in the directory"
        " examples/chat of gorilla/websocket. It runs in its own directory, because it looks for"
        " home.html there",
        "BINARY",
    )
    parser.add_flag("servers", pattern, "", "only servers whose names match this", "PATTERN")
    parser.add_flag("cases", pattern, "", "only cases whose titles match this", "PATTERN")
    parser.add_flag(
        "shrink", partial(count, most=20), 1, "divide the numbers of clients by this, for a trial"
    )
    parser.add_flag(
        "json",
        Path,
        HERE.parent / "build" / time.strftime("bench-%m%d-%H%M%S.jsonl"),
        "file to append each measurement to, as a line of JSON",
        "FILE",
    )
    parser.add_flag("read", Path, None, "make the tables from this file; measure nothing", "FILE")
    parser.add_option(
        "write",
        action="store_true",
        help="also write docs/why/performance.md and its two pictures",
    )
    parser.add_flag(
        "against",
        str,
        None,
        "compare gochat only with this command, and print the ratios; PORT in the command is"
        " replaced by the port",
        "COMMAND",
    )
    parser.add_flag("clients", numbers, "100,1000", "numbers of clients for --against", "N,N")
    args = parser.parse_args()
    if args.go is not None and not os.access(args.go, os.X_OK):
        parser.error(f"{args.go} is not a program")
    return args


def measure_all(
    results: Results, cases: Sequence[Case], contenders: Sequence[Server], args: argparse.Namespace
) -> None:
    """Compile wsload, and measure all cases. Exits with status 2 if there is no C compiler."""
    cores = two_cores()
    if cores[0] is None:
        print("there is only one core: nothing is pinned", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        generator = str(Path(folder) / "wsload")
        try:
            subprocess.run(["cc", "-O2", "-o", generator, HERE / "wsload.c"], check=True)
        except OSError as error:
            args.error(f"the load generator needs a C compiler: cc: {error.strerror}")
        bench = Bench(generator, results, args.rounds, args.seconds, cores)
        for case in cases:
            bench.measure(case, contenders)


def main() -> None:
    args = arguments()
    contenders = servers(args.go)
    if args.against is not None:
        command = tuple(shlex.split(args.against))
        contenders = [Server("the other", command, directory=Path.cwd()), contenders[0]]
        cases = [busy(clients, pattern="") for clients in args.clients]
        results = Results(None)
        measure_all(results, cases, contenders, args)
        print(*comparison(results, cases, *(server.name for server in contenders)), sep="\n")
        return
    if args.write and (args.servers or args.cases or args.shrink > 1):
        args.error("--write needs all servers and cases, in full size")
    contenders = [server for server in contenders if re.search(args.servers, server.name)]
    try:
        packages = sorted({server.package for server in contenders if server.package})
        made_of = ", ".join(f"{package} {version(package)}" for package in packages)
        if args.write:
            version("matplotlib")
    except PackageNotFoundError as error:
        args.error(f"{error.name} is missing: pip install -r bench/requirements.txt")
    cases = all_cases(args.shrink)
    interrupted = False
    if args.read is not None:
        results = Results(None)
        results.rows += map(json.loads, args.read.read_text().splitlines())
    else:
        args.json.parent.mkdir(exist_ok=True)
        results = Results(args.json)
        every = [*cases.compared, *cases.runtimes, cases.most, *cases.curves.values()]
        wanted: dict[str, Case] = {}
        for case in every:
            if re.search(args.cases, case.title):
                # If two cases have the same title, keep the first, which measures more servers.
                wanted.setdefault(case.title, case)
        try:
            measure_all(results, [*wanted.values()], contenders, args)
        except KeyboardInterrupt:
            interrupted = True
    page = tables(
        results,
        cases,
        contenders,
        f"Medians of {args.rounds} rounds of {args.seconds:g} seconds, {date.today():%B %Y},"
        f" {platform.python_implementation()} {platform.python_version()},"
        f" {platform.system()} on {platform.machine()} with {os.cpu_count()} cores; {made_of}.",
    )
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

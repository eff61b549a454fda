"""The results as tables and as JSON, warnings about them, and the progress bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final, NamedTuple, TextIO

from .load import PERCENTILES, Load, Result, median, medians, ratios
from .run import DRAIN

__all__ = ["Bar", "Report", "ratio_table", "shown"]

# If the generator uses more than this fraction of a core, it may be slower than the server.
BUSY: Final = 0.9


class Figure(NamedTuple):
    name: str
    value: Callable[[Result], float | None]
    format: str = ",.0f"

    def of(self, result: Result) -> str:
        return shown(self.value(result), self.format)


def latency(name: str) -> Figure:
    return Figure(f"latency {name}, ms", lambda result: result.latency_ms[name], ",.2f")


DELIVERIES: Final = Figure("deliveries/s", lambda result: result.deliveries_per_s)
FIGURES: Final = (
    Figure("time to connect, s", lambda result: result.connect_s, ",.2f"),
    Figure("sent/s", lambda result: result.sent_per_s),
    DELIVERIES,
    Figure("frames/s", lambda result: result.frames_per_s),
    Figure("messages per frame", lambda result: result.messages_per_frame, ",.1f"),
    *(latency(name) for name in (*PERCENTILES, "max")),
    Figure("undelivered", lambda result: result.undelivered),
    Figure("clients dropped", lambda result: result.closes),
    Figure("generator's CPU", lambda result: result.generator_cpu, ".0%"),
)
COMPARED: Final = (DELIVERIES, latency("p50"), latency("p99"))


class Report:
    """The results of one or two servers, each with one or more numbers of clients.

    servers: maps each server's name to its address.
    """

    def __init__(self, load: Load, servers: Mapping[str, str]) -> None:
        self.load = load
        self.servers = servers
        self.runs: list[tuple[str, Result]] = []

    def plan(self, clients: Sequence[int], rounds: int) -> list[tuple[str, Load]]:
        """Return the measurements to make, in order.

        Every other round takes the servers in reverse order, so that neither server benefits if the
        machine slows down.
        """
        names = list(self.servers)
        return [
            (name, replace(self.load, clients=number))
            for i in range(rounds)
            for number in clients
            for name in (reversed(names) if i % 2 else names)
        ]

    def of(self, server: str, clients: int) -> list[Result]:
        """Return a server's results with this number of clients, oldest first."""
        return [run for name, run in self.runs if (name, run.clients) == (server, clients)]

    @property
    def clients(self) -> list[int]:
        """The numbers of clients, in the order in which they were measured."""
        return list(dict.fromkeys(run.clients for _, run in self.runs))

    def medians(self, server: str) -> list[Result]:
        """Return a server's medians: one result for each number of clients."""
        found = [self.of(server, clients) for clients in self.clients]
        return [medians(runs) for runs in found if runs]

    def ratios(self, clients: int, figure: Figure) -> list[float | None]:
        """Return, for each complete round, the first server's figure divided by the second's."""
        found = (map(figure.value, self.of(name, clients)) for name in self.servers)
        return ratios(*map(list, found))

    def titles(self) -> list[str]:
        """Return a line for each server: its address, after its name if there are two servers."""
        if len(self.servers) == 1:
            return list(self.servers.values())
        return [f"{name}: {where}" for name, where in self.servers.items()]

    def text(self) -> str:
        """Return the results as text."""
        lines = [*self.titles(), str(self.load)]
        if len(self.servers) == 1:
            measured = {f"{run.clients:,}": run for run in self.medians(*self.servers)}
            return "\n".join([*lines, "", *table("clients", measured)])
        for clients in self.clients:
            found = {name: self.of(name, clients) for name in self.servers}
            measured = {name: medians(runs) for name, runs in found.items() if runs}
            lines += ["", *table(f"{clients:,} clients, medians", measured)]
            columns = {figure.name: self.ratios(clients, figure) for figure in COMPARED}
            lines += ["", *ratio_table(" / ".join(self.servers), columns)]
        return "\n".join(lines)

    def json(self) -> dict[str, Any]:
        """Return the results as an object that `json.dumps` accepts."""
        report = {
            "servers": dict(self.servers),
            "loop": "open" if self.load.rate else "closed",
            "load": {k: v for k, v in asdict(self.load).items() if k != "clients"},
            "runs": [{"server": name} | asdict(run) for name, run in self.runs],
        }
        if len(self.servers) > 1:
            report["medians"] = [
                {"server": name} | asdict(run)
                for name in self.servers
                for run in self.medians(name)
            ]
            report["ratios"] = [
                {"clients": clients, "figure": figure.name, "pairs": r, "median": median(r)}
                for clients in self.clients
                for figure in COMPARED
                for r in [self.ratios(clients, figure)]
            ]
        return report

    def warnings(self) -> list[str]:
        """Return a line for each reason to doubt the results."""
        lines = []
        for _, run in self.runs:
            where = f"{run.url} with {run.clients:,} clients"
            if run.generator_cpu > BUSY:
                lines.append(
                    f"{where}: the generator used {run.generator_cpu:.0%} of a core,"
                    " and may have been slower than the server"
                )
            if self.load.rate and run.sent_per_s < 0.98 * self.load.rate:
                lines.append(f"{where}: only {run.sent_per_s:,.0f} messages/s could be sent")
            if run.undelivered:
                lines.append(
                    f"{where}: {run.undelivered:,} deliveries were missing {DRAIN:g} s after the"
                    " end, so the latencies look better than they were"
                )
        return lines

    def failure(self) -> str | None:
        """Return a line about the first run with dropped clients, or None if there is none."""
        for _, run in self.runs:
            if run.closes:
                codes = ", ".join(f"{code}: {n:,}" for code, n in run.close_codes.items())
                return f"{run.url} dropped {run.closes:,} of {run.clients:,} clients ({codes})"
        return None


def shown(value: float | None, form: str = ".2f") -> str:
    """Return a value formatted for a table, or `-` for None."""
    return "-" if value is None else format(value, form)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    form = "  ".join([f"{{:{first}}}", *(f"{{:>{max(width, 9)}}}" for width in others)])
    return [form.format(*row) for row in rows]


def ratio_table(title: str, columns: Mapping[str, Sequence[float | None]]) -> list[str]:
    """Return the lines of a table with a row for each pair of runs, and a row of medians."""
    rows = [[title, *columns]]
    for number, pair in enumerate(zip(*columns.values(), strict=True), 1):
        rows.append([f"pair {number}", *map(shown, pair)])
    return aligned([*rows, ["median", *(shown(median(column)) for column in columns.values())]])


def table(title: str, results: Mapping[str, Result]) -> list[str]:
    rows = [[figure.name, *map(figure.of, results.values())] for figure in FIGURES]
    return aligned([[title, *results], *rows])


class Bar:
    """A progress bar. Shows nothing if the stream is not a terminal."""

    def __init__(self, stream: TextIO, seconds: float) -> None:
        """Make a bar. seconds: total duration of all runs."""
        self.stream = stream if stream.isatty() else None
        self.seconds = seconds
        self.before = 0.0
        self.text = ""

    def begin(self, before: float, text: str) -> None:
        """Start the next run. before: fraction of the runs that are done, from 0 to 1."""
        self.before, self.text = before, text
        self.show(0)

    def show(self, seconds: float) -> None:
        """Show the progress. seconds: time since the current run's warm-up began."""
        done = int(30 * min(self.before + seconds / self.seconds, 1))
        self.write(f"[{'#' * done}{'.' * (30 - done)}] {self.text}")

    def write(self, line: str = "") -> None:
        """Replace the current line."""
        if self.stream:
            self.stream.write(f"\r{line}\x1b[K")
            self.stream.flush()

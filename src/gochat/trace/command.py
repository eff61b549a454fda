"""The command `gochat trace` and its flags."""

from __future__ import annotations

import argparse
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Final

from ..golang.flag import Parser, output, seconds
from .chrome import Trace, read
from .recorder import RUN
from .svg import Lane, Panel, draw, lanes

__all__ = ["add_flags", "trace"]

# The things that a thread may wait for, in the order of the table's columns.
_WAITS: Final = ("recv", "send", "turn", "socket", "rate", "close")


def add_flags(parser: Parser) -> None:
    """Add the flags of `gochat trace`."""
    parser.set_defaults(run=trace)
    parser.description = "Shows how long each thread of a trace ran and waited, or draws the trace."
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="the file written by gochat serve with --trace"
    )
    parser.add_flag(
        "svg",
        lambda text: output(text, ".svg"),
        None,
        "file for a picture of the threads (default: none, print a summary)",
        "OUT",
    )
    parser.add_option(
        "only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="threads and channels to show, as in hub or '*:5000'; may be repeated (default: all)",
    )
    moment = partial(seconds, zero=True)
    for name, place, value, text in (
        ("from", "begin", 0.0, "where to begin, in seconds (default 0)"),
        ("to", "end", None, "where to end, in seconds (default: the end of the trace)"),
    ):
        parser.add_option(name, dest=place, type=moment, default=value, metavar="S", help=text)


def trace(args: argparse.Namespace) -> None:
    """Summarize or draw a trace. Exits with status 2 if flags contradict each other.

    Raises OSError if a file cannot be read or written. Raises ValueError if the file is not a
    trace, or if nothing in it matches the flags.
    """
    if args.end is not None and args.end <= args.begin:
        args.error(f"--from {args.begin:g} is not before --to {args.end:g}")
    found = read(args.file)
    chosen = lanes(found, args.only)
    if not chosen:
        raise ValueError(f"{args.file}: no thread or channel has such a name")
    begin = max(args.begin * 1e6, min(span.begin for span in found.spans))
    end = max(span.end for span in found.spans) if args.end is None else args.end * 1e6
    if args.svg is None:
        print(summary(found, chosen, begin, end))
        return
    picture = draw(args.file.name, [Panel("", found, chosen, begin, end)])
    args.svg.write_text(picture, encoding="utf-8")


def summary(trace: Trace, chosen: list[Lane], begin: float, end: float) -> str:
    """Return a table that shows how long each thread existed, ran, and waited for each thing.

    begin, end: the part of the trace to count, in microseconds.
    """
    rows = [["thread", "seconds", RUN, *_WAITS]]
    times: defaultdict[tuple[int | None, str], float] = defaultdict(float)
    for span in trace.spans:
        inside = min(span.end, end) - max(span.begin, begin)
        if inside > 0:
            times[span.thread, RUN if span.kind == RUN else span.name] += inside
    for lane in chosen:
        spent = [times[lane.thread, state] for state in (RUN, *_WAITS)]
        if whole := sum(spent):
            shares = [f"{time / whole:.1%}" if time else "" for time in spent]
            rows.append([lane.name, f"{whole / 1e6:.3f}", *shares])
    messages = sum(flow.name == "broadcast" and begin <= flow.sent < end for flow in trace.flows)
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [
        "  ".join(
            [row[0].ljust(first), *(c.rjust(w) for c, w in zip(row[1:], others, strict=True))]
        )
        for row in rows
    ]
    lines.append(f"{messages} message{'' if messages == 1 else 's'} went through the hub")
    if trace.lost:
        lines.append(f"{trace.lost} older records were lost: --trace-events was too small for them")
    return "\n".join(line.rstrip() for line in lines)

"""The command `gochat bench` and its flags."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from ..golang.dial import add_url, address
from ..golang.flag import Parser, count, output, rate, seconds
from .load import Load
from .report import Bar, Report
from .run import LARGEST, SENDERS, STAMPED, Run

__all__ = ["add_flags", "bench", "picture_path"]


def picture_path(text: str) -> Path:
    """Parse the path of a plot. Raises ValueError."""
    return output(text, ".svg", ".png", ".pdf")


def clients(text: str) -> list[int]:
    """Parse a comma-separated list of numbers of clients. Raises ValueError."""
    values = [count(part) for part in text.split(",")]
    if len(set(values)) < len(values):
        raise ValueError(f"{text!r} has the same number twice")
    return values


def add_flags(parser: Parser) -> None:
    """Add the flags of `gochat bench`."""
    parser.set_defaults(run=bench)
    parser.description = (
        "Measures the throughput and latency of a chat server: any server that sends each client's"
        " WebSocket messages to all clients. Nobody else should be in the room."
    )
    add_url(parser)
    parser.add_group("what most people need")
    text = "clients in the room; several numbers are measured in turn"
    parser.add_flag("clients", clients, str(Load.clients), text, "N,N")
    most = partial(count, most=SENDERS)
    parser.add_flag("senders", most, Load.senders, "clients that also send", "S")
    parser.add_flag("seconds", seconds, Load.seconds, "seconds to measure", "T")
    text = (
        "messages per second from all senders together, instead of --window. Latency counts from"
        " when a message is due, so a stall shows in every message that it delays"
    )
    parser.add_flag("rate", partial(rate, most=1e9), Load.rate, text, "R")
    parser.add_flag("versus", address, None, "server to compare with, in alternating runs", "URL")
    parser.add_group("the load")
    size = partial(count, least=STAMPED, most=LARGEST)
    parser.add_flag("size", size, Load.size, "bytes per message", "BYTES")
    text = f"messages that each sender keeps in flight (default {Load.window})"
    parser.add_flag("window", count, None, text, "W")
    text = "seconds of load before the measurement, not counted"
    parser.add_flag("warmup", partial(seconds, zero=True), Load.warmup, text, "T")
    parser.add_group("the results")
    parser.add_flag("pairs", count, 5, "runs of each server", needs="versus")
    text = (
        "file for a plot of throughput and latency against the number of clients: .svg, .png or"
        " .pdf; needs pip install 'gochat[plot]'"
    )
    parser.add_flag("plot", picture_path, None, text, "FILE.svg")
    parser.add_option("json", action="store_true", help="print JSON, for programs")


def bench(args: argparse.Namespace) -> None:
    """Measure one or two servers, and print the results.

    Exits with status 2, before measuring, if flags contradict each other or a plot is wanted but
    matplotlib is missing. After Ctrl-C, prints the results so far and exits with status 130. Raises
    OSError if a server cannot be measured or drops clients. Thread: the main one.
    """
    if args.senders > min(args.clients):
        args.error(f"--senders {args.senders} is more than --clients {min(args.clients)}")
    if args.window is not None and args.rate is not None:
        args.error("--window cannot be combined with --rate")
    draw = None if args.plot is None else import_draw(args.error)
    targets = {"A": args.url} if args.versus is None else {"A": args.url, "B": args.versus}
    same = [field.name for field in fields(Load) if field.name not in ("clients", "window")]
    load = Load(**{name: getattr(args, name) for name in same}, window=args.window or Load.window)
    report = Report(load, {name: target.url for name, target in targets.items()})
    plan = report.plan(args.clients, 1 if args.versus is None else args.pairs)
    bar = Bar(sys.stderr, len(plan) * (load.warmup + load.seconds))
    try:
        if args.versus is not None:  # if B cannot be measured, fail before measuring A
            Run(args.versus, replace(load, clients=1, senders=1), bar.show).look()
        for done, (name, step) in enumerate(plan):
            bar.begin(done / len(plan), f"{targets[name].authority}, {step.clients} clients")
            run = Run(targets[name], step, bar.show).measure()
            report.runs.append((name, run))
            if run.interrupted:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        bar.write()
        show(report, args.json)
        if draw and report.runs:
            draw(report, args.plot)
    if text := report.failure():
        raise OSError(text)


def import_draw(error: Callable[[str], NoReturn]) -> Callable[[Report, Path], None]:
    # At the log level that main sets, matplotlib would log every font it finds.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        # Imported here because the import takes half a second, and no other command needs it.
        from .plot import draw  # noqa: PLC0415
    except ImportError:
        error("--plot needs the package matplotlib: pip install 'gochat[plot]'")
    return draw


def show(report: Report, as_json: bool) -> None:
    if report.runs:
        print(json.dumps(report.json()) if as_json else report.text())
        for line in report.warnings():
            print(f"gochat: warning: {line}", file=sys.stderr)

"""Writes the trace file at the end of a chat, and reads it for `gochat trace`.

The file is JSON in Chrome's Trace Event Format, which Perfetto can also open:
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU

| event           | meaning                                                           |
| --------------- | ----------------------------------------------------------------- |
| M, metadata     | a thread's name, and its place in the list of threads             |
| X, complete     | a thread's state, with the category `run` or `wait`               |
| s and f, a flow | the two ends of an arrow, with the same id, each during a state   |
| C, counter      | how many messages a client's channel holds                        |

Events are sorted by time. Times are in microseconds since the beginning of the trace. An arrow is
left out if only one of its ends was recorded. Messages are numbered from 1, in the order in which
the hub received them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..version import __version__
from .recorder import Point, Recorder, Slice

__all__ = ["Flow", "Span", "Trace", "read", "write"]


def write(file: IO[str], recorder: Recorder) -> None:
    """Write the records to a file. Call once. Raises OSError. Thread: any."""
    slices, points, lost = recorder.read()
    other = {"program": f"gochat {__version__}", "lost": lost}
    file.write(f'{{"displayTimeUnit":"ms","otherData":{json.dumps(other)},"traceEvents":[')
    comma = "\n"
    for event in _events(slices, points, recorder.begin):
        file.write(comma + json.dumps(event, separators=(",", ":")))
        comma = ",\n"
    file.write("\n]}\n")


def _events(
    slices: Sequence[Slice], points: Sequence[Point], zero: int
) -> Iterator[dict[str, Any]]:
    """Yield the file's events in order. zero: the time when the trace began."""
    pid = os.getpid()
    # Use each thread's latest name, because a thread may become a pump and be renamed.
    names = {point.thread: point.name for point in points}
    names |= {record.thread: record.name for record in slices}
    for thread, name in sorted(names.items()):
        for key, args in (("name", {"name": name}), ("sort_index", {"sort_index": thread})):
            yield {"ph": "M", "name": f"thread_{key}", "pid": pid, "tid": thread, "args": args}
    messages = {point.arrow: point.message for point in points if point.arrives}
    whole = messages.keys() & {point.arrow for point in points if not point.arrives}
    ids: dict[int, int] = {}
    records: list[Slice | Point] = [*slices, *points]
    for record in sorted(records, key=lambda record: record.time):
        event = {"pid": pid, "tid": record.thread, "ts": (record.time - zero) / 1000}
        if isinstance(record, Slice):
            said = dict(record.args)
            if message := messages.get(said.pop("arrow", 0)):
                said["message"] = message
            state = {"name": record.state, "cat": record.kind, "args": said}
            yield event | {"ph": "X", "dur": (record.end - record.time) / 1000} | state
            continue
        if record.arrow in whole:
            number = ids.setdefault(record.arrow, len(ids) + 1)
            way = {"ph": "f", "bp": "e"} if record.arrives else {"ph": "s"}
            said = {"channel": record.channel}
            if message := messages[record.arrow]:
                said["message"] = message
            yield event | way | {"name": record.what, "cat": "arrow", "id": number, "args": said}
        if record.queued is not None:
            depth = {"messages": record.queued}
            yield event | {"ph": "C", "name": record.channel, "args": depth}


@dataclass(frozen=True)
class Span:
    """A thread's state. Times in this and the following classes are in microseconds."""

    thread: int
    begin: float
    end: float
    name: str
    kind: str
    args: dict[str, Any]


@dataclass(frozen=True)
class Flow:
    """An arrow from the thread that sent a value to the thread that received it."""

    name: str
    #: For example, `hub.broadcast` or `client.send 127.0.0.1:5000`.
    channel: str
    #: The number of the message; None if the value is not a message.
    message: int | None
    sender: int
    sent: float
    receiver: int
    received: float


@dataclass(frozen=True)
class Trace:
    """The contents of a file."""

    #: Thread names by thread number, in the order in which the threads appeared.
    threads: dict[int, str]
    #: The threads' states, in the order in which they began.
    spans: list[Span]
    #: The arrows, in the order in which their values were sent.
    flows: list[Flow]
    #: For each client's channel: the times at which its length changed, each with the new length.
    depths: dict[str, list[tuple[float, int]]]
    #: Number of lost records, which were older than all others.
    lost: int


def read(path: Path) -> Trace:
    """Read a trace file. Raises OSError, or ValueError if the file is not a trace by gochat."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _trace(content["traceEvents"], int(content["otherData"]["lost"]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not a trace of gochat") from error


def _trace(events: Iterable[dict[str, Any]], lost: int) -> Trace:
    threads: dict[int, str] = {}
    spans: list[Span] = []
    flows: list[Flow] = []
    depths: dict[str, list[tuple[float, int]]] = {}
    starts: dict[int, dict[str, Any]] = {}
    for event in events:
        match event["ph"]:
            case "M" if event["name"] == "thread_name":
                threads[int(event["tid"])] = str(event["args"]["name"])
            case "X":
                begin, name = float(event["ts"]), str(event["name"])
                end = round(begin + float(event["dur"]), 3)  # the file's precision
                args = dict(event["args"])
                spans.append(Span(event["tid"], begin, end, name, str(event["cat"]), args))
            case "s":
                starts[event["id"]] = event
            case "f":
                s = starts.pop(event["id"])
                args, sent, got = s["args"], float(s["ts"]), float(event["ts"])
                way = (s["tid"], sent, event["tid"], got)
                flows.append(Flow(str(s["name"]), args["channel"], args.get("message"), *way))
            case "C":
                depth = float(event["ts"]), int(event["args"]["messages"])
                depths.setdefault(str(event["name"]), []).append(depth)
    if not spans or not {span.thread for span in spans} <= set(threads):
        raise ValueError("no thread does anything")
    flows.sort(key=lambda flow: flow.sent)
    return Trace(threads, spans, flows, depths, lost)

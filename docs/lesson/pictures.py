"""Draws what the threads of the lesson's programs do: python -m docs.lesson.pictures

The pictures are written to the folder given as an argument; by default, the folder of this file.

The vertical order shows cause and effect, as in Go's memory model (https://go.dev/ref/mem), rather
than the time by the clock: the events of a thread follow each other, and a value is received after
it was sent. So if two runs do the same things, their pictures are equal, byte for byte.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable
from graphlib import TopologicalSorter
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import gochat
from gochat.trace import svg
from gochat.trace.chrome import Flow, Span, Trace
from gochat.trace.recorder import RUN, WAIT

from .recording import PROGRAMS, Event, run

__all__ = ["PROGRAMS", "draw_program"]

HERE = Path(__file__).parent

# The time of a row of the picture. A row of this time is tall enough for two lines of text.
ROW = 3000.0


def without_repetition(events: list[Event]) -> list[Event]:
    """Return the events, with one event for a value that a thread receives many times in a row."""
    latest: dict[threading.Thread, tuple[Event, object]] = {}
    dropped = set()
    for event in events:
        kind = None
        if event.kind == "receive" and event.cause:
            kind = event.channel, event.value, event.cause.thread
            first, known = latest.get(event.thread, (event, None))
            if kind == known:
                dropped |= {event, event.cause}
                first.repeated = True
                continue
        latest[event.thread] = event, kind
    return [event for event in events if event not in dropped]


class Story:
    """The events of a run, by thread, and the words for them."""

    def __init__(self, events: list[Event], variables: dict[str, Any]) -> None:
        # The names of channels and clients, by their ids. An object is named after the first
        # variable or attribute that holds it.
        self._objects: dict[int, str] = {}
        clients = [event.value for event in events if hasattr(event.value, "send")]
        for name, value in [*variables.items(), *(("client", each) for each in clients)]:
            # A closed gevent socket raises OSError for a missing attribute.
            fields = {} if isinstance(value, socket.socket) else getattr(value, "__dict__", {})
            for field, each in [("", value), *fields.items()]:
                if isinstance(each, gochat.Channel) or hasattr(each, "send"):
                    self._objects.setdefault(id(each), f"{name}.{field}".rstrip("."))
        # The threads in the picture: the main thread, and then the others in the order of their
        # starts.
        self.names = {threading.main_thread(): "main"}
        active = {event.thread for event in events if event.other is None}
        connects = {event.value: event for event in events if event.kind == "connect"}
        addresses: list[str] = []
        for thread in (event.other for event in events if event.kind == "start"):
            if thread in active:
                name, _, address = thread.name.partition(" ")
                if address and address not in addresses:
                    addresses.append(address)
                number = f" {addresses.index(address) + 1}" if address else ""
                self.names[thread] = name + number
                if name == "readPump" and address in connects:
                    connects[address].other = thread
        self.threads: dict[threading.Thread, list[Event]] = {thread: [] for thread in self.names}
        self._add(events)
        self._channels = {event.channel for event in events if event.kind in ("receive", "end")}

    def _add(self, events: Iterable[Event]) -> None:
        """Add the events of the threads in the picture, and find their causes."""
        closes: dict[Any, Event] = {}
        received: dict[Any, list[Event]] = defaultdict(list)
        sends: dict[Any, int] = defaultdict(int)
        told = [
            event
            for event in events
            if event.thread in self.names and (event.other or event.thread) in self.names
        ]
        for event in told:
            self.threads[event.thread].append(event)
            if event.kind == "close":
                closes[event.channel] = event
            elif event.kind == "receive":
                received[event.channel].append(event)
        for event in told:
            if event.kind in ("start", "connect") and event.other:
                self.threads[event.other].insert(0, Event("begin", event.other, cause=event))
            elif event.kind == "join" and event.other:
                event.cause = self.threads[event.other][-1]
            elif event.kind == "end":
                event.cause = closes[event.channel]
            elif event.kind == "send" and event.channel.capacity > 0:
                # As in Go's memory model, a send comes after the receive that made room for it.
                made = sends[event.channel] - event.channel.capacity
                sends[event.channel] += 1
                if 0 <= made < len(received[event.channel]):
                    event.room = received[event.channel][made]

    def tell(self, event: Event) -> tuple[str, str]:
        """Return a sentence about an event, and the label for it in the picture."""
        value, channel = self._text(event.value), self._objects.get(id(event.channel), "")
        quoted = f"“{value}”" if isinstance(event.value, (str, bytes)) else value
        other = self.names.get(event.other or event.thread)
        does, label = {
            "begin": ("", "connect" if event.cause and event.cause.kind == "connect" else ""),
            "start": (f"starts {other}", ""),
            "connect": ("connects to the server", ""),
            "join": (f"has waited for {other} to end", "ended"),
            "print": (f"prints {quoted}", quoted),
            "send": (f"sends {quoted} on {channel}", ""),
            "receive": (f"receives {quoted} from {channel}", self._received(event)),
            "refused": (f"finds no room for {quoted} in {channel}", f"{channel} is full"),
            "close": (f"closes {channel}", f"close {channel}"),
            "end": (f"finds {channel} closed", f"{self._channel(event)} closed".lstrip()),
            "tick": ("has reached its deadline", "deadline"),
            "write": (f"writes {quoted} to its connection", ""),
            "unwritten": (f"is too late to write {quoted}", f"too late to write {quoted}"),
            "read": (f"reads {quoted} from its connection", value),
        }[event.kind]
        return does and f"{self.names[event.thread]} {does}.", label

    def _text(self, value: Any) -> str:
        if isinstance(value, bytes):
            return value.decode()
        return self._objects.get(id(value), str(value))

    def _channel(self, event: Event) -> str:
        """Return a channel's short name; empty if it is the only channel, or does not fit."""
        if len(self._channels) < 2 or len(self.names) > 5:
            return ""
        name = self._objects.get(id(event.channel), "")
        return name if name.endswith(".send") else name.rpartition(".")[2]

    def _received(self, event: Event) -> str:
        """Return the label of a received value: the value and, if needed, the channel's name."""
        value, channel = self._text(event.value), self._channel(event)
        if channel:
            value = f"{channel}: {value}"
        elif hasattr(event.value, "send"):  # a client has no name in the picture
            value = self._objects.get(id(event.channel), value).rpartition(".")[2]
        return value + ", many times" * event.repeated


def moment(event: Event) -> Event:
    """Return the first event at the same moment: a start, or a send on an unbuffered channel."""
    met = event.kind == "begin" or (event.kind == "receive" and event.channel.capacity == 0)
    if met and event.cause and event.cause.kind != "connect":
        return event.cause
    return event


def needed(event: Event) -> set[Event]:
    """Return the earlier moments of other threads without which the event could not happen."""
    return {moment(each) for each in (event.cause, event.room) if each} - {moment(event)}


def in_order(threads: Iterable[list[Event]]) -> tuple[dict[Event, int], set[Event]]:
    """Return each event's row, in order, and the events for which their threads had to wait.

    An event's logical time is one more than that of its latest cause, or 1 if it has no cause.
    """
    causes: dict[Event, set[Event]] = defaultdict(set)
    columns: dict[Event, int] = {}
    for column, events in enumerate(threads):
        for before, event in zip([None, *events[:-1]], events, strict=True):
            columns.setdefault(moment(event), column)
            causes[moment(event)] |= needed(event) | ({moment(before)} if before else set())
    times: dict[Event, int] = {}
    for at in TopologicalSorter(causes).static_order():
        times[at] = 1 + max((times[cause] for cause in causes[at]), default=0)
    moments = sorted(causes, key=lambda at: (times[at], columns[at]))
    rows = {at: row for row, at in enumerate(moments)}
    waits = set()
    for before, event in chain.from_iterable(map(pairwise, threads)):
        last = times[moment(before)]
        if times[moment(event)] > last + 1 or any(times[each] >= last for each in needed(event)):
            waits.add(event)
    events = sorted(
        chain.from_iterable(threads),
        key=lambda event: (rows[moment(event)], moment(event) is not event),
    )
    return {event: rows[moment(event)] for event in events}, waits


def draw_program(program: Path) -> str:
    """Run one of the lesson's programs, and return its picture as an SVG. Thread: the main one."""
    recorder, variables = run(program)
    story = Story(without_repetition(recorder.events), variables)
    rows, waits = in_order(story.threads.values())
    told = {event: story.tell(event) for event in rows}
    steps = [event for event in rows if event.kind != "begin"]
    numbers = {thread: number for number, thread in enumerate(story.names)}
    # If the recording has ended early, the threads continue beyond the picture.
    end = (max(rows.values()) + 2) * ROW if recorder.done else 0.0
    spans: list[Span] = []
    flows: list[Flow] = []
    for number, events in enumerate(story.threads.values()):
        for event, after in zip(events, [*events[1:], None], strict=True):
            begin, next_row = rows[event] * ROW, (rows[event] + 1) * ROW
            until = rows[after] * ROW if after else end or next_row
            # For the Step button of the site.
            args = {"step": steps.index(event), "line": event.line} if event.line else {}
            if after in waits or (end and not after):
                spans.append(Span(number, next_row, until, "", WAIT, {}))
                until = next_row
            spans.append(Span(number, begin, until, told[event][1], RUN, args))
            if event.cause:
                kinds = {"receive": "value", "read": "value", "end": "close"}
                way = numbers[event.cause.thread], rows[event.cause] * ROW, number, begin
                flows.append(Flow(kinds.get(event.kind, "cause"), "", None, *way))
    trace = Trace(dict(enumerate(story.names.values())), spans, flows, {}, 0)
    sentences = [told[event][0] for event in steps]
    whole = svg.Panel("", trace, svg.lanes(trace), 0, max(span.end for span in spans), sentences)
    return svg.draw(variables["__doc__"], [whole])


def main() -> None:
    """Draw the pictures of all programs."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for program in PROGRAMS:
        picture = draw_program(program)
        (folder / f"{program.name[:2]}.svg").write_text(picture)


if __name__ == "__main__":
    main()

"""Draws a trace: each thread and each client's channel is a vertical line, and time runs downward.

A bar on a thread's line is filled while the thread runs, and hollow while it waits. A bar on a
channel's line shows the number of queued messages by its width. An arrow leads from the thread that
sends a value to the thread that receives it, through the channel if the channel has a line.

Time is not to scale, because a message may pass through the hub in a ten-thousandth of the time
between two messages. Every step is tall enough for its label, and long steps are a little taller.
The middle of a long repetition is compressed.

The module writes SVG without a library. So the picture's text can be searched, its colors follow
light and dark mode, and it contains a description in words. The same trace always produces the same
picture. The pictures in the lesson also use `text`, `arrow` and `document`.
"""

from __future__ import annotations

import math
import textwrap
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from html import escape
from itertools import accumulate, chain, pairwise
from typing import Final

from .chrome import Flow, Span, Trace
from .recorder import RUN

__all__ = ["WIDTH", "Lane", "Panel", "Point", "arrow", "document", "draw", "lanes", "text"]

#: A position in a picture: x and y, in pixels.
Point = tuple[float, float]

#: The minimum width of a picture, in pixels: that of a small phone, with room for four lanes.
WIDTH: Final = 360
_GUTTER: Final = 36
_LANE: Final = 77
_BAR: Final = 10
_LINE: Final = 16
_CHARACTER: Final = 7.6
# The longest name that fits into a lane, in characters.
_NAME: Final = 11
# The maximum height of all repetitions together, in pixels.
_DENSE: Final = 260
# The maximum height of everything else, in pixels.
_SPARSE: Final = 1600

# The maximum number of states in a picture; more would make a browser slow.
_STATES: Final = 20_000

# How many items at each end of a repetition keep their full height.
_SHOWN: Final = 2

# Up to this many flows of a kind get a sentence each; more flows share one.
_TOLD: Final = 3

_STYLE: Final = """
:root { --back: #fff; --text: #1a1a1a; --faint: #6b6b6b; --line: #c8c8c8; --run: #0072b2;
  --wait: #8a8a8a; --send: #b34700; --queue: #9fd3ee; --arrow: #1a1a1a; --end: #b3003c }
@media (prefers-color-scheme: dark) {
  :root { --back: #16181c; --text: #ececec; --faint: #a3a3a3; --line: #4a4d52; --run: #56b4e9;
    --wait: #9a9a9a; --send: #ff9d57; --queue: #1d5a7d; --arrow: #ececec; --end: #ff7a9c } }
text { font: 12px system-ui, sans-serif; fill: var(--text); paint-order: stroke;
  stroke: var(--back); stroke-width: 3px; stroke-linejoin: round }
.title { font-weight: 700; font-size: 14px } .name { font-weight: 700; font-size: 11px }
.time { fill: var(--faint); font-size: 11px } .wait { font-style: italic }
.back { fill: var(--back) } .life { stroke: var(--line) } .channel { stroke-dasharray: 2 3 }
.bar { stroke: var(--run); fill: var(--run) }
.bar.wait { stroke: var(--wait); fill: var(--back) } .bar.send { stroke: var(--send) }
.queue { fill: var(--queue) }
.arrow { stroke: var(--arrow); fill: none } .head { fill: var(--arrow) }
.arrow.many { stroke-width: 0.4 }
.arrow.close { stroke: var(--end) } .head.close { fill: var(--end) }
"""


@dataclass(frozen=True)
class Lane:
    """A line of the picture, for a thread or a channel."""

    name: str
    #: The thread's number; None for a channel.
    thread: int | None


@dataclass(frozen=True)
class Panel:
    """One part of a picture. begin, end: the part of the trace that it shows, in microseconds."""

    title: str
    trace: Trace
    lanes: Sequence[Lane]
    begin: float
    end: float

    def spans(self) -> list[Span]:
        """Return the states of the panel's threads during the panel's time."""
        threads = {lane.thread for lane in self.lanes}
        return [
            span
            for span in self.trace.spans
            if span.thread in threads and span.begin < self.end and span.end > self.begin
        ]

    def flows(self) -> list[Flow]:
        """Return the arrows between the panel's threads that start during the panel's time."""
        threads = {lane.thread for lane in self.lanes}
        return [
            flow
            for flow in self.trace.flows
            if {flow.sender, flow.receiver} <= threads and self.begin <= flow.sent < self.end
        ]

    def depths(self, channel: str) -> list[tuple[float, int]]:
        """Return a channel's number of messages, at the beginning and after each change."""
        steps = self.trace.depths[channel]
        before = [depth for time, depth in steps if time < self.begin]
        inside = [(time, depth) for time, depth in steps if self.begin <= time < self.end]
        return [(self.begin, before[-1] if before else 0), *inside]


def lanes(trace: Trace, patterns: Sequence[str] = ()) -> list[Lane]:
    """Return the lanes of a trace that match a pattern, or all lanes if there are no patterns.

    Their order follows the path of a message: first the threads that send, then the hub, and then
    each client's channel and write pump.
    """

    def place(lane: Lane) -> tuple[int, str, int]:
        kind, _, client = lane.name.partition(" ")
        if lane.thread is None or kind == "writePump":
            return 2, client, lane.thread or 0
        return int(kind == "hub"), "", lane.thread

    found = [Lane(name, number) for number, name in trace.threads.items()]
    found += [Lane(name, None) for name in trace.depths]
    return [
        lane
        for lane in sorted(found, key=place)
        if not patterns or any(fnmatchcase(lane.name, pattern) for pattern in patterns)
    ]


def draw(title: str, panels: Sequence[Panel]) -> str:
    """Return a picture that shows the panels, one below the other.

    Raises ValueError if a panel would show nothing, or too much.
    """
    for panel in panels:
        states = len(panel.spans())
        if not states:
            raise ValueError("no thread of that name does anything in that time")
        if states > _STATES:
            raise ValueError(
                f"{states} states are too many for a picture: use --only, --from and --to"
            )
    widest = max(
        len(word) for panel in panels for lane in panel.lanes for word in lane.name.split(" ", 1)
    )
    lane_width = _LANE if widest <= _NAME else round(widest * _CHARACTER) + 12
    width = max(WIDTH, _GUTTER + lane_width * max(len(panel.lanes) for panel in panels))
    body: list[str] = []
    y = 0.0
    for panel in panels:
        y = _Drawing(panel, lane_width, width, body).draw(y)
    for line in _wrapped("Filled: runs. Hollow: waits. Time is not to scale.", width, 6.4):
        y += _LINE
        body.append(text(8, y, "time", line))
    words = [[f"{panel.title}:"] * bool(panel.title) + _describe(panel) for panel in panels]
    height = math.ceil(y + 10)
    body.insert(0, f'<rect class="back" width="{width}" height="{height}"/>')
    return document(title, chain.from_iterable(words), _STYLE, (width, height), body)


class _Drawing:
    def __init__(self, panel: Panel, lane_width: int, width: int, body: list[str]) -> None:
        self.panel = panel
        self.width = width
        self.body = body
        self.spans = panel.spans()
        self.flows = panel.flows()
        # The x coordinate of each lane's middle, by thread number or channel name.
        self.x = {
            lane.name if lane.thread is None else lane.thread: _GUTTER + 8 + i * lane_width
            for i, lane in enumerate(panel.lanes)
        }
        self.room = lane_width - _BAR - 16
        # All times at which something happens, their y offsets, and the times in compressed parts.
        self.times, self.heights, self.dense = self._rows()
        self.texts: list[str] = []

    def _rows(self) -> tuple[list[float], list[float], set[float]]:
        """Return the times at which something happens, their offsets, and the compressed times."""
        panel = self.panel
        # A time is compressed if everything that happens then is in the middle of a repetition.
        dense: dict[float, bool] = {panel.begin: False, panel.end: False}
        kinds: defaultdict[tuple[object, ...], list[tuple[float, ...]]] = defaultdict(list)
        for span in self.spans:
            kinds[span.thread, span.name, "dropped" in span.args].append((span.begin, span.end))
        for flow in self.flows:
            kinds[flow.channel, flow.name].append((flow.sent, flow.received))
        for happened in kinds.values():
            for i, both in enumerate(happened):
                middle = _SHOWN <= i < len(happened) - _SHOWN
                for time in both:
                    if panel.begin < time < panel.end:
                        dense[time] = dense.get(time, True) and middle
        times = sorted(dense)
        steps = list(pairwise(times))
        pressed = [dense[begin] or dense[end] for begin, end in steps]
        lengths = [end - begin for begin, end in steps]
        full = [0 if long < 0.1 else _LINE + 4 * math.log10(1 + long) for long in lengths]
        small = sum(room for room, press in zip(full, pressed, strict=True) if press)
        large = sum(full) - small
        factors = min(1, _SPARSE / large) if large else 1, min(1, _DENSE / small) if small else 1
        rooms = (room * factors[press] for room, press in zip(full, pressed, strict=True))
        heights = list(accumulate(rooms, initial=0.0))
        return times, heights, {time for time, middle in dense.items() if middle}

    def y(self, time: float) -> float:
        i = bisect_right(self.times, time) - 1
        return self.top + self.heights[max(0, i)]

    def draw(self, y: float) -> float:
        for line in _wrapped(self.panel.title, self.width, 8.6):
            y += 20
            self.body.append(text(8, y, "title", line))
        self.top = y + 50
        bottom = self.top + self.heights[-1]
        for lane, x in zip(self.panel.lanes, self.x.values(), strict=True):
            for i, word in enumerate(lane.name.split(" ", 1)):
                self.body.append(text(x - _BAR / 2, y + 24 + i * 14, "name", word))
            kind = "life channel" if lane.thread is None else "life"
            self.body.append(f'<path class="{kind}" d="M{x} {self.top - 6:.1f}V{bottom + 6:.1f}"/>')
            if lane.thread is None:
                self._draw_queue(lane.name, x)
        self._draw_times()
        for span in self.spans:
            self._draw_span(span)
        for flow in self.flows:
            self._draw_flow(flow)
        self.body += self.texts
        return bottom + 16

    def _draw_times(self) -> None:
        clock, unit = _clock(self.panel.begin, self.panel.end)
        self.texts.append(text(4, self.top - 26, "time", unit))
        last, said = -math.inf, ""
        for time, height in zip(self.times, self.heights, strict=True):
            if height - last >= _LINE - 1 and clock(time) != said:
                last, said = height, clock(time)
                self.texts.append(text(4, self.top + height + 4, "time", said))

    def _draw_queue(self, channel: str, x: float) -> None:
        steps = self.panel.depths(channel)
        most = max(depth for _, depth in steps)
        d = f"M{x} {self.top:.1f}"
        for (time, depth), (until, _) in zip(steps, [*steps[1:], (self.panel.end, 0)], strict=True):
            wide = max(6, self.room * depth / max(most, 8)) if depth else 0
            d += f"V{self.y(time):.1f}H{x + wide:.1f}V{self.y(until):.1f}"
        where = f"{channel}: {most} {'message' if most == 1 else 'messages'} at most"
        self.body.append(f'<path class="queue" d="{d}H{x}Z"><title>{escape(where)}</title></path>')
        if most > 1:
            at = next(time for time, depth in steps if depth == most)
            self.texts.append(text(x + 4, self.y(at) + 12, "full", f"{most} queued"))

    def _draw_span(self, span: Span) -> None:
        x = self.x[span.thread]
        top, bottom = self.y(span.begin), self.y(span.end)
        said = f"{self.panel.trace.threads[span.thread]}: {_state(span)}"
        said += f", {duration(span.end - span.begin)}"
        self.body.append(
            f'<rect class="bar {span.kind} {escape(span.name)}" x="{x - _BAR / 2}" y="{top:.1f}"'
            f' width="{_BAR}" height="{max(bottom - top, 0.5):.1f}">'
            f"<title>{escape(said)}</title></rect>"
        )
        if bottom - top >= _LINE - 2:
            self.texts.append(text(x + _BAR / 2 + 4, top + 12, span.kind, _label(span)))

    def _draw_flow(self, flow: Flow) -> None:
        start = self.x[flow.sender], self.y(flow.sent)
        end = self.x[flow.receiver], self.y(flow.received)
        through = self.x.get(flow.channel)
        if through is None:
            self._draw_arrow(flow, start, end, flow.received)
        else:
            self._draw_arrow(flow, start, (through, start[1]), flow.sent)
            self._draw_arrow(flow, (through, end[1]), end, flow.received)

    def _draw_arrow(self, flow: Flow, start: Point, end: Point, time: float) -> None:
        right = math.copysign(_BAR / 2, end[0] - start[0])
        start, end = (start[0] + right, start[1]), (end[0] - right, end[1])
        many = time in self.dense
        kind = " many" * many + " close" * (flow.name == "close")
        head = "" if many or time > self.panel.end else f"head{kind}"
        said = f"{_what(flow)}: {duration(flow.received - flow.sent)} on its way"
        drawn = arrow(start, end, f"arrow{kind}", head, size=7)
        self.body.append(f"<g><title>{escape(said)}</title>{drawn}</g>")


def _describe(panel: Panel) -> list[str]:
    names = panel.trace.threads
    told: list[tuple[float, str]] = []
    kinds: defaultdict[tuple[str, str, int], list[Flow]] = defaultdict(list)
    for flow in panel.flows():
        kinds[flow.name, flow.channel, flow.sender].append(flow)
    for flows in kinds.values():
        for group in [[flow] for flow in flows] if len(flows) <= _TOLD else [flows]:
            told.append((group[0].sent, _told(names, group)))
    waits: defaultdict[str, list[Span]] = defaultdict(list)
    for span in panel.spans():
        name = names[span.thread]
        for client in span.args.get("dropped", []):
            told.append(
                (span.begin, f"{name} finds client.send {client} full, and drops {client}.")
            )
        if span.name in ("socket", "close") and name.startswith("writePump"):
            waits[f"{name} {_state(span)}"].append(span)
        if "frame" in span.args:
            told.append((span.begin, f"{name} writes a {span.args['frame']} frame."))
    for said, spans in waits.items():
        for some in [[span] for span in spans] if len(spans) <= _TOLD else [spans]:
            times = f", {len(some)} times" if len(some) > 1 else ""
            whole = duration(sum(span.end - span.begin for span in some))
            told.append((some[0].begin, f"{said}{times}, {whole}."))
    told.sort(key=lambda each: each[0])
    return [f"{duration(max(0.0, time - panel.begin))}: {said}" for time, said in told]


def _told(names: dict[int, str], flows: Sequence[Flow]) -> str:
    first = flows[0]
    sender, receiver = names[first.sender], names[first.receiver]
    times = [flow.received - flow.sent for flow in flows]
    low, high = duration(min(times)), duration(max(times))
    after = f"after {low}" if low == high else f"after {low} to {high}"
    if first.name == "close":
        return f"{sender} closes {first.channel}; {receiver} comes to the end of it {after}."
    what = f"{_what(*flows)} to" if first.message else "to"
    them = "it" if len(flows) == 1 else "them"
    return f"{sender} sends {what} {first.channel}; {receiver} takes {them} {after}."


def duration(microseconds: float) -> str:
    """Return a duration with its unit. From 1 ms on, the number has at least two digits."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            value = microseconds / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    if 0 < microseconds < 1:
        return f"{microseconds * 1e3:.0f} ns"
    return f"{microseconds:.0f} µs"


def _clock(begin: float, end: float) -> tuple[Callable[[float], str], str]:
    """Return a function that formats a time since the panel's beginning, and the time's unit."""
    long = end - begin
    if long < 1e3:
        unit, size, digits = "µs", 1.0, 0
    elif long < 1e8:
        unit, size, digits = "ms", 1e3, 2 if long < 1e5 else 1 if long < 1e6 else 0
    else:
        unit, size, digits = "s", 1e6, 1
    return lambda time: f"{(time - begin) / size:.{digits}f}", unit


def _numbers(numbers: Sequence[int]) -> str:
    first, last = numbers[0], numbers[-1]
    return f"{first}" if first == last else f"{first}–{last}"


def _what(*flows: Flow) -> str:
    numbers = [flow.message for flow in flows if flow.message is not None]
    if numbers:
        return f"{'message' if len(numbers) == 1 else 'messages'} {_numbers(numbers)}"
    return flows[0].name


def _label(span: Span) -> str:
    args = span.args
    if args.get("messages"):
        return f"write {_numbers(args['messages'])}"
    if "frame" in args:
        return f"write {args['frame']}"
    if span.name == "broadcast" and "dropped" in args:
        return "drop"
    return f"{span.name} {args['message']}" if "message" in args else span.name


def _state(span: Span) -> str:
    if span.kind == RUN:
        return f"runs, {_label(span)}"
    return {
        "recv": "waits for a value",
        "send": "waits until its value is taken",
        "turn": "waits for its turn",
        "socket": "waits for the socket",
        "close": "waits for the end of the connection",
    }.get(span.name, f"waits: {span.name}")


def _wrapped(text: str, width: float, character: float) -> list[str]:
    return textwrap.wrap(text, int((width - 16) / character))


# The elements of every picture, including the pictures of the lesson.


def text(x: float, y: float, kind: str, content: str, anchor: str = "start") -> str:
    """Return a text element. kind: its class, or "". anchor: which part of the text is at x."""
    head = f'<text class="{kind}"' if kind else "<text"
    place = f'x="{round(x, 1)}" y="{round(y, 1)}" text-anchor="{anchor}"'
    return f"{head} {place}>{escape(content, quote=False)}</text>"


def arrow(start: Point, tip: Point, line: str, head: str, *, size: int, short: int = 0) -> str:
    """Return an arrow. line: the class of its line. head: the class of its head; "" for no head.

    size: the length of the head. short: the gap between the line's end and the tip.
    """
    (x1, y1), (x2, y2) = ((x, round(y, 1)) for x, y in (start, tip))
    way = 1 if x2 > x1 else -1
    drawn = f'<path class="{line}" d="M{x1} {y1}L{x2 - way * short} {y2}"/>'
    return drawn + f'<path class="{head}" d="M{x2} {y2}l{-way * size} -4v8z"/>' * bool(head)


def document(
    title: str, words: Iterable[str], style: str, size: tuple[int, int], body: Iterable[str]
) -> str:
    """Return an SVG document. words: the lines of its description. body: its elements."""
    width, height = size
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            f' width="{width}" height="{height}" role="img" aria-labelledby="title desc">',
            f'<title id="title">{escape(title, quote=False)}</title>',
            f'<desc id="desc">{escape(chr(10).join(words), quote=False)}</desc>',
            f"<style>{style}</style>",
            *body,
            "</svg>\n",
        ]
    )

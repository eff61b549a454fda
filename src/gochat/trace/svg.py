"""Draws a trace: each thread and each client's channel is a vertical line, and time runs downward.

A bar on a thread's line is filled while the thread runs, and hollow while it waits. A bar on a
channel's line shows the number of queued messages by its width. An arrow leads from the thread that
sends a value to the thread that receives it, through the channel if the channel has a line.

Time is not to scale, because a message may pass through the hub in a ten-thousandth of the time
between two messages. Every step is tall enough for its label, and long steps are a little taller.
The middle of a long repetition is compressed.

If a panel has no times, only the order of events matters, as in the pictures of the lesson. An
arrow is red if it leads from the close of a channel to the thread that comes to its end. An arrow
is dashed if it carries nothing at all, such as the start of a thread.

The module writes SVG without a library. So the picture's text can be searched, its colors follow
light and dark mode, and it contains a description in words. The same trace always produces the same
picture.
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
from itertools import accumulate, chain, pairwise, zip_longest
from typing import Final

from .chrome import Flow, Span, Trace
from .recorder import RUN

__all__ = ["Lane", "Panel", "draw", "duration", "lanes"]

# A position in a picture: x and y, in pixels.
_Point = tuple[float, float]

# The minimum width of a picture, in pixels: that of a small phone, with room for four lanes.
_WIDTH: Final = 360
_GUTTER: Final = 36
_LANE: Final = 60
_BAR: Final = 10
_LINE: Final = 16
# The width of a full queue.
_FULL: Final = 51
# The widths of a label's and a name's characters.
_LABEL: Final = 6.6
_NAME: Final = 7.2
# If there are times, this many characters of a label have room in their lane.
_CUT: Final = 10
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
svg { --back: #fff; --text: #1a1a1a; --faint: #6b6b6b; --line: #c8c8c8; --run: #0072b2;
  --wait: #8a8a8a; --send: #b34700; --queue: #9fd3ee; --arrow: #1a1a1a; --end: #b3003c }
@media (prefers-color-scheme: dark) {
  svg { --back: #16181c; --text: #ececec; --faint: #a3a3a3; --line: #4a4d52; --run: #56b4e9;
    --wait: #9a9a9a; --send: #ff9d57; --queue: #1d5a7d; --arrow: #ececec; --end: #ff7a9c } }
text { font: 12px system-ui, sans-serif; fill: var(--text); paint-order: stroke;
  stroke: var(--back); stroke-width: 3px; stroke-linejoin: round }
.title { font-weight: 700; font-size: 14px } .name { font-weight: 700; font-size: 11px }
.time { fill: var(--faint); font-size: 11px } .wait { font-style: italic }
.back { fill: var(--back) } .life { stroke: var(--line) } .channel { stroke-dasharray: 2 3 }
.bar { stroke: var(--run); fill: var(--run) } .arrow.many { stroke-width: 0.4 }
.bar.wait { stroke: var(--wait); fill: var(--back) } .bar.send { stroke: var(--send) }
.run.step { stroke: var(--back) } .queue { fill: var(--queue) }
.arrow { stroke: var(--arrow); fill: none } .head { fill: var(--arrow) }
.arrow.close { stroke: var(--end) } .head.close { fill: var(--end) }
.arrow.cause { stroke: var(--wait); stroke-dasharray: 4 3 } .head.cause { fill: var(--wait) }
"""


@dataclass(frozen=True)
class Lane:
    """A line of the picture, for a thread or a channel."""

    name: str
    #: The thread's number; None for a channel.
    thread: int | None


@dataclass(frozen=True)
class Panel:
    """One part of a picture. begin, end: the part of the trace that it shows, in microseconds.

    told: what happens, in words, if only the order of events matters. Then there is no time axis,
    and the first lane's labels take its place. A state's name is its label, and its arguments are
    in the picture as `data-` attributes. A flow named `cause` carries nothing.
    """

    title: str
    trace: Trace
    lanes: Sequence[Lane]
    begin: float
    end: float
    told: Sequence[str] = ()

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
            raise ValueError(f"{states} states are too many to draw: use --only, --from and --to")
    room = max(9, int(_WIDTH / (1 + max(len(panel.lanes) for panel in panels)) / _LABEL) - 3)
    gutter, *wide = map(max, zip_longest(*(_columns(p, room) for p in panels), fillvalue=0.0))
    spare = max(0, _WIDTH - gutter - sum(wide)) / len(wide)
    left = [round(x) for x in accumulate((x + spare for x in wide), initial=gutter + 8)]
    width = left.pop() - 8
    body: list[str] = []
    y = 0.0
    for panel in panels:
        for line in textwrap.wrap(panel.title, int((width - 16) / 8.6)):
            y += 20
            body.append(_text(8, y, "title", line))
        y = _Drawing(panel, left, room, body).draw(y)
    body.append(_text(8, y + _LINE, "time", "Filled: runs. Hollow: waits. Time is not to scale."))
    height = math.ceil(y + _LINE + 10)
    body.insert(0, f'<rect class="back" width="{width}" height="{height}"/>')
    told = ((panel.title and f"{panel.title}:", *_told(panel)) for panel in panels)
    return _document(title, filter(None, chain(*told)), (width, height), body)


def _columns(panel: Panel, room: int) -> list[float]:
    """Return the widths of the space to the left of the lanes, and of each lane.

    If there are times, a long label may reach into the next lane.
    """
    longest: defaultdict[int | None, int] = defaultdict(int)
    for span in panel.spans():
        lines = _folded(_label(span), room) if panel.told else [_label(span)[:_CUT]]
        longest[span.thread] = max(longest[span.thread], *map(len, lines))
    gutter = longest.pop(panel.lanes[0].thread, 0) * _LABEL + 12 if panel.told else _GUTTER
    sizes = [(max(map(len, lane.name.split(" ", 1))), longest[lane.thread]) for lane in panel.lanes]
    return [gutter, *(max(_LANE, name * _NAME + 9, label * _LABEL + 17) for name, label in sizes)]


class _Drawing:
    def __init__(self, panel: Panel, left: Sequence[int], room: int, body: list[str]) -> None:
        self.panel, self.room, self.body = panel, room, body
        # The x coordinate of each lane's middle, by thread number or channel name.
        names = (lane.name if lane.thread is None else lane.thread for lane in panel.lanes)
        self.x = dict(zip(names, left, strict=False))
        # All times at which something happens, their y offsets, and the times in compressed parts.
        self.times, self.heights, self.dense = self._rows()
        self.texts: list[str] = []

    def _rows(self) -> tuple[list[float], list[float], set[float]]:
        """Return the times at which something happens, their offsets, and the compressed times."""
        panel = self.panel
        # A time is compressed if everything that happens then is in the middle of a repetition.
        dense: dict[float, bool] = {panel.begin: False, panel.end: False}
        kinds: defaultdict[tuple[object, ...], list[tuple[float, ...]]] = defaultdict(list)
        for span in panel.spans():
            kinds[span.thread, span.name, "dropped" in span.args].append((span.begin, span.end))
        for flow in panel.flows():
            kinds[flow.channel, flow.name].append((flow.sent, flow.received))
        for happened in kinds.values():
            for i, both in enumerate(happened):
                middle = not panel.told and _SHOWN <= i < len(happened) - _SHOWN
                for time in both:
                    if panel.begin < time < panel.end:
                        dense[time] = dense.get(time, True) and middle
        times = sorted(dense)
        steps = list(pairwise(times))
        pressed = [dense[begin] or dense[end] for begin, end in steps]
        full = [0 if e - b < 0.1 else _LINE + 4 * math.log10(1 + e - b) for b, e in steps]
        small = sum(room for room, press in zip(full, pressed, strict=True) if press)
        large = sum(full) - small
        factors = min(1, _SPARSE / (large or 1)), min(1, _DENSE / (small or 1))
        rooms = (room * factors[press] for room, press in zip(full, pressed, strict=True))
        heights = list(accumulate(rooms, initial=0.0))
        return times, heights, {time for time, middle in dense.items() if middle}

    def y(self, time: float) -> float:
        i = bisect_right(self.times, time) - 1
        return self.top + self.heights[max(0, i)]

    def draw(self, y: float) -> float:
        self.top = y + 50
        bottom = self.top + self.heights[-1]
        for lane, x in zip(self.panel.lanes, self.x.values(), strict=True):
            for i, word in enumerate(lane.name.split(" ", 1)):
                self.body.append(_text(x - _BAR / 2, y + 24 + i * 14, "name", word))
            kind = "life channel" if lane.thread is None else "life"
            self.body.append(f'<path class="{kind}" d="M{x} {self.top - 6:.1f}V{bottom + 6:.1f}"/>')
            if lane.thread is None:
                self._draw_queue(lane.name, x)
        if not self.panel.told:
            self._draw_times()
        for span in self.panel.spans():
            self._draw_span(span)
        for flow in self.panel.flows():
            self._draw_flow(flow)
        self.body += self.texts
        return bottom + 16

    def _draw_times(self) -> None:
        clock, unit = _clock(self.panel.begin, self.panel.end)
        self.texts.append(_text(4, self.top - 26, "time", unit))
        last, said = -math.inf, ""
        for time, height in zip(self.times, self.heights, strict=True):
            if height - last >= _LINE - 1 and clock(time) != said:
                last, said = height, clock(time)
                self.texts.append(_text(4, self.top + height + 4, "time", said))

    def _draw_queue(self, channel: str, x: float) -> None:
        steps = self.panel.depths(channel)
        most = max(depth for _, depth in steps)
        d = f"M{x} {self.top:.1f}"
        for (time, depth), (until, _) in zip(steps, [*steps[1:], (self.panel.end, 0)], strict=True):
            wide = max(6, _FULL * depth / max(most, 8)) if depth else 0
            d += f"V{self.y(time):.1f}H{x + wide:.1f}V{self.y(until):.1f}"
        where = f"{channel}: {most} {'message' if most == 1 else 'messages'} at most"
        self._add(f'<path class="queue" d="{d}H{x}Z"/>', where)
        if most > 1:
            at = next(time for time, depth in steps if depth == most)
            self.texts.append(_text(x + 4, self.y(at) + 12, "full", f"{most} queued"))

    def _draw_span(self, span: Span) -> None:
        x, told = self.x[span.thread], self.panel.told
        top, bottom = self.y(span.begin), self.y(span.end)
        data = (f' data-{key}="{escape(str(said))}"' for key, said in span.args.items() if told)
        self._add(
            f'<rect class="bar {span.kind} {"step" if told else escape(span.name)}"'
            f' x="{x - _BAR / 2}" y="{top:.1f}" width="{_BAR}"'
            f' height="{max(bottom - top, 0.5):.1f}"{"".join(data)}/>',
            f"{self.panel.trace.threads[span.thread]}: {_state(span)},"
            f" {duration(span.end - span.begin)}",
        )
        outside = told and x == min(self.x.values())
        # How many lines of text fit.
        rows = int(bottom - top + 3) // _LINE
        label = _label(span)
        lines = _folded(label, self.room) if told and rows > 1 else [label][:rows]
        for i, line in enumerate(filter(None, lines)):
            place = x + (-9 if outside else 9), top + 12 + 13 * i
            self.texts.append(_text(*place, span.kind, line, "end" if outside else "start"))

    def _draw_flow(self, flow: Flow) -> None:
        x1, y1 = self.x[flow.sender], self.y(flow.sent)
        x2, y2 = self.x[flow.receiver], self.y(flow.received)
        parts = [(x1, y1, x2, flow.received)]
        if through := self.x.get(flow.channel):
            parts = [(x1, y1, through, flow.sent), (through, y2, x2, flow.received)]
        for start, y, end, time in parts:
            side = math.copysign(_BAR / 2, end - start)
            many = time in self.dense
            kind = " many" * many + f" {flow.name}" * (flow.name in ("cause", "close"))
            head = "" if many or time > self.panel.end else f"head{kind}"
            ends = (start + side, y), (end - side, self.y(time))
            said = f"{_what(flow)}: {duration(flow.received - flow.sent)} on its way"
            self._add(_arrow(*ends, f"arrow{kind}", head), said)

    def _add(self, drawn: str, said: str) -> None:
        """Add an element. said: what it shows, and for how long."""
        if not self.panel.told:
            drawn = f"<g><title>{escape(said)}</title>{drawn}</g>"
        self.body.append(drawn)


def _told(panel: Panel) -> Sequence[str]:
    """Return a sentence for each thing that happens."""
    if panel.told:
        return panel.told
    names = panel.trace.threads
    told: list[tuple[float, str]] = []
    kinds: defaultdict[tuple[str, str, int], list[Flow]] = defaultdict(list)
    for flow in panel.flows():
        kinds[flow.name, flow.channel, flow.sender].append(flow)
    for flows in kinds.values():
        for group in [[flow] for flow in flows] if len(flows) <= _TOLD else [flows]:
            told.append((group[0].sent, _sent(names, group)))
    waits: defaultdict[str, list[Span]] = defaultdict(list)
    for span in panel.spans():
        name = names[span.thread]
        for client in span.args.get("dropped", []):
            said = f"{name} finds client.send {client} full, and drops {client}."
            told.append((span.begin, said))
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


def _sent(names: dict[int, str], flows: Sequence[Flow]) -> str:
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
    units = (1e3, "µs", 1.0, 0), (1e5, "ms", 1e3, 2), (1e6, "ms", 1e3, 1), (1e8, "ms", 1e3, 0)
    _, unit, size, digits = next((u for u in units if end - begin < u[0]), (0, "s", 1e6, 1))
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


def _folded(label: str, room: int) -> list[str]:
    """Return the lines of a label: two if it has more characters than `room`, and a space."""
    if len(label) <= room:
        return [label]
    folds = ([label[:i], label[i + 1 :]] for i, each in enumerate(label) if each == " ")
    return min(folds, key=lambda lines: max(map(len, lines)), default=[label])


# The elements of every picture.


def _text(x: float, y: float, kind: str, content: str, anchor: str = "start") -> str:
    """Return a text element. kind: its class. anchor: which part of the text is at x."""
    place = f'x="{round(x, 1)}" y="{round(y, 1)}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(content, quote=False)}</text>'


def _arrow(start: _Point, tip: _Point, line: str, head: str) -> str:
    """Return an arrow. line: the class of its line. head: the class of its head; "" for no head."""
    (x1, y1), (x2, y2) = ((x, round(y, 1)) for x, y in (start, tip))
    back = -7 if x2 > x1 else 7
    drawn = f'<path class="{line}" d="M{x1} {y1}L{x2} {y2}"/>'
    return drawn + f'<path class="{head}" d="M{x2} {y2}l{back} -4v8z"/>' * bool(head)


def _document(title: str, words: Iterable[str], size: tuple[int, int], body: Iterable[str]) -> str:
    """Return an SVG document. words: the lines of its description. body: its elements."""
    width, height = size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-labelledby="title desc">\n'
        f'<title id="title">{escape(title, quote=False)}</title>\n'
        f'<desc id="desc">{escape(chr(10).join(words), quote=False)}</desc>\n'
        f"<style>{_STYLE}</style>\n{chr(10).join(body)}\n</svg>\n"
    )

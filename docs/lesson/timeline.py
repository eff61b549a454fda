"""Draws what threads did. Time flows downward, and each line is a thread.

The vertical order shows cause and effect, as in Go's memory model (https://go.dev/ref/mem), rather
than the time by the clock: the steps of a thread follow each other, and a value is received after
it was sent. So if two runs do the same things, their pictures are equal, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from html import escape
from itertools import pairwise

from gochat.trace import svg

__all__ = ["Arrow", "Step", "draw"]

# All sizes are in pixels.
TOP = 44
ROW = 26
MARGIN = 30
GAP = 62
CHARACTER = 6.6

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; paint-order: stroke; stroke: #ffffff;
       stroke-width: 4px; stroke-linejoin: round; }
.thread { font-weight: 600; text-anchor: middle; }
.value { fill: #0969da; }
.cause { fill: #57606a; }
.page { fill: #ffffff; }
.runs { stroke: #1f2328; stroke-width: 3; }
.cut { stroke: #1f2328; stroke-width: 1.5; fill: none; }
.waits { stroke: #8c959f; stroke-width: 2; stroke-dasharray: 2 4; }
.value-line { stroke: #0969da; stroke-width: 2; fill: none; }
.start-line { stroke: #8c959f; stroke-width: 1.5; fill: none; }
.step { fill: #1f2328; }
.tip { fill: #0969da; }
.start-tip { fill: #8c959f; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; stroke: #131416; }
  .value { fill: #58a6ff; }
  .cause { fill: #8b949e; }
  .page { fill: #131416; }
  .runs, .cut { stroke: #e6edf3; }
  .waits, .start-line { stroke: #7d8590; }
  .value-line { stroke: #58a6ff; }
  .step { fill: #e6edf3; }
  .tip { fill: #58a6ff; }
  .start-tip { fill: #7d8590; }
}
"""


@dataclass(frozen=True)
class Step:
    """An action of a thread, at a single moment.

    sentence: the action in words. note: the text next to the step in the picture, if any. line: the
    source line, as PATH:NUMBER; empty if unknown.
    """

    thread: str
    sentence: str
    note: str = ""
    line: str = ""


@dataclass(frozen=True)
class Arrow:
    """An arrow from a step to another step that it caused. tail, tip: the numbers of the two steps.

    label: the text at the arrow. level: whether both steps happen at the same moment, as on an
    unbuffered channel. plain: whether the arrow carries no value, such as the start of a thread.
    hidden: whether the arrow only affects the order, and is not drawn.
    """

    tail: int
    tip: int
    label: str = ""
    level: bool = False
    plain: bool = False
    hidden: bool = False


def draw(title: str, steps: Sequence[Step], arrows: Sequence[Arrow], *, cut: bool = False) -> str:
    """Return the steps as an SVG. The steps of each thread must be in order.

    title: the title of the picture. The SVG also contains the sentences of all steps, for readers
    who cannot see it. cut: whether the threads continue beyond the picture, so that their lines end
    with a zigzag instead of a bar. Raises ValueError if the arrows form a cycle.

    Thread: any.
    """
    rows, times = _rows(steps, arrows)
    receivers = {arrow.tip for arrow in arrows if arrow.level}
    in_order = sorted(range(len(steps)), key=lambda number: (rows[number], number in receivers))
    said = [number for number in in_order if steps[number].sentence]
    told = [steps[number].sentence for number in said]
    threads = list(dict.fromkeys(step.thread for step in steps))
    left, width = _columns(threads, steps, arrows)
    outer = _outer(threads)
    depth = [TOP + ROW * (row + 1) for row in rows]
    height = max(depth) + ROW
    at = [(left[step.thread], y) for step, y in zip(steps, depth, strict=True)]

    body = [f'<rect class="page" width="{width}" height="{height}" rx="6"/>']
    size = 12 if len(threads) < 6 else 9
    texts = [_thread_name(name, left[name], size) for name in threads]
    for name in threads:
        own = [number for number, step in enumerate(steps) if step.thread == name]
        x, above = left[name], depth[own[0]]
        if name == threads[0]:  # other lines begin where their threads start
            body.append(f'<path class="runs" d="M{x} {TOP}V{above}"/>')
        for before, number in pairwise(own):
            kind = "waits" if _waits(before, number, arrows, times) else "runs"
            body.append(f'<path class="{kind}" d="M{x} {depth[before]}V{depth[number]}"/>')
        for number in own:
            data = ""
            if place := steps[number].line:  # for the Step button of the site
                data = f' data-step="{said.index(number)}" data-line="{escape(place)}"'
            body.append(f'<circle class="step" cx="{x}" cy="{depth[number]}" r="3.5"{data}/>')
        end = depth[own[-1]]
        if cut:
            body.append(f'<path class="cut" d="M{x} {end}v6l5 3l-10 4l10 4l-5 3"/>')
        else:
            body.append(f'<path class="runs" d="M{x - 6} {end + 6}h12"/>')
    for arrow in sorted(arrows, key=lambda arrow: (arrow.tip, arrow.tail)):
        if not arrow.hidden:
            tail, tip = at[arrow.tail], at[arrow.tip]
            line, head = ("start-line", "start-tip") if arrow.plain else ("value-line", "tip")
            beside = tip[0] + (-5 if tip[0] > tail[0] else 5), tip[1]
            body.append(svg.arrow(tail, beside, line, head, size=9, short=6))
            if arrow.label:
                side = outer.get(steps[arrow.tip].thread, 0)
                texts.append(_label(tail, tip, arrow, side, width))
    for number, step in enumerate(steps):
        if step.note:
            x, y = at[number]
            room = width - x - 10 - len(step.note) * CHARACTER
            side = outer.get(step.thread) or (1 if room > 0 else -1)
            texts.append(_beside(x + side * 10, y + 4, "", step.note, side))
    return svg.document(title, ["", *told, ""], STYLE, (width, height), [*body, *texts])


def _rows(steps: Sequence[Step], arrows: Sequence[Arrow]) -> tuple[list[int], list[int]]:
    """Return each step's row and logical time.

    A step's logical time is one more than that of its latest cause, or 1 if it has no cause.
    """
    moment = list(range(len(steps)))  # for each step, the first step at the same moment
    for arrow in arrows:
        if arrow.level:
            low, high = sorted((moment[arrow.tail], moment[arrow.tip]))
            moment = [low if each == high else each for each in moment]
    causes: dict[int, set[int]] = {each: set() for each in moment}
    last: dict[str, int] = {}
    for number, step in enumerate(steps):
        if step.thread in last:
            causes[moment[number]].add(moment[last[step.thread]])
        last[step.thread] = number
    for arrow in arrows:
        if not arrow.level:
            causes[moment[arrow.tip]].add(moment[arrow.tail])

    columns = {name: i for i, name in enumerate(last)}
    place: dict[int, int] = {}
    for first, step in zip(moment, steps, strict=True):
        place[first] = min(place.get(first, len(columns)), columns[step.thread])
    time: dict[int, int] = {}
    for each in TopologicalSorter(causes).static_order():
        time[each] = 1 + max((time[cause] for cause in causes[each]), default=0)
    in_order = sorted(causes, key=lambda each: (time[each], place[each]))
    row = {each: i for i, each in enumerate(in_order)}
    return [row[each] for each in moment], [time[each] for each in moment]


def _waits(before: int, number: int, arrows: Sequence[Arrow], times: list[int]) -> bool:
    """Return whether a thread had to wait for another thread after its previous step."""
    for arrow in arrows:
        if arrow.level and number in (arrow.tail, arrow.tip):
            return times[number] > times[before] + 1
        if arrow.tip == number and times[arrow.tail] >= times[before]:
            return True
    return False


def _thread_name(name: str, x: int, size: int) -> str:
    lines = name.split(" ")
    spans = "".join(
        f'<tspan x="{x}" y="{18 + 14 * i}">{escape(line)}</tspan>' for i, line in enumerate(lines)
    )
    return f'<text class="thread" style="font-size: {size}px">{spans}</text>'


def _outer(threads: Sequence[str]) -> dict[str, int]:
    """Return the side on which each thread's texts are: -1 for the left, 1 for the right.

    If there are two threads, the texts are on the side without arrows. Otherwise, the result is
    empty.
    """
    return dict(zip(threads, (-1, 1), strict=True)) if len(threads) == 2 else {}


def _columns(
    threads: Sequence[str], steps: Sequence[Step], arrows: Sequence[Arrow]
) -> tuple[dict[str, int], int]:
    """Return the x of each thread's line and the width of the picture, with room for all texts."""
    outer = _outer(threads)
    size = CHARACTER * 1.15 if len(threads) < 6 else 0  # for the threads' names, which are bold
    margins = {side: max(MARGIN, len(threads[-(side > 0)]) * size / 2 + 6) for side in (-1, 1)}
    gaps = [max(GAP, (len(a) + len(b)) * size / 2 + 18) for a, b in pairwise(threads)]
    for step in steps:
        if side := outer.get(step.thread):
            margins[side] = max(margins[side], _long(step.note))
    for arrow in arrows:
        tail, tip = (threads.index(steps[number].thread) for number in (arrow.tail, arrow.tip))
        side = outer.get(threads[tip], 0)
        if side and not arrow.level:
            margins[side] = max(margins[side], _long(arrow.label))
        elif not arrow.hidden and len(threads) < 6 and abs(tail - tip) == 1:
            between = min(tail, tip)
            gaps[between] = max(gaps[between], _long(arrow.label))
    rest = max(0, svg.WIDTH - sum(margins.values()) - sum(gaps))
    spare = rest / (len(gaps) if outer else len(gaps) + 1)
    edge = 0 if outer else spare / 2
    x = margins[-1] + edge
    left = {threads[0]: round(x)}
    for name, gap in zip(threads[1:], gaps, strict=True):
        x += gap + spare
        left[name] = round(x)
    return left, round(x + margins[1] + edge)


def _long(text: str) -> float:
    """Return the width of a label, including some space around it."""
    return len(text) * CHARACTER + 22


def _label(tail: tuple[int, int], tip: tuple[int, int], arrow: Arrow, side: int, width: int) -> str:
    """Return an arrow's text as SVG: above a level arrow, otherwise at the tip."""
    (x1, y1), (x2, y2) = tail, tip
    kind = "cause" if arrow.plain else "value"
    if y1 == y2:
        half = len(arrow.label) * CHARACTER / 2
        x = round(min(max((x1 + x2) / 2, half + 4), width - half - 4))
        return svg.text(x, y2 - 5, kind, arrow.label, "middle")
    if side:
        return _beside(x2 + side * 10, y2 + 4, kind, arrow.label, side)
    side = 1 if x2 < x1 else -1
    return _beside(x2 + side * 16, y2 - 3, kind, arrow.label, side)


def _beside(x: int, y: int, kind: str, text: str, side: int) -> str:
    """Return a text, as SVG, that begins at this point or, if `side` is -1, ends there."""
    return svg.text(x, y, kind, text, "start" if side > 0 else "end")

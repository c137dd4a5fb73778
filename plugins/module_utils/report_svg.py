# Copyright (c) 2026 lifeboat.agents contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plots as inline SVG: they need no script and no network, follow the page's colours, and say in
words what they show. Verdicts differ by shape as well as by colour."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from .verdict import COULD_NOT_RUN, NOT_PROVEN, PROVEN, duration_text

WIDTH: Final = 560
HEIGHT: Final = 230
SPARK_POINTS: Final = 12
LEFT, RIGHT, TOP, BOTTOM = 72, 10, 22, 36
STEPS: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10800, 21600, 43200),
    *(86400, 172800, 604800, 1209600, 2592000),
)


@dataclass(frozen=True)
class Point:
    time: datetime.datetime
    value: float | None
    result: str
    label: str


@dataclass(frozen=True)
class Scale:
    """From times and seconds to places on the plot."""

    first: float
    last: float
    top: float

    def x(self, moment: datetime.datetime) -> float:
        span = self.last - self.first
        share = 0.5 if span <= 0 else (moment.timestamp() - self.first) / span
        inner = WIDTH - LEFT - RIGHT - 24
        return LEFT + 12 + share * inner

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value / self.top) * (HEIGHT - TOP - BOTTOM)


def nice_step(top: float, lines: int = 4) -> float:
    """The smallest usual step of time that needs no more lines than these."""
    return next((step for step in STEPS if top / step <= lines), math.ceil(top / lines))


def time_plot(identifier: str, title: str, points: Sequence[Point], target: float | None) -> str:
    """A measure over time against its target."""
    values = [point.value for point in points if point.value is not None]
    highest = max([*values, target or 0.0, 1.0]) * 1.12
    step = nice_step(highest)
    times = [point.time.timestamp() for point in points] or [0.0]
    scale = Scale(min(times), max(times), max(highest, step))
    body = [
        *_grid(scale, step),
        *_dates(scale, points),
        *_target(scale, target),
        *_line(scale, points),
        *_marks(scale, points),
    ]
    return _svg(identifier, title, describe(points, target), body)


def _svg(identifier: str, title: str, description: str, body: Sequence[str]) -> str:
    head = (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="{identifier}-title {identifier}-text">'
        f'<title id="{identifier}-title">{escape(title)}</title>'
        f'<desc id="{identifier}-text">{escape(description)}</desc>'
    )
    return head + "".join(body) + "</svg>"


def describe(points: Sequence[Point], target: float | None) -> str:
    """The plot in a sentence, for those who hear it."""
    known = [point for point in points if point.value is not None]
    if not known:
        return "No drill has measured this yet."
    values = [point.value or 0.0 for point in known]
    text = (
        f"{len(known)} measured drills from {known[0].time:%Y-%m-%d} to {known[-1].time:%Y-%m-%d}: "
        f"lowest {duration_text(min(values))}, highest {duration_text(max(values))}, "
        f"latest {duration_text(values[-1])}."
    )
    if target is not None:
        over = sum(value > target for value in values)
        text += f" Target {duration_text(target)}, missed {over} times."
    return text


def _grid(scale: Scale, step: float) -> Iterator[str]:
    value = 0.0
    while value <= scale.top:
        y = scale.y(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        label = "0" if value == 0 else tick_text(value)
        yield f'<text class="tick" x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        value += step


def tick_text(value: float) -> str:
    """A short label for an axis."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= unit and value % unit == 0:
            return f"{value / unit:.0f} {name}"
    return duration_text(value) if value % 1 or value >= 60 else f"{value:.0f} s"


def _dates(scale: Scale, points: Sequence[Point]) -> Iterator[str]:
    """As many dates as fit without touching one another, the last one always."""
    taken = 2.0 * WIDTH
    labels: list[str] = []
    same_day = len({point.time.date() for point in points}) == 1
    form = "%H:%M" if same_day and len(points) > 1 else "%Y-%m-%d"
    for point in reversed(points):
        x, anchor = scale.x(point.time), "middle"
        if x > WIDTH - RIGHT - 50:
            x, anchor = float(WIDTH - RIGHT), "end"
        middle = x if anchor == "middle" else x - 52
        if taken - middle < 124:
            continue
        taken = middle
        labels.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 11}" text-anchor="{anchor}">'
            f"{point.time.strftime(form)}</text>"
        )
    yield from reversed(labels)


def _target(scale: Scale, target: float | None) -> Iterator[str]:
    if target is None:
        return
    y = scale.y(target)
    yield f'<line class="target" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    yield (
        f'<text class="target-text" x="{WIDTH - RIGHT}" y="{y - 7:.1f}" text-anchor="end">'
        f"target {duration_text(target)}</text>"
    )


def _line(scale: Scale, points: Sequence[Point]) -> Iterator[str]:
    places = [
        f"{scale.x(point.time):.1f},{scale.y(point.value):.1f}"
        for point in points
        if point.value is not None
    ]
    if len(places) > 1:
        yield f'<polyline class="line" points="{" ".join(places)}"/>'


def _marks(scale: Scale, points: Sequence[Point]) -> Iterator[str]:
    for point in points:
        y = scale.y(0.0 if point.value is None else point.value)
        yield mark(scale.x(point.time), y, point.result, point.label)


def mark(x: float, y: float, result: str, label: str, size: float = 6) -> str:
    """A disc is proven, a diamond with a cross is not, a ring could not run."""
    title = f"<title>{escape(label)}</title>"
    if result == PROVEN:
        shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size - 0.5}"/>'
    elif result == NOT_PROVEN:
        s = size - 1
        shape = (
            f'<path d="M{x - s:.1f} {y - s:.1f}L{x + s:.1f} {y + s:.1f}'
            f'M{x - s:.1f} {y + s:.1f}L{x + s:.1f} {y - s:.1f}"/>'
        )
    else:
        shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size - 1.5}"/>'
    return f'<g class="mark {css_class(result)}">{title}{shape}</g>'


def css_class(result: str) -> str:
    return {PROVEN: "good", NOT_PROVEN: "bad", COULD_NOT_RUN: "none"}.get(result, "none")


def phase_bar(identifier: str, phases: Sequence[tuple[str, float]], target: float | None) -> str:
    """One bar, a stretch per phase; the tick marks the target when it is in reach of the bar."""
    total = sum(value for _name, value in phases)
    shows_target = target is not None and total * 0.2 <= target <= total * 4
    span = max(total, target or 0.0) if shows_target else total
    span = span or 1.0
    width, height = 720, 46
    text = ", ".join(f"{name} {duration_text(value)}" for name, value in phases)
    body = [
        f'<svg class="plot bar" viewBox="0 0 {width} {height}" role="img" '
        f'aria-labelledby="{identifier}-title {identifier}-text">',
        f'<title id="{identifier}-title">Recovery time by phase</title>',
        f'<desc id="{identifier}-text">{escape(text)}; {duration_text(total)} in all.</desc>',
        f'<rect class="rail" x="0" y="8" width="{width}" height="28" rx="6"/>',
    ]
    x = 0.0
    for number, (name, value) in enumerate(phases):
        length = value / span * width
        body.append(
            f'<rect class="phase p{number % 6}" x="{x:.2f}" y="8" width="{max(length, 1):.2f}" '
            f'height="28"><title>{escape(name)}: {duration_text(value)}</title></rect>'
        )
        x += length
    if shows_target and target is not None:
        place = min(target / span * width, width - 2)
        body.append(f'<line class="target" x1="{place:.1f}" x2="{place:.1f}" y1="0" y2="46"/>')
    return "".join([*body, "</svg>"])


def spark(points: Sequence[Point], label: str) -> str:
    """The last drills as a row of marks and a line, for a table cell."""
    shown = points[-SPARK_POINTS:]
    if not shown:
        return ""
    width, height = 13 * len(shown) + 8, 30
    top = max([point.value or 0.0 for point in shown] + [1.0])
    places = [
        (7 + 13 * number + 3, 24 - (point.value or 0.0) / top * 18)
        for number, point in enumerate(shown)
    ]
    line = " ".join(
        f"{x:.0f},{y:.1f}" for (x, y), point in zip(places, shown) if point.value is not None
    )
    body = f'<polyline class="line thin" points="{line}"/>' if line else ""
    body += "".join(
        mark(x, y, point.result, point.label, 4) for (x, y), point in zip(places, shown)
    )
    return (
        f'<svg class="spark" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(label)}">{body}</svg>'
    )

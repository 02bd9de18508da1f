"""Drawing a picture as SVG, for one width: swimlanes over one time axis. Pure; colours come from the page's style.

A wide drawing has a gutter of labels on the left; a narrow one, for phones, writes each label above its lane.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

from labctl.drills.model import Judged
from labctl.drills.picture import Bucket, Lane, Picture, Span

_TICKS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_LATENCY_S = (0.001, 10.0)
_NAMES = {
    "ready": "Ready",
    "unready": "not ready",
    "unknown": "Unknown",
    "pending": "pending",
    "ending": "terminating",
    "gone": "deleted",
    "off": "power off",
}


@dataclass(slots=True)
class _Canvas:
    """Collects elements from top to bottom."""

    picture: Picture
    width: int
    gutter: int  # 0: labels above the lanes
    y: float = 0.0
    parts: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)

    @property
    def narrow(self) -> bool:
        return self.gutter == 0

    @property
    def right(self) -> float:
        return self.width - (8.0 if self.narrow else 16.0)

    def x(self, seconds: float) -> float:
        """Where a moment lies, kept inside the drawing."""
        span_s = self.picture.to_s - self.picture.from_s
        left = self.gutter or 8.0
        share = (seconds - self.picture.from_s) / span_s
        return round(left + min(1.0, max(0.0, share)) * (self.right - left), 2)

    def add(self, element: str) -> None:
        self.parts.append(element)

    def text(self, x: float, y: float, words: str, style: str = "", anchor: str = "start") -> None:
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>')

    def bar(self, span: Span, y: float, height: float, title: str, style: str) -> None:
        x = self.x(span.from_s)
        width = max(1.0, self.x(span.to_s) - x)
        self.add(
            f'<rect x="{x}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" class="{style}">'
            f"<title>{escape(title)}</title></rect>"
        )

    def heading(self, words: str) -> None:
        self.y += 26
        self.text(8.0 if self.narrow else 0.0, self.y, words, "head")
        self.y += 8

    def label(self, words: str, detail: str = "") -> None:
        """Name the lane that follows at `y`; leaves `y` at the lane's top."""
        if self.narrow:
            self.text(8.0, self.y + 12, words + (f"  ·  {detail}" if detail else ""), "label")
            self.y += 17
        else:
            self.text(0.0, self.y + 14, words, "label")
            if detail:
                self.text(self.gutter - 12.0, self.y + 14, detail, "detail", "end")


def draw(picture: Picture, width: int) -> str:
    """The drawing, an `svg` element of that width."""
    canvas = _Canvas(picture, width, 0 if width < 600 else 236)
    _phases(canvas)
    canvas.heading("Nodes, as the API sees them")
    for lane in picture.nodes:
        _lane(canvas, lane)
    canvas.heading("Pods of the workload")
    for lane in picture.pods:
        _lane(canvas, lane)
    _endpoints(canvas)
    _requests(canvas)
    _latency(canvas)
    _contract(canvas)
    return _finish(canvas)


def _finish(canvas: _Canvas) -> str:
    picture, bottom = canvas.picture, canvas.y + 12
    marks = []
    for second in _ticks(picture, 5 if canvas.narrow else 12):
        x = canvas.x(second)
        marks.append(f'<line x1="{x}" y1="26" x2="{x}" y2="{bottom:.0f}" class="grid"/>')
        canvas.text(x, bottom + 14, f"{second:g} s", "tick", "middle")
    if picture.heal_s is not None:
        heal = canvas.x(picture.heal_s)
        marks.append(
            f'<rect x="{canvas.x(0)}" y="26" width="{max(0.0, heal - canvas.x(0)):.1f}" height="{bottom - 26:.0f}" '
            'class="during"/>'
        )
    if picture.from_s <= 0 <= picture.to_s:
        marks.append(f'<line x1="{canvas.x(0)}" y1="26" x2="{canvas.x(0)}" y2="{bottom:.0f}" class="zero"/>')
    height = bottom + 22
    return (
        f'<svg viewBox="0 0 {canvas.width} {height:.0f}" width="{canvas.width}" height="{height:.0f}" role="img" '
        f'aria-label="Timeline of the drill: nodes, pods, endpoints, requests and contract over time">'
        f"{''.join(marks)}{''.join(canvas.behind)}{''.join(canvas.parts)}</svg>"
    )


def _ticks(picture: Picture, most: int) -> list[float]:
    span_s = picture.to_s - picture.from_s
    step = next((tick for tick in _TICKS_S if span_s / tick <= most), _TICKS_S[-1])
    first = math.ceil(picture.from_s / step)
    return [float(number * step) for number in range(first, math.floor(picture.to_s / step) + 1)]


def _phases(canvas: _Canvas) -> None:
    for span in canvas.picture.phases:
        seconds = span.to_s - span.from_s
        canvas.bar(span, 4, 18, f"{span.state}: {seconds:.1f} s", f"phase p-{span.state}")
        room = canvas.x(span.to_s) - canvas.x(span.from_s)
        if room > 7.2 * len(span.label):
            canvas.text(canvas.x(span.from_s) + room / 2, 17, span.label, "phase-name", "middle")
    if not canvas.narrow:
        canvas.text(0, 17, "seconds from the fault", "detail")
    canvas.y = 22


def _lane(canvas: _Canvas, lane: Lane) -> None:
    canvas.label(lane.label, lane.detail)
    for span in lane.spans:
        name = _NAMES.get(span.state, span.state)
        words = f"{lane.label}: {name}{f', {span.label}' if span.label else ''}, {_stretch(span)}"
        canvas.bar(span, canvas.y + 1, 18, words, f"bar s-{span.state}")
        inside = f"{name}, {span.label}" if span.label else name
        if canvas.x(span.to_s) - canvas.x(span.from_s) > 7.0 * len(inside) + 8:
            canvas.text(canvas.x(span.from_s) + 6, canvas.y + 14, inside, f"in s-{span.state}")
    canvas.y += 20
    for span in lane.beneath:
        canvas.bar(span, canvas.y + 1, 5, f"{lane.label}: {span.label}, {_stretch(span)}", f"bar s-{span.state}")
    canvas.y += 8 if lane.beneath else 3


def _stretch(span: Span) -> str:
    return f"{span.from_s:.2f} to {span.to_s:.2f} s"


def _endpoints(canvas: _Canvas) -> None:
    canvas.heading("Ready endpoints of the service")
    canvas.label(f"of {canvas.picture.replicas}")
    height = 36.0
    most = max([canvas.picture.replicas, *(int(span.state) for span in canvas.picture.endpoints)])
    base = canvas.y + height
    points: list[tuple[float, float]] = []
    for span in canvas.picture.endpoints:
        top = base - height * int(span.state) / max(1, most)
        points += [(canvas.x(span.from_s), top), (canvas.x(span.to_s), top)]
        room = canvas.x(span.to_s) - canvas.x(span.from_s)
        if room > 14:
            canvas.text(canvas.x(span.from_s) + 4, top + 13 if int(span.state) else top - 3, span.state, "count")
    if points:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        canvas.behind.append(
            f'<polygon points="{points[0][0]:.1f},{base:.1f} {path} {points[-1][0]:.1f},{base:.1f}" class="area"/>'
        )
    canvas.add(f'<line x1="{canvas.x(-1e9)}" y1="{base:.1f}" x2="{canvas.right}" y2="{base:.1f}" class="axis"/>')
    canvas.y = base + 4


def _requests(canvas: _Canvas) -> None:
    groups = canvas.picture.buckets
    width_s = groups[0].to_s - groups[0].from_s if groups else 0
    canvas.heading("Requests")
    failed, sent = sum(one.failed for one in groups), sum(one.failed + one.ok for one in groups)
    canvas.label(f"each bar {width_s:g} s", f"{failed} of {sent} failed")
    height = 52.0
    most = max((one.ok + one.failed for one in groups), default=1) or 1
    base = canvas.y + height
    for one in groups:
        x, room = canvas.x(one.from_s), canvas.x(one.to_s) - canvas.x(one.from_s)
        if not one.ok + one.failed or room <= 0:
            continue
        title = escape(f"{one.from_s:g} to {one.to_s:g} s: {one.ok} answered, {one.failed} failed")
        bad, good = height * one.failed / most, height * one.ok / most
        broad = max(1.0, room - 1)
        for style, top, tall in (("req-ok", base - good, good), ("req-bad", base - good - bad, bad)):
            if tall:
                canvas.add(
                    f'<rect x="{x:.1f}" y="{top:.1f}" width="{broad:.1f}" height="{tall:.1f}" class="{style}">'
                    f"<title>{title}</title></rect>"
                )
    canvas.add(f'<line x1="{canvas.x(-1e9)}" y1="{base:.1f}" x2="{canvas.right}" y2="{base:.1f}" class="axis"/>')
    canvas.y = base + 4


def _latency(canvas: _Canvas) -> None:
    canvas.heading("Latency, log scale" if canvas.narrow else "Latency of the answered, from the intended send")
    canvas.label("median, worst")
    height = 58.0
    low, high = (math.log10(edge) for edge in _LATENCY_S)
    base = canvas.y + height

    def level(seconds: float) -> float:
        share = (math.log10(min(_LATENCY_S[1], max(_LATENCY_S[0], seconds))) - low) / (high - low)
        return base - height * share

    for seconds, words in ((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (1.0, "1 s")):
        y = level(seconds)
        canvas.add(f'<line x1="{canvas.x(-1e9)}" y1="{y:.1f}" x2="{canvas.right}" y2="{y:.1f}" class="hair"/>')
        edge = 40.0 if canvas.narrow else canvas.gutter - 12.0
        canvas.text(edge, y + 4, words, "tick", "end")
    groups = canvas.picture.buckets
    for style, pick in (("worst", _worst), ("median", _median)):
        for run in _runs(groups, pick):
            points = [(canvas.x((one.from_s + one.to_s) / 2), level(seconds)) for one, seconds in run]
            if len(points) == 1:
                canvas.add(f'<circle cx="{points[0][0]}" cy="{points[0][1]:.1f}" r="1.6" class="{style} dot"/>')
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            canvas.add(f'<polyline points="{path}" class="line {style}"/>')
    canvas.y = base + 4


def _worst(one: Bucket) -> float | None:
    return one.worst_s


def _median(one: Bucket) -> float | None:
    return one.median_s


def _runs(groups: Sequence[Bucket], pick: Callable[[Bucket], float | None]) -> list[list[tuple[Bucket, float]]]:
    """Unbroken stretches of buckets that have a figure: a line is not drawn across nothing."""
    runs: list[list[tuple[Bucket, float]]] = [[]]
    for one in groups:
        seconds = pick(one)
        if seconds is None:
            runs.append([])
        else:
            runs[-1].append((one, seconds))
    return [run for run in runs if run]


def _contract(canvas: _Canvas) -> None:
    """For each bound a band of what is allowed, and where the measure fell."""
    drawn = [one for one in canvas.picture.contract if one.upper_s is not None]
    if not drawn or canvas.picture.heal_s is None:
        return
    canvas.heading("The contract" if canvas.narrow else "The contract: what is allowed, what was measured")
    for one in drawn:
        begins_s = (canvas.picture.failures_from_s or 0.0) if one.measure == "error_window_s" else 0.0
        figure = "never" if one.measured_s is None else f"{one.measured_s:.2f} s"
        canvas.label(_short(one), figure)
        _band(canvas, one, begins_s)
        canvas.y += 22


def _band(canvas: _Canvas, one: Judged, begins_s: float) -> None:
    assert one.upper_s is not None
    allowed = Span(begins_s + (one.lower_s or 0.0), begins_s + one.upper_s, "allowed")
    lower = "" if one.lower_s is None else f"{one.lower_s:.2f} to "
    words = f"{one.title}: allowed {lower}{one.upper_s:.2f} s; {one.source}"
    canvas.bar(allowed, canvas.y + 4, 12, words, "allowed")
    if one.measured_s is None:
        return
    x, y = canvas.x(begins_s + one.measured_s), canvas.y + 10
    style = "hit" if one.result == "pass" else "miss"
    start = canvas.x(begins_s)
    canvas.add(f'<line x1="{start}" y1="{y}" x2="{x}" y2="{y}" class="reach {style}"/>')
    canvas.add(
        f'<path d="M{x},{y - 6} l6,6 l-6,6 l-6,-6 z" class="mark {style}">'
        f"<title>{escape(one.title)}: {one.measured_s:.2f} s ({one.result})</title></path>"
    )


_SHORT = {
    "detected_s": "node not Ready",
    "endpoint_removed_s": "endpoints removed",
    "tainted_s": "node tainted",
    "evicted_s": "pods deleted",
    "rescheduled_s": "replacements Ready",
    "serving_again_s": "serving again",
    "error_window_s": "requests failing",
}


def _short(one: Judged) -> str:
    return _SHORT.get(one.measure, one.title)

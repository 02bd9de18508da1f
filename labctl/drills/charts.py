"""The charts under the lanes: ready endpoints, requests, latency, and the contract, each with its bounds drawn in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from labctl.drills.canvas import Canvas
from labctl.drills.model import Judged
from labctl.drills.picture import Bucket, Count, Span

_LATENCY_S = (0.001, 10.0)
_SHORT = {
    "detected_s": "node not Ready",
    "endpoint_removed_s": "endpoints removed",
    "tainted_s": "node tainted",
    "evicted_s": "pods deleted",
    "rescheduled_s": "replacements Ready",
    "endpoints_full_s": "endpoints in full",
    "serving_again_s": "serving again",
    "error_window_s": "requests failing",
    "identity_again_s": "identity again",
    "led_again_s": "others lead",
    "writes_again_s": "writes again",
    "write_gap_s": "no write for",
}


def endpoints_count(canvas: Canvas) -> None:
    """How many endpoints were ready, as steps; and by when they had to be gone and back."""
    picture = canvas.picture
    canvas.heading("Ready endpoints")
    told = "; ".join(f"{span.state} until {span.to_s:.2f} s" for span in picture.ready)
    canvas.begin(f"Ready endpoints of {picture.replicas}: {told}")
    canvas.label(f"of {picture.replicas}")
    height = 36.0
    most = max([picture.replicas, *(int(span.state) for span in picture.ready)])
    base = canvas.y + height
    points: list[tuple[float, float]] = []
    for span in picture.ready:
        top = base - height * int(span.state) / max(1, most)
        points += [(canvas.x(span.from_s), top), (canvas.x(span.to_s), top)]
        if canvas.x(span.to_s) - canvas.x(span.from_s) > 14:
            canvas.text(canvas.x(span.from_s) + 4, top + 13 if int(span.state) else top - 3, span.state, "count")
    if points:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        canvas.behind.append(
            f'<polygon points="{points[0][0]:.1f},{base:.1f} {path} {points[-1][0]:.1f},{base:.1f}" class="area"/>'
        )
    canvas.line(base, "axis")
    for measure in ("endpoint_removed_s", "endpoints_full_s", "serving_again_s"):
        _due(canvas, measure, canvas.y - 4, base)
    canvas.y = base + 4
    canvas.end()


def requests(canvas: Canvas) -> None:
    """Bars of answered and failed; those from before the fault are counted apart, since they are not judged."""
    picture, groups = canvas.picture, canvas.picture.buckets
    width_s = groups[0].to_s - groups[0].from_s if groups else 0
    canvas.heading("Requests: failed of sent")
    before, since = f"before it: {failed(picture.before)}", f"since the fault: {failed(picture.since)}"
    canvas.begin(f"Requests, failed of sent: {since}; {before}")
    canvas.label(since)
    height, top = 52.0, canvas.y
    if not canvas.narrow:
        canvas.text(0.0, top + 31, before, "detail")
        canvas.text(0.0, top + 48, f"each bar {width_s:g} s", "detail")
    base = top + height
    most = max((one.ok + one.failed for one in groups), default=1) or 1
    for one in groups:
        _stack(canvas, one, base, height / most)
    canvas.line(base, "axis")
    _window(canvas, top - 3)
    canvas.y = base + 4
    if canvas.narrow:
        canvas.text(8.0, canvas.y + 12, f"{before}; each bar {width_s:g} s", "detail")
        canvas.y += 16
    canvas.end()


def failed(count: Count) -> str:
    """E.g. `49 of 200`."""
    return f"{count.failed:,} of {count.sent:,}"


def _stack(canvas: Canvas, one: Bucket, base: float, scale: float) -> None:
    x, room = canvas.x(one.from_s), canvas.x(one.to_s) - canvas.x(one.from_s)
    if not one.ok + one.failed or room <= 0:
        return
    title = escape(f"{one.from_s:g} to {one.to_s:g} s: {one.ok} answered, {one.failed} failed")
    bad, good = scale * one.failed, scale * one.ok
    broad = max(1.0, room - 1)
    for style, top, tall in (("req-ok", base - good, good), ("req-bad", base - good - bad, bad)):
        if tall:
            canvas.add(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{broad:.1f}" height="{tall:.1f}" class="{style}">'
                f"<title>{title}</title></rect>"
            )


def _window(canvas: Canvas, y: float) -> None:
    """From the first failed request on, how long requests may fail by the contract."""
    begins_s = canvas.picture.failures_from_s
    for one in canvas.picture.contract:
        if one.measure == "error_window_s" and one.upper_s is not None and begins_s is not None:
            span = Span(begins_s, begins_s + one.upper_s, "allowed")
            canvas.bar(span, y - 3, 4, f"requests may fail for {one.upper_s:.2f} s by the contract", "allowed")


def _due(canvas: Canvas, measure: str, top: float, base: float) -> None:
    """A line at the moment by which something must have happened."""
    for one in canvas.picture.contract:
        if one.measure == measure and one.upper_s is not None and one.upper_s < canvas.picture.to_s:
            x = canvas.x(one.upper_s)
            title = f"<title>{escape(one.title)}: by {one.upper_s:.2f} s at the latest</title>"
            canvas.add(f'<line x1="{x}" y1="{top:.1f}" x2="{x}" y2="{base:.1f}" class="due">{title}</line>')


def latency(canvas: Canvas) -> None:
    """Median and worst of each bucket, on a logarithmic scale."""
    groups = canvas.picture.buckets
    canvas.heading("Latency, log scale" if canvas.narrow else "Latency of the answered, from the intended send")
    worst_s = max((one.worst_s for one in groups if one.worst_s is not None), default=0.0)
    canvas.begin(f"Latency of answered requests, median and worst; at most {worst_s:.3f} s")
    canvas.label("median, worst")
    height = 58.0
    low, high = (math.log10(edge) for edge in _LATENCY_S)
    base = canvas.y + height

    def level(seconds: float) -> float:
        share = (math.log10(min(_LATENCY_S[1], max(_LATENCY_S[0], seconds))) - low) / (high - low)
        return base - height * share

    for seconds, words in ((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (1.0, "1 s")):
        canvas.line(level(seconds), "hair")
        edge = 52.0 if canvas.narrow else canvas.gutter - 12.0
        canvas.text(edge, level(seconds) + 4, words, "tick", "end")
    for style, pick in (("worst", _worst), ("median", _median)):
        for run in _runs(groups, pick):
            points = [(canvas.x((one.from_s + one.to_s) / 2), level(seconds)) for one, seconds in run]
            if len(points) == 1:
                canvas.add(f'<circle cx="{points[0][0]}" cy="{points[0][1]:.1f}" r="1.6" class="{style} dot"/>')
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            canvas.add(f'<polyline points="{path}" class="line {style}"/>')
    canvas.y = base + 4
    canvas.end()


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


def contract(canvas: Canvas) -> None:
    """For each bound a band of what is allowed, and where the measure fell."""
    drawn = [one for one in canvas.picture.contract if one.upper_s is not None]
    if not drawn or canvas.picture.heal_s is None:
        return
    canvas.heading("The contract" if canvas.narrow else "The contract: what is allowed, what was measured")
    for one in drawn:
        begins_s = (canvas.picture.failures_from_s or 0.0) if one.measure == "error_window_s" else 0.0
        figure = "never" if one.measured_s is None else f"{one.measured_s:.2f} s"
        canvas.begin(f"{one.title}: {figure}, {one.result}; at most {one.upper_s:.2f} s")
        canvas.label(_SHORT.get(one.measure, one.title), figure)
        _band(canvas, one, begins_s)
        canvas.y += 22
        canvas.end()


def _band(canvas: Canvas, one: Judged, begins_s: float) -> None:
    assert one.upper_s is not None
    allowed = Span(begins_s + (one.lower_s or 0.0), begins_s + one.upper_s, "allowed")
    lower = "" if one.lower_s is None else f"{one.lower_s:.2f} to "
    words = f"{one.title}: allowed {lower}{one.upper_s:.2f} s; {one.source}"
    canvas.bar(allowed, canvas.y + 4, 12, words, "allowed")
    if one.measured_s is None:
        return
    x, y = canvas.x(begins_s + one.measured_s), canvas.y + 10
    style = "hit" if one.result == "pass" else "miss"
    canvas.add(f'<line x1="{canvas.x(begins_s)}" y1="{y}" x2="{x}" y2="{y}" class="reach {style}"/>')
    canvas.add(
        f'<path d="M{x},{y - 6} l6,6 l-6,6 l-6,-6 z" class="mark {style}">'
        f"<title>{escape(one.title)}: {one.measured_s:.2f} s ({one.result})</title></path>"
    )

"""Drawing a picture as SVG, for one width: swimlanes over one time axis, charts under them. Pure."""

from __future__ import annotations

import math

from labctl.drills.canvas import Canvas, stretch
from labctl.drills.charts import contract, endpoints_count, latency, requests
from labctl.drills.picture import Lane, Picture

_TICKS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_TOP = 26


def draw(picture: Picture, width: int) -> str:
    """The drawing, an `svg` element of that width."""
    canvas = Canvas(picture, width, 0 if width < 600 else 236)
    _phases(canvas)
    _section(canvas, "Faults", picture.faults)
    _section(canvas, "Nodes, as the API sees them", picture.nodes)
    _section(canvas, "Pods of the workload", picture.pods)
    _section(canvas, "StatefulSet pods, found inside the machines", picture.identities)
    _section(canvas, "Endpoints of the service", picture.endpoints)
    if picture.hidden:
        canvas.text(canvas.left, canvas.y + 14, f"and {picture.hidden} more that are not drawn", "detail")
        canvas.y += 20
    endpoints_count(canvas)
    requests(canvas)
    latency(canvas)
    _writes(canvas)
    contract(canvas)
    return _finish(canvas)


def _section(canvas: Canvas, words: str, lanes: tuple[Lane, ...]) -> None:
    if lanes:
        canvas.heading(words)
        for lane in lanes:
            canvas.lane(lane)


def _phases(canvas: Canvas) -> None:
    for span in canvas.picture.phases:
        seconds = span.to_s - span.from_s
        canvas.bar(span, 4, 18, f"{span.state}: {seconds:.1f} s", f"phase p-{span.state}")
        room = canvas.x(span.to_s) - canvas.x(span.from_s)
        if room > 7.2 * len(span.label):
            canvas.text(canvas.x(span.from_s) + room / 2, 17, span.label, "phase-name", "middle")
    if not canvas.narrow:
        canvas.text(0, 17, "seconds from the fault", "detail")
    canvas.y = 22


def _writes(canvas: Canvas) -> None:
    """Each sequenced record as a tick, as long as its answer took."""
    writes = canvas.picture.writes
    if not writes:
        return
    kept = sum(one.state == "ready" for one in writes)
    canvas.heading("Records written to the API")
    words = f"{kept} of {len(writes)} acknowledged"
    canvas.begin(f"Records written to the API: {words}")
    canvas.label(words)
    answers = {"ready": "acknowledged", "unready": "refused", "unknown": "no answer"}
    for one in writes:
        title = f"{one.label}: {answers[one.state]}, {stretch(one)}"
        canvas.bar(one, canvas.y + 2, 16, title, f"w-{one.state}")
    canvas.y += 22
    canvas.end()


def _finish(canvas: Canvas) -> str:
    picture, bottom = canvas.picture, canvas.y + 12
    marks = []
    for second in ticks(picture, 5 if canvas.narrow else 12):
        x = canvas.x(second)
        marks.append(f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom:.0f}" class="grid"/>')
        edge = x > canvas.right - 14
        canvas.text(
            canvas.width - 2.0 if edge else x, bottom + 14, f"{second:g} s", "tick", "end" if edge else "middle"
        )
    if picture.heal_s is not None:
        heal = canvas.x(picture.heal_s)
        marks.append(
            f'<rect x="{canvas.x(0)}" y="{_TOP}" width="{max(0.0, heal - canvas.x(0)):.1f}" '
            f'height="{bottom - _TOP:.0f}" class="during"/>'
        )
    if picture.from_s <= 0 <= picture.to_s:
        marks.append(f'<line x1="{canvas.x(0)}" y1="{_TOP}" x2="{canvas.x(0)}" y2="{bottom:.0f}" class="zero"/>')
    height = bottom + 22
    return (
        f'<svg viewBox="0 0 {canvas.width} {height:.0f}" width="{canvas.width}" height="{height:.0f}" role="group" '
        'aria-label="Timeline of the drill: faults, nodes, pods, endpoints, requests and contract over time">'
        f"{''.join(marks)}{''.join(canvas.behind)}{''.join(canvas.parts)}</svg>"
    )


def ticks(picture: Picture, most: int) -> list[float]:
    """Round seconds inside the picture, at most about `most` of them."""
    span_s = picture.to_s - picture.from_s
    step = next((tick for tick in _TICKS_S if span_s / tick <= most), _TICKS_S[-1])
    first = math.ceil(picture.from_s / step)
    return [float(number * step) for number in range(first, math.floor(picture.to_s / step) + 1)]

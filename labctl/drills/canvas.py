"""A drawing that grows from top to bottom over one time axis, as SVG. Colours come from the page's style.

A wide drawing has a gutter of labels on the left; a narrow one, for phones, writes each label above its lane.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

from labctl.drills.picture import Lane, Picture, Span

NAMES = {
    "ready": "Ready",
    "unready": "not ready",
    "unknown": "Unknown",
    "pending": "pending",
    "ending": "terminating",
    "gone": "deleted",
    "struck": "struck",
}
_CHARACTER = 7.0  # how wide a character of a lane's label is, about


@dataclass(slots=True)
class Canvas:
    """Collects elements from top to bottom; `y` is where the next one goes."""

    picture: Picture
    width: int
    gutter: int  # 0: labels above the lanes
    y: float = 0.0
    parts: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)

    @property
    def narrow(self) -> bool:
        """Whether this is drawn for a phone."""
        return self.gutter == 0

    @property
    def right(self) -> float:
        """Where the time axis ends."""
        return self.width - (8.0 if self.narrow else 16.0)

    @property
    def left(self) -> float:
        """Where it begins."""
        return self.gutter or 8.0

    def x(self, seconds: float) -> float:
        """Where a moment lies, kept inside the drawing."""
        share = (seconds - self.picture.from_s) / (self.picture.to_s - self.picture.from_s)
        return round(self.left + min(1.0, max(0.0, share)) * (self.right - self.left), 2)

    def add(self, element: str) -> None:
        """An element, in front of what is there."""
        self.parts.append(element)

    def text(self, x: float, y: float, words: str, style: str = "", anchor: str = "start") -> None:
        """Words at a place."""
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(words)}</text>')

    def bar(self, span: Span, y: float, height: float, title: str, style: str) -> None:
        """A stretch of time, with words for whoever points at it."""
        x = self.x(span.from_s)
        width = min(max(1.5, self.x(span.to_s) - x), self.width - x)
        self.add(
            f'<rect x="{x}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" class="{style}">'
            f"<title>{escape(title)}</title></rect>"
        )

    def line(self, y: float, style: str) -> None:
        """Across the whole axis."""
        self.add(f'<line x1="{self.left}" y1="{y:.1f}" x2="{self.right}" y2="{y:.1f}" class="{style}"/>')

    def heading(self, words: str) -> None:
        """A section begins."""
        self.y += 26
        self.text(8.0 if self.narrow else 0.0, self.y, words, "head")
        self.y += 8

    def label(self, words: str, detail: str = "") -> None:
        """Name the lane that follows at `y`; leaves `y` at the lane's top."""
        if self.narrow:
            self.text(8.0, self.y + 12, words + (f"  ·  {detail}" if detail else ""), "label")
            self.y += 17
            return
        room = self.gutter - 12.0 - (_CHARACTER * len(detail) + 8 if detail else 0)
        most = max(8, int(room / 6.6))
        self.text(0.0, self.y + 14, words if len(words) <= most else f"{words[: most - 1]}…", "label")
        if detail:
            self.text(self.gutter - 12.0, self.y + 14, detail, "detail", "end")

    def begin(self, words: str) -> None:
        """A group that the keyboard reaches, and that a screen reader reads as `words`."""
        self.add(f'<g class="lane" tabindex="0" role="img" aria-label="{escape(words)}">')

    def end(self) -> None:
        """The group is complete."""
        self.add("</g>")

    def lane(self, lane: Lane) -> None:
        """One thing through time; what was really so in a thin row under it."""
        told = [f"{_name(span)} {stretch(span)}" for span in (*lane.spans, *lane.beneath)]
        self.begin(f"{lane.label}{f' on {lane.detail}' if lane.detail else ''}: {'; '.join(told)}")
        self.label(lane.label, lane.detail)
        for span in lane.spans:
            words = _name(span)
            self.bar(span, self.y + 1, 18, f"{lane.label}: {words}, {stretch(span)}", f"bar s-{span.state}")
            if self.x(span.to_s) - self.x(span.from_s) > _CHARACTER * len(words) + 10:
                self.text(self.x(span.from_s) + 6, self.y + 14, words, f"in s-{span.state}")
        self.y += 20
        for span in lane.beneath:
            self.bar(span, self.y + 1, 5, f"{lane.label}: {_name(span)}, {stretch(span)}", f"bar s-{span.state}")
        self.y += 8 if lane.beneath else 3
        self.end()


def stretch(span: Span) -> str:
    """E.g. `3.86 to 6.32 s`."""
    return f"{span.from_s:.2f} to {span.to_s:.2f} s"


def _name(span: Span) -> str:
    if span.state == "struck":
        return span.label
    name = NAMES.get(span.state, span.state)
    return f"{name}, {span.label}" if span.label else name

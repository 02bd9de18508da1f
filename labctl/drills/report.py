"""Writing a report: `report.json`, `report.xml` (JUnit), one self-contained page `report.html`, and the history.

The page holds everything it shows: style, drawings, no script, no request to anywhere.
"""

from __future__ import annotations

import os
from pathlib import Path

import jinja2
import msgspec
from markupsafe import Markup

from labctl.drills import history as histories
from labctl.drills.compare import Comparison, Row, broken
from labctl.drills.history import History
from labctl.drills.junit import junit
from labctl.drills.model import Drill, Judged, Report, Verdict
from labctl.drills.picture import picture
from labctl.drills.records import Scene
from labctl.drills.registry import drill_named
from labctl.drills.svg import draw
from labctl.runtime.errors import LabError, UsageError

JSON_NAME, XML_NAME, HTML_NAME = "report.json", "report.xml", "report.html"
_WIDE, _NARROW = 1080, 358
_TILES = ("detected_s", "endpoint_removed_s", "rescheduled_s", "serving_again_s", "error_window_s")
_MARKS = {"pass": "✓", "fail": "✗", "unknown": "?", "not-applicable": "–"}  # noqa: RUF001 - a dash, as drawn
_CLASSES = {
    Verdict.PASS: "pass",
    Verdict.VIOLATED: "fail",
    Verdict.NOT_INJECTED: "unknown",
    Verdict.NOT_HEALED: "fail",
    Verdict.UNKNOWN: "unknown",
}


def write(folder: Path, report: Report, history: History) -> tuple[Path, Path]:
    """Write all of it into `folder` (made if need be); the paths of JSON and page. LabError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _put(folder / JSON_NAME, msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
        _put(folder / XML_NAME, junit((report,)))
        _put(folder / HTML_NAME, page(report, history).encode())
        record = folder / histories.NAME
        if not record.exists():
            _put(record, b"".join(msgspec.json.encode(entry) + b"\n" for entry in history))
    except OSError as error:
        raise LabError(
            f"the report could not be written to {folder}: {error.strerror}",
            hint=f"the verdict was: {report.verdict.value}; the lab is as the drill left it",
        ) from error
    return folder / JSON_NAME, folder / HTML_NAME


def page(report: Report, history: History) -> str:
    """The page."""
    scene = history.first(Scene)
    drawings = {}
    if scene is not None:
        seen = picture(history, scene[1], report)
        drawings = {"wide": Markup(draw(seen, _WIDE)), "narrow": Markup(draw(seen, _NARROW))}  # noqa: S704 - escaped there
    return _template("report.html").render(
        report=report,
        drill=_drill(report.drill),
        summary=summary(report),
        verdict_class=_CLASSES[report.verdict],
        tiles=tiles(report),
        gauge=gauge,
        marks=_MARKS,
        drawings=drawings,
        duration_s=history[-1].t_s - history[0].t_s,
    )


def compare_page(found: Comparison) -> str:
    """The page that lays several runs beside each other."""
    return _template("compare.html").render(
        runs=found.runs,
        rows=found.rows,
        letters=found.letters,
        titles=found.titles,
        drills=found.drills,
        passed=found.passed,
        scales={row.measure: 100.0 / (max(row.upper_s or 0.0, row.most_s or 0.0) * 1.05 or 1.0) for row in found.rows},
        broken=broken,
        happened=happened,
        marks=_MARKS,
        classes=_CLASSES,
    )


def happened(row: Row) -> str:
    """In how many of the runs, where it was not in all: a spread says nothing of the others."""
    count = sum(cell.seconds is not None for cell in row.cells)
    return "" if count == len(row.cells) else f" in {count} of {len(row.cells)} runs"


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labctl.drills"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["seconds"] = seconds
    return environment.get_template(name)


def seconds(value: float | None) -> str:
    """E.g. `4.31 s`; a dash for what was never measured."""
    return "—" if value is None else f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def gauge(judged: Judged) -> dict[str, float]:
    """Where lower bound, upper bound and measure lie on a scale to 100, for a small bar."""
    upper = judged.upper_s or 0.0
    scale = 100.0 / (max(upper, judged.measured_s or 0.0) * 1.08 or 1.0)
    return {
        "lower": (judged.lower_s or 0.0) * scale,
        "upper": upper * scale,
        "measured": (judged.measured_s or 0.0) * scale,
    }


def summary(report: Report) -> str:
    """The story in two sentences; what a drill does not wait for, it does not miss."""
    found = report.measures
    awaited = {one.measure for one in report.contract if one.upper_s is not None}
    who = " and ".join(report.victims) or report.lab
    told = []
    if found.detected_s is not None:
        told.append(f"seen to be gone after {seconds(found.detected_s)}")
    if found.serving_again_s is not None:
        told.append(f"the service was whole again after {seconds(found.serving_again_s)}")
    if told:
        first = f"{who}: {', '.join(told)}."
    elif awaited & {"detected_s", "serving_again_s"}:
        first = f"{who}: neither detection nor recovery was seen."
    else:
        first = f"{who}: no node was given up."
    if not found.requests_failed:
        return f"{first} None of {found.requests_sent:,} requests failed."
    return (
        f"{first} {found.requests_failed:,} of {found.requests_sent:,} requests failed, "
        f"within {seconds(found.error_window_s)}."
    )


def tiles(report: Report) -> tuple[Judged, ...]:
    """The bounds that are shown large: the customary ones, else the first of this drill's own."""
    contract = {judged.measure: judged for judged in report.contract if judged.upper_s is not None}
    return tuple(contract[name] for name in _TILES if name in contract) or tuple(contract.values())[:5]


def _drill(name: str) -> Drill | None:
    """What the catalog says of it; None for a report of a drill that is no longer there."""
    try:
        return drill_named(name)
    except UsageError:
        return None


def _put(path: Path, data: bytes) -> None:
    """Replace a file in one step, so that no half report is ever seen."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)

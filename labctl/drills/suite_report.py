"""What a suite leaves beside `suite.json`: JUnit XML of all its drills, and a page that compares their runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labctl.drills.compare import Run, compare
from labctl.drills.junit import NotRun, junit
from labctl.drills.model import Report
from labctl.drills.report import compare_page
from labctl.drills.suite import SKIPPED, Suite
from labctl.runtime.errors import LabError

XML_NAME, HTML_NAME = "suite.xml", "suite.html"


def write_suite(folder: Path, suite: Suite, reports: Sequence[Report]) -> None:
    """Write both into `folder`; LabError where that fails. Without any report there is no page."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / XML_NAME).write_bytes(junit(reports, not_run(suite, reports)))
        if reports:
            runs = [Run(Path(report.run_dir).name or report.drill, report) for report in reports]
            (folder / HTML_NAME).write_text(compare_page(compare(runs)))
    except OSError as error:
        raise LabError(f"the suite's report could not be written to {folder}: {error.strerror}") from error


def not_run(suite: Suite, reports: Sequence[Report]) -> list[NotRun]:
    """The drills of the suite that made no report, and those it never came to. Pure."""
    told = {report.drill for report in reports}
    found = []
    for one in suite.ran:
        if one.drill not in told:
            result = "not-applicable" if one.outcome == SKIPPED else "unknown"
            found.append(NotRun(one.drill, result, f"{one.outcome}: {'; '.join(one.reasons)}"))
    return found + [NotRun(name, "unknown", "the suite was interrupted before it") for name in suite.left]

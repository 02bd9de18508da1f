"""A report as JUnit XML, the format in which every CI system shows tests: the verdict, each invariant, each bound.

A failure is something that was seen to break; an error is something that could not be told. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from labctl.drills.model import Judged, Report, Verdict

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 cannot hold
_FAILED = frozenset({Verdict.VIOLATED, Verdict.NOT_HEALED})


@dataclass(frozen=True, slots=True)
class _Case:
    group: str
    name: str
    result: str  # pass, fail, unknown, not-applicable
    words: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class NotRun:
    """A drill without a report: `result` is not-applicable where it cannot run here, else unknown."""

    drill: str
    result: str
    words: str


def junit(reports: Sequence[Report], others: Sequence[NotRun] = ()) -> bytes:
    """The document: one suite for each report, and for each drill that made none."""
    root = ET.Element("testsuites", name="labctl")
    for report in reports:
        _suite(root, report)
    for other in others:
        suite = ET.SubElement(root, "testsuite", name=_clean(other.drill), tests="1", time="0.000")
        for key, result in _KINDS.items():
            suite.set(key, str(int(other.result == result)))
        _case(suite, other.drill, _Case("verdict", "verdict", other.result, other.words))
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _suite(root: ET.Element, report: Report) -> None:
    cases = list(_cases(report))
    counts = {key: sum(case.result == result for case in cases) for key, result in _KINDS.items()}
    suite = ET.SubElement(
        root,
        "testsuite",
        name=_clean(report.drill),
        tests=str(len(cases)),
        failures=str(counts["failures"]),
        errors=str(counts["errors"]),
        skipped=str(counts["skipped"]),
        time=f"{report.timeline[-1].t_s - report.timeline[0].t_s if report.timeline else 0.0:.3f}",
        timestamp=report.started_at[:19],
        hostname=_clean(report.lab),
    )
    properties = ET.SubElement(suite, "properties")
    for name in ("lab", "provider", "profile", "version", "run_dir"):
        ET.SubElement(properties, "property", name=name, value=_clean(str(getattr(report, name))))
    ET.SubElement(properties, "property", name="victims", value=_clean(", ".join(report.victims)))
    for case in cases:
        _case(suite, report.drill, case)


_KINDS = {"failures": "fail", "errors": "unknown", "skipped": "not-applicable"}
_TAGS = {"fail": "failure", "unknown": "error", "not-applicable": "skipped"}


def _case(suite: ET.Element, drill: str, case: _Case) -> None:
    name = f"labctl.{_clean(drill)}.{case.group}"
    made = ET.SubElement(suite, "testcase", classname=name, name=_clean(case.name), time=f"{case.seconds:.3f}")
    if tag := _TAGS.get(case.result):
        told = ET.SubElement(made, tag, message=_clean(case.words.partition("\n")[0]))
        if tag != "skipped":
            told.set("type", case.result)
            told.text = _clean(case.words)
    elif case.words:
        ET.SubElement(made, "system-out").text = _clean(case.words)


def _cases(report: Report) -> Iterator[_Case]:
    result = "pass" if report.verdict is Verdict.PASS else "fail" if report.verdict in _FAILED else "unknown"
    words = "\n".join([report.verdict.value, *report.reasons])
    yield _Case("verdict", "verdict", result, words)
    for letter, found in report.invariants.items():
        yield _Case("invariants", f"{letter}: {found.title}", found.result.value, found.evidence)
    for one in report.contract:
        yield _Case("contract", one.title, one.result, _bound(one), max(0.0, one.measured_s or 0.0))


def _bound(one: Judged) -> str:
    limits = [f"at least {one.lower_s:g} s"] if one.lower_s is not None else []
    limits += [f"at most {one.upper_s:g} s"] if one.upper_s is not None else []
    measured = "never" if one.measured_s is None else f"{one.measured_s:.3f} s"
    return f"{measured}; {', '.join(limits)}; {one.source}"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)

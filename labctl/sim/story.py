"""A failing seed as a person reads it: what was done to the cluster, who did what, and what should not have been."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.sim.run import Outcome
from labctl.sim.world import Told

_MOST_LINES = 120


def tell(outcome: Outcome) -> str:
    """The whole story."""
    return "\n".join(_lines(outcome))


def _lines(outcome: Outcome) -> Iterator[str]:
    schedule, violation = outcome.schedule, outcome.violation
    counts = f"{len(schedule.faults)} faults, {len(schedule.steps)} steps of users"
    yield f"seed {outcome.seed}, {counts}, fencing: {schedule.fencing}"
    if violation is not None:
        yield f"broken: {violation.invariant}"
        yield f"        {violation.message}"
    told = outcome.story.lines
    left_out = max(0, len(told) - _MOST_LINES)
    if left_out:
        yield f"... {left_out} earlier lines are left out"
    yield "      time  who          what"
    yield from (_line(line) for line in told[left_out:])


def _line(line: Told) -> str:
    who = {"FAULT": "** fault", "INVARIANT": "!! broken"}.get(line.who, line.who)
    return f"{line.at_s:8.3f} s  {who:<12} {line.what}"

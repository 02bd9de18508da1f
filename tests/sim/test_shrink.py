"""A failing schedule is made small without a change of what fails."""

from __future__ import annotations

from labctl.sim.faults import Fault
from labctl.sim.load import Step
from labctl.sim.promises import Promise
from labctl.sim.run import Outcome, Schedule
from labctl.sim.shrink import shrink
from labctl.sim.world import Story, Violation

FAULTS = tuple(Fault(float(number), "power", f"w{number}", 8.0) for number in range(1, 7))
STEPS = tuple(Step(float(number), "evict", f"web{number}") for number in range(1, 6))


def outcome(schedule: Schedule, message: str) -> Outcome:
    violation = Violation(Promise.BUDGETS, message, 1.0) if message else None
    return Outcome(1, schedule, violation, Story(), 1.0, 1)


def attempt(schedule: Schedule) -> Outcome:
    """Fails in one way with w3 and web2 in it, and in another with w5 and without w3."""
    targets = {fault.target for fault in schedule.faults}
    if "w3" in targets:
        return outcome(schedule, "left 1 healthy pod" if any(step.what == "web2" for step in schedule.steps) else "")
    return outcome(schedule, "something else entirely" if "w5" in targets else "")


def test_only_what_the_failure_needs_is_left_and_no_longer_than_it_needs_it() -> None:
    schedule = Schedule(STEPS, FAULTS)
    small = shrink(outcome(schedule, "left 2 healthy pod"), attempt)
    assert [fault.target for fault in small.faults] == ["w3"]
    assert [step.what for step in small.steps] == ["web2"]
    assert small.faults[0].for_s < 4.0

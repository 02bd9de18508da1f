"""Make a failing schedule small: leave out whatever the failure does not need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from labctl.sim.faults import Fault
from labctl.sim.run import Outcome, Schedule

_MOST_RUNS = 150

Try = Callable[[Schedule], Outcome]


def shrink(found: Outcome, attempt: Try) -> Schedule:
    """The smallest schedule tried that still breaks the same invariant in the same way; `attempt` runs one."""
    assert found.violation is not None
    wanted, best, runs = found.violation.sort, found.schedule, 0
    progress = True
    while progress and runs < _MOST_RUNS:
        progress = False
        for candidate in _smaller(best):
            runs += 1
            outcome = attempt(candidate)
            if outcome.violation is not None and outcome.violation.sort == wanted:
                best, progress = candidate, True
                break
            if runs >= _MOST_RUNS:
                break
    return best


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    """Half of the faults or steps less, then one less, then a shorter one."""
    faults, steps = schedule.faults, schedule.steps
    for size in (len(faults) // 2, 1):
        for at in range(0, len(faults), max(1, size)) if size else ():
            yield replace(schedule, faults=faults[:at] + faults[at + size :])
    for size in (len(steps) // 2, 1):
        for at in range(0, len(steps), max(1, size)) if size else ():
            yield replace(schedule, steps=steps[:at] + steps[at + size :])
    for at, fault in enumerate(faults):
        if shorter := _shorter(fault):
            yield replace(schedule, faults=(*faults[:at], shorter, *faults[at + 1 :]))


def _shorter(fault: Fault) -> Fault | None:
    return replace(fault, for_s=round(fault.for_s / 2, 1)) if fault.for_s >= 4.0 else None

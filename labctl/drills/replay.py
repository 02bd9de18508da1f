"""A drill once more, from its record: what was shown live, at any pace, event by event or at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.drills import history as histories
from labctl.drills.compare import load
from labctl.drills.history import History
from labctl.drills.model import Report
from labctl.drills.narrate import Narrator
from labctl.drills.records import Entry, PhaseBegan
from labctl.drills.timeline import zero_s
from labctl.drills.ui import Status, Ui
from labctl.runtime.clock import Clock
from labctl.runtime.errors import UsageError

_TOGETHER_S = 0.1  # what happened this close together is shown at once
_DULL_S = 3.0  # nobody waits longer than this for the next event


@dataclass(frozen=True, slots=True)
class Step:
    """Entries that are shown together, and whether they make a line for people."""

    at_s: float  # of the last of them
    entries: tuple[Entry, ...]
    phase: str
    told: bool


def opened(path: Path) -> tuple[Report, History]:
    """A report and the record it was made from; UsageError where one of them is not there."""
    (run,) = load((path,))
    folder = path if path.is_dir() else path.parent
    for place in (folder, Path(run.report.run_dir)):
        if (place / histories.NAME).is_file():
            return run.report, histories.load(place / histories.NAME)
    raise UsageError(
        f"{folder}: there is no {histories.NAME} beside the report",
        hint="a report is replayed from its record; give the folder of the run, or of its --report-dir",
    )


def steps_of(history: History, *, from_s: float, until_s: float) -> Iterator[Step]:
    """The history in steps of about a tenth of a second, seconds counted from the fault. Pure.

    What lies before `from_s` comes as one step, since later ones build on it.
    """
    zero = zero_s(history)
    origin = history[0].t_s if zero is None else zero
    narrator, phase = Narrator(), ""
    held: list[Entry] = []
    told = False
    # As received: a request is written down when it ends, so the order of times may differ a little.
    for entry in sorted(history, key=lambda one: one.t_s):
        at_s = entry.t_s - origin
        if at_s > until_s:
            break
        if held and at_s >= from_s and entry.t_s - held[0].t_s >= _TOGETHER_S:
            yield Step(held[-1].t_s, tuple(held), phase, told)
            held, told = [], False
        held.append(entry)
        told = any(True for _ in narrator.feed(entry)) or told
        if isinstance(entry.what, PhaseBegan):
            phase = entry.what.name
    if held:
        yield Step(held[-1].t_s, tuple(held), phase, told)


def due(report: Report, passed_s: float) -> tuple[str, ...]:
    """What was awaited at a moment, with the seconds that were left, as the live view says it. Pure."""
    waiting = []
    for one in report.contract:
        if one.upper_s is None or passed_s < 0 or one.measure == "error_window_s":
            continue
        if one.measured_s is None or one.measured_s > passed_s:
            left_s = one.upper_s - passed_s
            words = f"due in {left_s:.0f} s" if left_s > 0 else f"{-left_s:.0f} s late"
            waiting.append(f"{one.title}, {words}")
    return tuple(waiting)


def play(
    history: History,
    report: Report,
    ui: Ui,
    clock: Clock,
    *,
    steps: Sequence[Step],
    speed: float,
    pause: Callable[[], bool] | None = None,
) -> None:
    """Show the steps, `speed` seconds of the drill in one (infinite: at once); `pause` after each line, False: end."""
    zero = zero_s(history)
    last_s = steps[0].at_s if steps else 0.0
    for step in steps:
        gap_s = step.at_s - last_s
        if pause is None and speed < float("inf") and gap_s > 0:
            clock.sleep_s(min(gap_s / speed, _DULL_S))
        last_s = step.at_s
        ui.show(step.entries)
        passed_s = -1.0 if zero is None else step.at_s - zero
        ui.status(Status(step.at_s, step.phase, due(report, passed_s) if step.phase in {"fault", "observe"} else ()))
        if pause is not None and step.told and not pause():
            return

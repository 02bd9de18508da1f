"""From a history to a report: measures, bounds, invariants, verdict. Pure, so it can be done again at any time."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.drills.checkers import check_all
from labctl.drills.contract import TOLERANCE_S, Bound
from labctl.drills.findings import Case, Finding, Result
from labctl.drills.history import History
from labctl.drills.measures import Measures, measure
from labctl.drills.model import Drill, Judged, Report, Timed, Verdict
from labctl.drills.narrate import Moment, tell
from labctl.drills.pace import stretched_s
from labctl.drills.records import FaultBegan, FaultEnded, HealEnded, Inspected, Interrupted, Said, Scene, Started
from labctl.drills.timeline import zero_s
from labctl.kube.timing import Profile
from labctl.runtime.errors import LabError

_MARKS = (("rescheduled_s", "rescheduled: every replica Ready on a live node"), ("serving_again_s", "serving again"))


def judge(history: History, drill: Drill, profile: Profile, *, trouble: str = "", run_dir: str = "") -> Report:
    """The report on a history; `trouble`: what went wrong with keeping it. LabError where it never really began."""
    started, staged = history.first(Started), history.first(Scene)
    if started is None or staged is None:
        raise LabError("the drill ended before its scene was set: there is nothing to judge")
    start, scene = started[1], staged[1]
    measures = measure(history, scene)
    bounds = drill.bounds(profile, scene)
    contract = tuple(compare(bound, measures, scene) for bound in bounds)
    case = Case(history, scene, measures, {bound.measure: bound for bound in bounds})
    findings = check_all(case, drill.checkers)
    verdict, reasons = decide(history, contract, findings, trouble)
    return Report(
        drill=start.drill,
        lab=start.lab,
        provider=start.provider,
        profile=start.profile,
        verdict=verdict,
        timeline=timeline(history, measures),
        measures=measures,
        invariants=findings,
        reasons=reasons,
        contract=contract,
        started_at=history[0].wall,
        victims=scene.victims,
        slowness=scene.slowness,
        version=start.version,
        run_dir=run_dir,
    )


def compare(bound: Bound, measures: Measures, scene: Scene) -> Judged:
    """Hold one measure against its bound.

    The power may have gone at any moment of the injection, so an upper bound counts from its end; and two events
    that we received within TOLERANCE_S may have happened the other way round, so a lower bound gives way by that.
    """
    measured: float | None = getattr(measures, bound.measure)
    late_s = measures.fault_took_s or 0.0
    if measured is None:
        # What is awaited and never comes is a violation; where only haste is forbidden, nothing can be said.
        result = Result.FAIL if bound.upper_s is not None else Result.UNKNOWN
    else:
        late = bound.upper_s is not None and measured > bound.upper_s + _spare(bound, late_s)
        hasty = bound.lower_s is not None and measured < bound.lower_s - stretched_s(TOLERANCE_S, scene.slowness)
        result = Result.FAIL if late or hasty else Result.PASS
    return Judged(
        measure=bound.measure,
        title=bound.title,
        result=result.value,
        measured_s=measured,
        lower_s=_rounded(bound.lower_s),
        upper_s=_rounded(bound.upper_s),
        source=bound.source,
    )


def _spare(bound: Bound, late_s: float) -> float:
    """A window's length does not depend on when it began."""
    return 0.0 if bound.measure == "error_window_s" else late_s


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def decide(
    history: History, contract: tuple[Judged, ...], findings: Mapping[str, Finding], trouble: str
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons. In order: not injected, not healed, contract violated, unknown, pass."""
    ended = [record for _, record in history.of(FaultEnded)]
    healed, cut_short = history.last(HealEnded), history.last(Interrupted)
    stopped = [f"interrupted: {cut_short[1].why}"] if cut_short else []
    not_healed = [] if healed is None or healed[1].ok else [f"the heal failed: {healed[1].evidence}"]
    # One that was cut off before it was confirmed may have struck or not: there is no saying.
    cut_off = bool(stopped) and sum(1 for _ in history.of(FaultBegan)) > len(ended)
    if (not ended and not cut_off) or not all(record.took for record in ended):
        why = [record.evidence for record in ended if not record.took] or ["no fault was injected"]
        return Verdict.NOT_INJECTED, (*why, *not_healed, *stopped)
    if healed is None:
        return Verdict.NOT_HEALED, ("nobody healed", *stopped)
    if not_healed:
        return Verdict.NOT_HEALED, (*not_healed, *stopped)
    if not stopped and not _converged(history):
        return Verdict.NOT_HEALED, ("the lab did not come back to what it was", *_left(findings))
    broken = [_sentence(one) for one in contract if one.result == Result.FAIL]
    broken += [f"{letter}: {one.evidence}" for letter, one in findings.items() if one.result is Result.FAIL]
    open_ends = [f"{one.title}: not measured" for one in contract if one.result == Result.UNKNOWN]
    open_ends += [f"{letter}: {one.evidence}" for letter, one in findings.items() if one.result is Result.UNKNOWN]
    open_ends += [trouble] if trouble else []
    if stopped:  # what had no time to happen is no violation
        return Verdict.UNKNOWN, (*stopped, *broken, *open_ends)
    if broken:
        return Verdict.VIOLATED, (*broken, *open_ends)
    return (Verdict.UNKNOWN, tuple(open_ends)) if open_ends else (Verdict.PASS, ())


def _converged(history: History) -> bool:
    """Whether the lab was seen to be what it was before; the runner notes it when it gives up waiting."""
    healed = [record for _, record in history.of(Inspected) if record.moment == "healed"]
    return bool(healed) and not any(record.text.startswith(NOT_CONVERGED) for _, record in history.of(Said))


NOT_CONVERGED = "the lab did not converge"


def _left(findings: Mapping[str, Finding]) -> tuple[str, ...]:
    left = findings.get("E")
    return (f"E: {left.evidence}",) if left is not None else ()


def _sentence(one: Judged) -> str:
    if one.measured_s is None:
        return f"{one.title}: never (at most {one.upper_s:g} s)"
    if one.upper_s is not None and one.measured_s > one.upper_s:
        return f"{one.title}: {one.measured_s:.2f} s, later than {one.upper_s:g} s"
    return f"{one.title}: {one.measured_s:.2f} s, sooner than {one.lower_s:g} s"


def timeline(history: History, measures: Measures) -> tuple[Timed, ...]:
    """The story in the order of time, seconds from the fault (from the start where there was none)."""
    zero = zero_s(history)
    origin = history[0].t_s if zero is None else zero
    moments = tell(list(history))
    for field, text in _MARKS:
        after_s: float | None = getattr(measures, field)
        if zero is not None and after_s is not None:
            moments.append(Moment(zero + after_s, text, "mark"))
    moments.sort(key=lambda moment: moment.at_s)
    return tuple(Timed(moment.text, round(moment.at_s - origin, 3)) for moment in moments)

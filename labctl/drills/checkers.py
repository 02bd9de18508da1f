"""The invariants A to F, each a pure function of the history. A checker that crashes has found nothing: unknown.

Without evidence a finding is unknown, never pass. The longer ones have files of their own, `check_*.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from labctl.drills.check_containers import no_overlap, one_per_identity
from labctl.drills.check_watches import watches_whole
from labctl.drills.check_writes import writes_kept
from labctl.drills.findings import Case, Checker, Finding, Result, Said, some
from labctl.drills.inspection import differences, unasked
from labctl.drills.records import HealEnded, Inspected, Probed
from labctl.drills.timeline import ended_s, load


def error_window(case: Case) -> Said:
    """C: the service's error window."""
    sent, failed, window_s = case.measures.requests_sent, case.measures.requests_failed, case.measures.error_window_s
    bound = case.bounds.get("error_window_s")
    if not sent:
        return Result.UNKNOWN, "no request was sent"
    words = f"{failed} of {sent} requests failed, over {window_s:.2f} s"
    if bound is None or bound.upper_s is None:
        return Result.NOT_APPLICABLE, f"{words}; this drill sets no bound"
    if window_s > bound.upper_s:
        errors = sorted({probe.error for probe in load(case.history) if not probe.ok})
        return Result.FAIL, f"{words}; the contract allows {bound.upper_s:.2f} s ({some(errors)})"
    last_s = max(ended_s(probe) for _, probe in case.history.of(Probed))
    healed = case.history.last(HealEnded)
    if healed is not None and last_s < healed[0]:
        return Result.UNKNOWN, f"{words}, but the requests stopped before the heal was through"
    return Result.PASS, f"{words}; the contract allows {bound.upper_s:.2f} s"


def spec_is_status(case: Case) -> Said:
    """E: after the heal spec equals status, with no orphan container and no leftover rule."""
    looks = [record for _, record in case.history.of(Inspected)]
    healed = [look for look in looks if look.moment == "healed"]
    if not healed:
        return Result.UNKNOWN, "the lab was not inspected after the heal"
    before = {text for look in looks if look.moment == "steady" for text in differences(look)}
    left = [text for text in differences(healed[-1]) if text not in before]
    if healed[-1].error:
        return Result.UNKNOWN, left[0] if left else healed[-1].error
    if left:
        return Result.FAIL, some(left, 6)
    if silent := unasked(healed[-1]):
        return Result.UNKNOWN, some(list(silent))
    containers = sum(len(machine.containers) for machine in healed[-1].machines)
    return Result.PASS, (
        f"{len(healed[-1].pods)} pods and {containers} containers on {len(healed[-1].machines)} machines agree; "
        "no orphan, no leftover rule"
    )


CHECKERS: Mapping[str, tuple[str, Checker]] = {
    "A": ("No acknowledged write lost", writes_kept),
    "B": ("At most one live container per StatefulSet identity", one_per_identity),
    "C": ("The service's error window is within its bound", error_window),
    "D": ("No pod runs on after it was given up", no_overlap),
    "E": ("After the heal, spec equals status; no orphans", spec_is_status),
    "F": ("Watches have no gap", watches_whole),
}


def check_all(case: Case, checkers: Mapping[str, tuple[str, Checker]] = CHECKERS) -> dict[str, Finding]:
    """Every invariant's finding, by its letter."""
    return {letter: _guarded(title, checker, case) for letter, (title, checker) in checkers.items()}


def _guarded(title: str, checker: Checker, case: Case) -> Finding:
    try:
        return Finding(title, *checker(case))
    except Exception as error:  # whatever it is, it must not become a pass
        return Finding(title, Result.UNKNOWN, f"the checker failed: {type(error).__name__}: {error}")

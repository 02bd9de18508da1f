"""What a drill expects that doubles a StatefulSet's identity on purpose. Pure."""

from __future__ import annotations

from dataclasses import replace

from labctl.drills.check_containers import one_per_identity
from labctl.drills.expect import Expectation
from labctl.drills.findings import Case, Result, Said
from labctl.drills.history import History
from labctl.drills.records import FaultBegan


def only_force_doubles(case: Case) -> Said:
    """B, up to the forced deletion; and that what the forced deletion did is flagged by B."""
    forced = [
        number
        for number, entry in enumerate(case.history)
        if isinstance(entry.what, FaultBegan) and "by force" in entry.what.fault
    ]
    if not forced:
        result, words = one_per_identity(case)
        return (result if result is Result.FAIL else Result.UNKNOWN), f"nothing was deleted by force; {words}"
    result, before = one_per_identity(replace(case, history=History(case.history[: forced[0]])))
    if result is not Result.PASS:
        return result, f"before anything was deleted by force: {before}"
    result, after = one_per_identity(case)
    if result is not Result.FAIL:
        return Result.FAIL, f"the forced deletion of a pod that lived was not flagged: {after}"
    return Result.PASS, f"until the forced deletion {before}; then flagged, as it must be: {after}"


ONLY_FORCE_DOUBLES: Expectation = {
    "B": ("At most one live container per StatefulSet identity, until somebody forces it", only_force_doubles)
}

"""What the drill of a full etcd expects: writes that need room are refused, at once and in so many words. Pure."""

from __future__ import annotations

from labctl.drills.contract import request_s
from labctl.drills.expect import Expectation
from labctl.drills.findings import Case, Result, Said
from labctl.drills.records import FaultEnded, Wrote
from labctl.drills.records import Said as Remark

_WORDS = "space exceeded"
_TRIES_S = 5.0  # a client may be told to try again a few times


def refused_cleanly(case: Case) -> Said:
    """While there is no room no write is acknowledged, and each is refused in time, with the reason."""
    if not any("NOSPACE" in one.fault for _, one in case.history.of(FaultEnded)):
        return Result.NOT_APPLICABLE, "these machines are too slow to be without room for less than the grace"
    full = [at_s for at_s, one in case.history.of(FaultEnded) if "NOSPACE" in one.fault and one.took]
    lifted = [at_s for at_s, one in case.history.of(Remark) if one.text.startswith("lifted")]
    if not full or not (after := [at_s for at_s in lifted if at_s > full[0]]):
        return Result.UNKNOWN, "there was no time without room"
    tried = [
        (at_s, one)
        for at_s, one in case.history.of(Wrote)
        if one.began_s is not None and one.began_s >= full[0] and at_s <= after[0]
    ]
    refused = [(at_s, one) for at_s, one in tried if _WORDS in one.error]
    if not refused:
        return Result.UNKNOWN, f"{len(tried)} writes were tried while there was no room, and none was refused for it"
    if done := [one.key for at_s, one in tried if one.acknowledged and at_s < refused[-1][0]]:
        return Result.FAIL, f"acknowledged while there was no room: {', '.join(done)}"
    longest_s = max(at_s - (one.began_s or at_s) for at_s, one in refused)
    words = f"{len(refused)} writes were refused with the reason, the slowest after {longest_s:.2f} s"
    allowed_s = _TRIES_S * case.scene.slowness + request_s(case.scene)
    return (Result.FAIL if longest_s > allowed_s else Result.PASS), f"{words}; at most {allowed_s:.1f} s"


REFUSED_CLEANLY: Expectation = {"refused cleanly": ("Without room writes are refused, and say why", refused_cleanly)}

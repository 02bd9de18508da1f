"""What a drill of hogs expects: the node says what it is short of, and gives up the hog and nobody else. Pure."""

from __future__ import annotations

from labctl.drills.expect import Expectation
from labctl.drills.faults_hogs import CPU_HOG, DISK_HOG, LEFT_OUT, MEMORY_HOG, MODEST
from labctl.drills.findings import Case, Result, Said
from labctl.drills.records import FaultEnded, NodeSeen, PodSeen
from labctl.drills.timeline import zero_s

_EVICTED = "Evicted"
_HOGS = {"memory": MEMORY_HOG, "disk": DISK_HOG}


def pressure_told(case: Case) -> Said:
    """The victim carried the taint of each thing it was made short of, so that the scheduler knows."""
    zero = zero_s(case.history)
    wanted = _wanted(case)
    if zero is None or not wanted:
        return Result.UNKNOWN, "nothing was eaten"
    seen: dict[str, float] = {}
    for at_s, node in case.history.of(NodeSeen):
        for what in wanted:
            if at_s >= zero and node.name in case.scene.victims and _taint(what) in node.taints:
                seen.setdefault(what, at_s - zero)
    if missing := sorted(set(wanted) - set(seen)):
        return Result.FAIL, f"never tainted {', '.join(_taint(what) for what in missing)}"
    words = ", ".join(f"{_taint(what)} {at_s:.2f} s after the first fault" for what, at_s in seen.items())
    return Result.PASS, f"{words}{_left_out(case)}"


def hogs_evicted(case: Case) -> Said:
    """Each hog was evicted, with a reason, and before any other pod; whoever kept to its requests stays."""
    zero = zero_s(case.history)
    wanted = _wanted(case)
    if zero is None or not wanted:
        return Result.UNKNOWN, "nothing was eaten"
    evicted: dict[str, float] = {}
    for at_s, pod in case.history.of(PodSeen):
        if at_s >= zero and pod.node in case.scene.victims and pod.reason == _EVICTED:
            evicted.setdefault(pod.name, at_s - zero)
    hogs = [_HOGS[what] for what in wanted]
    if missing := [name for name in hogs if name not in evicted]:
        return Result.FAIL, f"not evicted: {', '.join(missing)}"
    if unjust := sorted(set(evicted) - set(hogs) - {CPU_HOG}):
        return Result.FAIL, f"evicted without having caused it: {', '.join(unjust)}"
    if CPU_HOG in evicted and evicted[CPU_HOG] < min(evicted[name] for name in hogs):
        return Result.FAIL, f"{CPU_HOG} was evicted before the pod that took the room"
    if MODEST not in {pod.name for _, pod in case.history.of(PodSeen)}:
        return Result.UNKNOWN, f"{MODEST} was not there to be spared"
    words = ", ".join(f"{name} evicted at {evicted[name]:.2f} s" for name in hogs)
    return Result.PASS, f"{words}; {MODEST} and the workload were spared{_left_out(case)}"


def _wanted(case: Case) -> list[str]:
    """What was really eaten."""
    told = [record for _, record in case.history.of(FaultEnded) if record.took and LEFT_OUT not in record.evidence]
    return [what for what in _HOGS if any(f"the {what} of" in record.fault for record in told)]


def _left_out(case: Case) -> str:
    said = [record.evidence for _, record in case.history.of(FaultEnded) if LEFT_OUT in record.evidence]
    return f"; disk {said[0]}" if said else ""


def _taint(what: str) -> str:
    return f"node.kubernetes.io/{what}-pressure:NoSchedule"


PRESSURE_TOLD: Expectation = {"pressure told": ("The node says what it is short of", pressure_told)}
HOGS_EVICTED: Expectation = {"hogs evicted": ("The hog goes, and nobody else", hogs_evicted)}

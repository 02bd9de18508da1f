"""What drills of the control plane's leaders expect: one leads at a time, and what is done is done once. Pure."""

from __future__ import annotations

from labctl.drills.expect import Expectation
from labctl.drills.faults_masters import LEASE_OF
from labctl.drills.findings import Case, Result, Said
from labctl.drills.records import LEADERS, LeaseSeen, PodSeen
from labctl.drills.timeline import handovers, pods_over_time, zero_s


def standby_leads(case: Case) -> Said:
    """Others came to lead, and who led before the fault never led again; one that restarts has another identity."""
    zero, moved = zero_s(case.history), handovers(case.history)
    wanted = set(LEASE_OF.values())
    before: dict[str, str] = {}
    for at_s, lease in case.history.of(LeaseSeen):
        if lease.namespace != LEADERS or lease.name not in wanted or zero is None:
            continue
        if at_s < zero and lease.holder:
            before[lease.name] = lease.holder
        elif lease.name in moved and at_s > moved[lease.name] and lease.holder == before.get(lease.name):
            after_s = at_s - moved[lease.name]
            return Result.FAIL, f"{lease.holder} held {lease.name} again {after_s:.2f} s after another had taken it"
    if zero is None or set(before) != wanted:
        return Result.UNKNOWN, f"not seen who led before the fault: {', '.join(sorted(wanted - set(before)))}"
    if missing := sorted(wanted - set(moved)):
        return Result.FAIL, f"nobody took over {', '.join(missing)}"
    told = ", ".join(f"{name} after {at_s - zero:.2f} s" for name, at_s in sorted(moved.items()))
    return Result.PASS, f"others took over {told}, and those of before led no more"


def nothing_twice(case: Case) -> Said:
    """Never more pods than replicas at a time, no pod on two nodes; and something was created and bound at all."""
    zero = zero_s(case.history)
    if zero is None:
        return Result.UNKNOWN, "no fault was injected"
    for at_s, pods in pods_over_time(case.history, case.scene):
        alive = [pod.name for pod in pods.values() if not pod.deleting]
        if len(alive) > case.scene.replicas:
            words = f"{len(alive)} pods for {case.scene.replicas} replicas {at_s - zero:.2f} s after the fault"
            return Result.FAIL, f"{words}: {', '.join(sorted(alive))}"
    nodes: dict[str, set[str]] = {}
    made: set[str] = set()
    for at_s, pod in case.history.of(PodSeen):
        if not case.scene.covers(pod):
            continue
        nodes.setdefault(pod.uid, set()).update({pod.node} - {""})
        if at_s >= zero and pod.event == "ADDED":
            made.add(pod.uid)
    if doubled := sorted(uid for uid, found in nodes.items() if len(found) > 1):
        return Result.FAIL, f"bound to two nodes: {', '.join(doubled)}"
    bound = sum(bool(nodes[uid]) for uid in made)
    if not bound:
        return Result.UNKNOWN, f"{len(made)} pods were created after the fault, and none of them bound"
    return Result.PASS, f"{len(made)} pods were created after the fault, {bound} of them bound, each once"


STANDBY_LEADS: Expectation = {"standby leads": ("Others lead, and the thawed ones no more", standby_leads)}
NOTHING_TWICE: Expectation = {"nothing twice": ("No pod is created or bound twice", nothing_twice)}

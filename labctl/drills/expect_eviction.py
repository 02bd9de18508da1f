"""What drills of evictions expect: budgets kept and named, the zone's rate, and the freeze in a mass outage. Pure."""

from __future__ import annotations

from itertools import pairwise

from labctl.drills.contract import TOLERANCE_S
from labctl.drills.expect import Expectation, ending
from labctl.drills.findings import Case, Result, Said
from labctl.drills.pace import stretched_s
from labctl.drills.records import FaultEnded, HealBegan, NodeSeen, PodSeen, Started
from labctl.drills.timeline import NOT_READY, UNREACHABLE, pods_over_time, zero_s
from labctl.kube.timing import PROFILES

IMPOSSIBLE = "labctl-drill-impossible"  # the budget that forbids every eviction
FREEZE_S = 1.5  # until the controller has seen the last node go, and what it had begun is through


def budget_kept(case: Case) -> Said:
    """Never fewer Ready pods than the budget asks for, which is all but one."""
    zero = zero_s(case.history)
    least, at = case.scene.replicas, 0.0
    seen = 0
    for at_s, pods in pods_over_time(case.history, case.scene):
        if zero is None or at_s < zero:
            continue
        seen += 1
        ready = sum(pod.ready and not pod.deleting for pod in pods.values())
        if ready < least:
            least, at = ready, at_s - zero
    if not seen:
        return Result.UNKNOWN, "no pod was seen after the drain began"
    wanted = case.scene.replicas - 1
    words = f"at least {least} of {case.scene.replicas} pods were Ready all along; the budget asks for {wanted}"
    if least < wanted:
        return (
            Result.FAIL,
            f"only {least} pods were Ready {at:.2f} s after the drain began; the budget asks for {wanted}",
        )
    return Result.PASS, words


def budget_named(case: Case) -> Said:
    """A drain that cannot be done ends, and says which budget is in its way."""
    ended = [record for _, record in case.history.of(FaultEnded) if "budget that cannot be kept" in record.fault]
    if not ended:
        return Result.UNKNOWN, "the impossible drain was not tried"
    words = ended[-1].evidence
    if "disruption budget" not in words.lower() or IMPOSSIBLE not in words:
        return Result.FAIL, f"the refusal does not name the budget {IMPOSSIBLE}: {words}"
    return Result.PASS, words


def evicted_one_by_one(case: Case) -> Said:
    """Nodes are tainted no faster than the zone's eviction rate allows; the first at once."""
    started = case.history.first(Started)
    profile = PROFILES.get(started[1].profile) if started else None
    zero = zero_s(case.history)
    if profile is None or zero is None:
        return Result.UNKNOWN, "the profile is not known"
    tainted: dict[str, float] = {}
    for at_s, node in case.history.of(NodeSeen):
        evicting = {f"{UNREACHABLE}:NoExecute", f"{NOT_READY}:NoExecute"} & set(node.taints)
        if at_s >= zero and evicting and node.name in case.scene.victims:
            tainted.setdefault(node.name, at_s)
    if set(tainted) != set(case.scene.victims):
        return Result.UNKNOWN, f"{len(tainted)} of {len(case.scene.victims)} nodes were tainted"
    times = sorted(tainted.values())
    gap_s = min((later - earlier for earlier, later in pairwise(times)), default=0.0)
    apart_s = 1.0 / profile.eviction_rate_per_s
    words = f"{len(times)} nodes tainted, {gap_s:.2f} s apart; the rate asks for {apart_s:.2f} s"
    if gap_s < apart_s - stretched_s(TOLERANCE_S, case.scene.slowness):
        return Result.FAIL, words
    return Result.PASS, words


def evictions_frozen(case: Case) -> Said:
    """Once no node is Ready, no pod is given up any more, and no node stays tainted NoExecute."""
    zero, heal = zero_s(case.history), case.history.first(HealBegan)
    ready: dict[str, bool] = dict.fromkeys(case.scene.nodes, True)
    tainted: dict[str, bool] = {}
    dark_s = None
    for at_s, node in case.history.of(NodeSeen):
        if heal is not None and at_s >= heal[0]:
            break
        ready[node.name] = node.ready == "True"
        tainted[node.name] = f"{UNREACHABLE}:NoExecute" in node.taints
        if dark_s is None and not any(ready.values()):
            dark_s = at_s
    if zero is None or heal is None or dark_s is None:
        return Result.UNKNOWN, "there was no time at which no node was Ready"
    late = dark_s + FREEZE_S * case.scene.slowness
    before = set[str]()
    for at_s, pod in case.history.of(PodSeen):
        if not case.scene.covers(pod) or not ending(pod) or at_s >= heal[0]:
            continue
        if at_s > late and pod.uid not in before:
            return Result.FAIL, f"{pod.name} was given up {at_s - dark_s:.2f} s after the last node had gone dark"
        before.add(pod.uid)
    if kept := sorted(name for name, still in tainted.items() if still):
        return Result.FAIL, f"still tainted NoExecute when the heal began: {', '.join(kept)}"
    words = f"all {len(ready)} nodes dark for {heal[0] - dark_s:.1f} s: no pod given up, no NoExecute taint left"
    return Result.PASS, words


BUDGET_KEPT: Expectation = {"budget kept": ("Never fewer pods than the budget asks for", budget_kept)}
BUDGET_NAMED: Expectation = {"budget named": ("An impossible drain ends and names the budget", budget_named)}
ONE_BY_ONE: Expectation = {"eviction rate": ("Nodes are evicted one by one", evicted_one_by_one)}
EVICTIONS_FROZEN: Expectation = {"evictions frozen": ("With every node dark, no pod is given up", evictions_frozen)}

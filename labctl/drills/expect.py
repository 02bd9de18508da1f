"""What particular drills expect beside A to F, each a pure function of the history: that things did not happen.

A drill adds them to its checkers: `checkers={**CHECKERS, **NO_EVICTION, **SAME_CONTAINERS}`. Without evidence the
result is unknown, never pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from labctl.drills.check_watches import watches_whole
from labctl.drills.contract import request_s
from labctl.drills.findings import Case, Checker, Result, Said
from labctl.drills.inspection import steady_looks
from labctl.drills.records import (
    Container,
    HealBegan,
    HealEnded,
    Inspected,
    LeaseSeen,
    NodeSeen,
    PodSeen,
    Replayed,
    Sampled,
    Started,
    StreamLost,
)
from labctl.drills.timeline import NOT_READY, UNREACHABLE, condemned, ended_s, load, slices_over_time, zero_s
from labctl.kube.timing import PROFILES

Expectation = Mapping[str, tuple[str, Checker]]
_EXPIRED = "too old"


def no_eviction(case: Case) -> Said:
    """No pod of the workload was condemned or marked for deletion."""
    zero = zero_s(case.history)
    seen = [(at_s, pod) for at_s, pod in case.history.of(PodSeen) if case.scene.covers(pod)]
    if zero is None or not seen:
        return Result.UNKNOWN, "no pod was seen"
    gone = {pod.name: at_s - zero for at_s, pod in reversed(seen) if at_s >= zero and ending(pod)}
    if gone:
        name, after_s = min(gone.items(), key=lambda item: item[1])
        return _unless_silent(case, f"{len(gone)} pods were given up, {name} {after_s:.2f} s after the fault")
    return Result.PASS, f"none of {len({pod.uid for _, pod in seen})} pods was given up"


def nodes_ready(case: Case) -> Said:
    """No node was seen not Ready, or tainted for it."""
    zero = zero_s(case.history)
    seen = [(at_s, node) for at_s, node in case.history.of(NodeSeen)]
    if zero is None or not seen:
        return Result.UNKNOWN, "no node was seen"
    for at_s, node in seen:
        if at_s < zero or node.event == "DELETED":
            continue
        tainted = [taint for taint in node.taints if taint.startswith((UNREACHABLE, NOT_READY))]
        if node.ready != "True" or tainted:
            state = tainted[0] if tainted else f"Ready={node.ready} ({node.reason})"
            return _unless_silent(case, f"{node.name} was {state} {at_s - zero:.2f} s after the fault")
    return Result.PASS, f"{len(case.scene.nodes)} nodes were Ready all along"


def same_pods(case: Case) -> Said:
    """The workload's pods after the heal are those from before, by uid."""
    before, after = _pods(case, "steady"), _pods(case, "healed")
    if before is None or after is None:
        return Result.UNKNOWN, "the pods were not looked at before and after"
    if before != after:
        return _unless_silent(case, f"{len(before - after)} pods are gone, {len(after - before)} are new")
    return Result.PASS, f"the same {len(before)} pods as before, by uid"


def restarted_in_place(case: Case) -> Said:
    """Each pod of a victim runs again on its node, in a new container."""
    before, after = _containers(case, "steady"), _containers(case, "healed")
    struck = {key: found for key, found in before.items() if key[0] in case.scene.victims}
    if not struck or not _inspections(case, "healed"):
        return Result.UNKNOWN, "no container of a victim was seen before and after"
    missing = [found.pod for key, found in struck.items() if key not in after]
    if missing:
        return _unless_silent(case, f"not running again on its node: {', '.join(sorted(missing))}")
    kept = [found.pod for key, found in struck.items() if after[key].id == found.id]
    if kept:
        return Result.FAIL, f"still its old container, though the node went down: {', '.join(sorted(kept))}"
    return Result.PASS, f"all {len(struck)} containers of the victims run again, in the same pods"


def same_containers(case: Case) -> Said:
    """No container of the workload was restarted or replaced."""
    before, after = _containers(case, "steady"), _containers(case, "healed")
    if not before or not after:
        return Result.UNKNOWN, "no container was seen before and after"
    gone = [found.pod for key, found in before.items() if key not in after or after[key].id != found.id]
    if gone:
        return Result.FAIL, f"restarted or gone without need: {', '.join(sorted(gone))}"
    return Result.PASS, f"the same {len(before)} containers as before"


def ends_after_heal(case: Case) -> Said:
    """D, where a pod that was given up runs on out of reach, which is legal: it ends once its kubelet hears of it."""
    gone = {uid: (at_s, pod) for uid, (at_s, pod) in condemned(case.history, case.scene).items() if at_s is not None}
    healed = case.history.first(HealEnded)
    if not gone:
        return Result.NOT_APPLICABLE, "no pod was given up"
    if healed is None:
        return Result.UNKNOWN, "nothing was healed"
    last: dict[str, float] = {}
    looks = 0
    for at_s, containers in _looks(case):
        looks += at_s > healed[0]
        for found in containers:
            if found.running and found.uid in gone and at_s > gone[found.uid][0]:
                last[found.uid] = at_s
    if not looks:
        return Result.UNKNOWN, "no machine was looked into after the heal"
    overlap_s = max((at_s - gone[uid][0] for uid, at_s in last.items()), default=0.0)
    late_s = max((at_s - healed[0] for at_s in last.values()), default=0.0)
    allowed_s = TERMINATION_S + REACTION_S * case.scene.slowness
    words = f"ran on for {overlap_s:.1f} s beside their replacements, {max(0.0, late_s):.1f} s of them after the heal"
    if late_s > allowed_s:
        return Result.FAIL, f"{words}; the contract allows {allowed_s:.1f} s"
    return Result.PASS, f"{len(last)} of {len(gone)} given-up pods {words}"


def no_stale_status(case: Case) -> Said:
    """A node that comes back from a long pause does not overwrite what was decided meanwhile."""
    heal = case.history.first(HealBegan)
    gone = {uid for uid, (at_s, _) in condemned(case.history, case.scene).items() if at_s is not None}
    if heal is None or not gone:
        return Result.UNKNOWN, "no pod was given up before the heal"
    names = set()
    for at_s, pod in case.history.of(PodSeen):
        if pod.uid not in gone:
            continue
        names.add(pod.name)
        # Ready it may say, for its containers do run; but what was decided must stand.
        if at_s > heal[0] and not pod.deleting and pod.event != "DELETED":
            return Result.FAIL, f"{pod.name} was no longer terminating {at_s - heal[0]:.2f} s after the heal"
    for at_s, endpoints in slices_over_time(case.history, case.scene):
        back = [one.pod for one in endpoints if at_s > heal[0] and one.ready and one.pod in names]
        if back:
            return Result.FAIL, f"{back[0]} was a ready endpoint again {at_s - heal[0]:.2f} s after the heal"
    moved: dict[str, float] = {}
    for at_s, lease in case.history.of(LeaseSeen):
        if at_s >= heal[0]:
            moved.setdefault(lease.name, at_s)
    for at_s, node in case.history.of(NodeSeen):
        if at_s >= heal[0] and node.name in case.scene.victims and node.ready == "True" and node.name not in moved:
            return Result.FAIL, f"{node.name} was Ready again, yet its lease never moved after the heal"
    return Result.PASS, f"none of {len(gone)} given-up pods came back to life"


def others_served(case: Case) -> Said:
    """By the nodes that were left alone, the service failed no longer than its endpoints needed to move."""
    if not case.scene.survivors:
        return Result.NOT_APPLICABLE, "the drill leaves no other node alone"
    allowed_s = request_s(case.scene)
    if (bound := case.bounds.get("error_window_s")) is not None and bound.upper_s is not None:
        allowed_s = bound.upper_s
    ways = {case.scene.machines.get(name, "") for name in case.scene.survivors}
    probes = [probe for probe in load(case.history) if probe.via in ways]
    if not probes:
        return Result.UNKNOWN, "no request went by the other nodes"
    failed = [probe for probe in probes if not probe.ok]
    window_s = max(map(ended_s, failed)) - min(probe.intended_s for probe in failed) if failed else 0.0
    words = f"{len(failed)} of {len(probes)} requests by the other nodes failed, over {window_s:.2f} s"
    if window_s > allowed_s:
        return Result.FAIL, f"{words}; at most {allowed_s:.2f} s"
    return Result.PASS, words


def gaps_are_told(case: Case) -> Said:
    """F, where API servers restart: a watch may be told that its revision is gone (410), but never lose an event."""
    lost = [record for _, record in case.history.of(StreamLost)]
    if not lost:
        return watches_whole(case)
    untold = [record for record in lost if _EXPIRED not in record.why]
    if untold:
        return Result.FAIL, f"watch of {untold[0].stream} lost: {untold[0].why}"
    broken = [record for _, record in case.history.of(Replayed) if record.error]
    if broken:
        return Result.UNKNOWN, f"{broken[0].stream}: {broken[0].error}"
    return Result.PASS, f"{len(lost)} watches were told that their revision was gone, and listed anew"


TERMINATION_S = 32.0  # terminationGracePeriodSeconds 30, and 2 for a preStop hook that overruns
REACTION_S = 5.0  # until the kubelet has heard of it and begins


NO_EVICTION: Expectation = {"no eviction": ("No pod is given up", no_eviction)}
NODES_READY: Expectation = {"nodes ready": ("No node is taken for dead", nodes_ready)}
SAME_PODS: Expectation = {"same pods": ("The pods are those from before", same_pods)}
RESTARTED: Expectation = {"restarted": ("Containers are restarted in place", restarted_in_place)}
SAME_CONTAINERS: Expectation = {"same containers": ("No container is restarted without need", same_containers)}
ENDS_AFTER_HEAL: Expectation = {"D": ("A given-up pod that runs on out of reach ends with the heal", ends_after_heal)}
NO_STALE_STATUS: Expectation = {"no stale status": ("A zombie's old news changes nothing", no_stale_status)}
OTHERS_SERVED: Expectation = {"others served": ("The other nodes serve on", others_served)}
GAPS_ARE_TOLD: Expectation = {"F": ("Watches have no gap that is not told", gaps_are_told)}


def _unless_silent(case: Case, words: str) -> Said:
    """A failure; but where a victim was silent for longer than the grace, the cluster was right to act."""
    started = case.history.first(Started)
    profile = PROFILES.get(started[1].profile) if started else None
    silent_s = longest_silence_s(case)
    if profile is not None and silent_s > profile.node_monitor_grace_s:
        why = f"a victim was silent for {silent_s:.2f} s, longer than the grace of {profile.node_monitor_grace_s:g} s"
        return Result.UNKNOWN, f"{words}; but {why}, so the fault was not what it should be"
    return Result.FAIL, words


def longest_silence_s(case: Case) -> float:
    """The longest time that a victim's lease did not move, from the last renewal before the fault on."""
    zero = zero_s(case.history) or 0.0
    longest_s = 0.0
    for name in case.scene.victims:
        moved = [at_s for at_s, lease in case.history.of(LeaseSeen) if lease.name == name]
        for earlier, later in pairwise(moved):
            if later >= zero:
                longest_s = max(longest_s, later - earlier)
    return longest_s


def ending(pod: PodSeen) -> bool:
    """Whether the pod was condemned, marked for deletion, or is gone."""
    return pod.deleting or pod.event == "DELETED" or bool(pod.disruption)


def _inspections(case: Case, moment: str) -> list[Inspected]:
    if moment == "steady":
        return [look for look in steady_looks(case.history) if not look.error]
    return [look for _, look in case.history.of(Inspected) if look.moment == moment and not look.error]


def _pods(case: Case, moment: str) -> frozenset[str] | None:
    looks = _inspections(case, moment)
    if not looks:
        return None
    return frozenset(pod.uid for pod in looks[-1].pods if case.scene.covers(pod) and not pod.deleting)


def _containers(case: Case, moment: str) -> dict[tuple[str, str, str], Container]:
    """The workload's running containers by (node, pod uid, name), as the last look of that moment saw them."""
    looks = _inspections(case, moment)
    mine = _pods(case, "steady") or frozenset()
    return {
        (machine.node, found.uid, found.name): found
        for look in looks[-1:]
        for machine in look.machines
        for found in machine.containers
        if found.running and found.uid in mine
    }


def _looks(case: Case) -> Iterator[tuple[float, tuple[Container, ...]]]:
    for entry in case.history:
        if isinstance(entry.what, Sampled | Inspected):
            machines = [machine for machine in entry.what.machines if not machine.error]
            if machines:
                yield entry.t_s, tuple(found for machine in machines for found in machine.containers)

"""Which pods would have to go so that a more important one can run? Pure.

Each node that refused the pod, and might take it if pods left, is tried dry: all pods of a lower priority leave, then
as many as possible come back, the more important and those that a budget protects first.

Source: k/k `plugins/defaultpreemption/default_preemption.go` (SelectVictimsOnNode), `framework/preemption`
(pickOneNodeForPreemption, FilterVictimsWithPDBViolation), `util/utils.go` (MoreImportantPod).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.kube.selectors import matches
from master.scheduler.cluster import Cluster
from master.scheduler.protocol import Refusal
from master.scheduler.search import Found, Profile, beside_nominated, refused_by
from master.scheduler.snapshot import NodeInfo, PodInfo
from master.scheduler.views import Budget

PREEMPTED = "PreemptionByScheduler"
_FEW, _PERCENT = 100, 10  # candidates that are enough: a tenth of the nodes, at least a hundred
_LOWEST = 2**31  # added to priorities, so that a sum of negative ones does not favour the longer list
_NO_VICTIMS = Refusal(("No preemption victims found for incoming pod",), final=True)
_NOT_HELPFUL = "Preemption is not helpful for scheduling"


@dataclass(frozen=True, slots=True)
class Preemption:
    """What to do: the node and who leaves it (nobody: ""), and what is said about it."""

    node: str
    victims: tuple[PodInfo, ...]
    message: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    node: str
    victims: tuple[PodInfo, ...]  # the most important first
    violations: int

    def cost(self) -> tuple[Any, ...]:
        """Less is better: budgets broken, highest priority, sum of priorities, number; then the latest start."""
        highest = self.victims[0].priority
        total = sum(info.priority + _LOWEST for info in self.victims)
        return (self.violations, highest, total, len(self.victims))

    def earliest_start(self) -> str:
        """Of its most important victims."""
        highest = self.victims[0].priority
        return min(_started(info) for info in self.victims if info.priority == highest)


def preempt(info: PodInfo, cluster: Cluster, profile: Profile, found: Found) -> Preemption:
    """Make room for a pod that fits nowhere, or say why that cannot be."""
    if why := _not_eligible(info, cluster, found):
        return Preemption(info.pod.status.nominated_node_name, (), f"preemption: {why}")
    refusals: dict[str, Refusal] = {}
    candidates: list[_Candidate] = []
    hopeful = [name for name, (refusal, _) in found.refused.items() if not refusal.final]
    wanted = max(_FEW, len(hopeful) * _PERCENT // 100)
    for name in hopeful:
        tried = _Dry(info, cluster, profile, cluster.nodes[name]).run()
        if isinstance(tried, Refusal):
            refusals[name] = tried
        else:
            candidates.append(tried)
            if len(candidates) >= wanted and any(not entry.violations for entry in candidates):
                break
    if candidates:
        best = _cheapest(candidates)
        number = len(best.victims)
        words = f"found a potential placement for pod on node {best.node}, preempting {number} victims"
        return Preemption(best.node, best.victims, f"preemption: {words}")
    nodes = len(cluster.nodes)
    reasons = Counter(reason for refusal in refusals.values() for reason in refusal.reasons)
    if rest := nodes - len(refusals):
        reasons[_NOT_HELPFUL] += rest
    texts = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return Preemption("", (), f"preemption: 0/{nodes} nodes are available: {texts}.")


def _not_eligible(info: PodInfo, cluster: Cluster, found: Found) -> str:
    if info.pod.spec.preemption_policy == "Never":
        return "not eligible due to preemptionPolicy=Never."
    node = cluster.nodes.get(info.pod.status.nominated_node_name)
    if node is None:
        return ""
    refusal = found.refused.get(node.name)
    if refusal is not None and refusal[0].final:
        return ""  # the node will not do whoever leaves it
    if any(other.priority < info.priority and _leaving(other) for other in node.pods):
        return "not eligible due to a terminating pod on the nominated node."
    return ""


def _leaving(other: PodInfo) -> bool:
    """Whether a pod is on its way out because it was preempted."""
    entries = other.pod.status.conditions
    return other.meta.deleting and any(
        entry.type == "DisruptionTarget" and entry.status == "True" and entry.reason == PREEMPTED for entry in entries
    )


class _Dry:
    """One node tried dry: pods leave and come back on copies."""

    def __init__(self, info: PodInfo, cluster: Cluster, profile: Profile, node: NodeInfo) -> None:
        self._info, self._cluster, self._profile, self._node = info, cluster, profile, node
        self._ready = dict(cluster.ready(info, profile.preparing))

    def run(self) -> _Candidate | Refusal:
        lower = [other for other in self._node.pods if other.priority < self._info.priority]
        if not lower:
            return _NO_VICTIMS
        self._leave(lower)
        if refusal := self._refused():
            return refusal
        lower.sort(key=_importance)
        violating = violations_of(lower, self._cluster.seen.budgets)
        victims: list[PodInfo] = []
        broken = 0
        for other in sorted(lower, key=lambda other: other.meta.uid not in violating):  # stable: importance within
            self._come(other)
            if self._refused():
                self._leave([other])
                victims.append(other)
                broken += other.meta.uid in violating
        if not victims:  # it fits as things are: somebody else's search, not ours, went wrong
            return _NO_VICTIMS
        return _Candidate(self._node.name, tuple(sorted(victims, key=_importance)), broken)

    def _refused(self) -> Refusal | None:
        why = refused_by(self._info, self._node, (*self._profile.own, *self._profile.wide), self._ready)
        if why is None and self._node.name in self._cluster.nominated:
            why = beside_nominated(self._info, self._node, self._cluster, self._profile, self._ready)
        return why[0] if why else None

    def _leave(self, gone: Sequence[PodInfo]) -> None:
        self._node = self._node.without(gone)
        for other in gone:
            self._adjust(other, -1)

    def _come(self, other: PodInfo) -> None:
        self._node = self._node.with_pod(other)
        self._adjust(other, 1)

    def _adjust(self, other: PodInfo, count: int) -> None:
        for plugin in self._profile.preparing:
            self._ready[plugin.name] = plugin.adjust(self._info, self._ready[plugin.name], other, self._node, count)


def violations_of(pods: Iterable[PodInfo], budgets: Iterable[Budget]) -> frozenset[str]:
    """The uids of pods whose going would break a budget, if all went in this order."""
    left = [[budget.status.disruptions_allowed, budget] for budget in budgets]
    return frozenset(info.meta.uid for info in pods if info.meta.labels and _breaks(info, left))


def _breaks(info: PodInfo, left: list[list[Any]]) -> bool:
    """Take the pod from every budget that protects it, up to the first that has nothing left."""
    for entry in left:
        budget: Budget = entry[1]
        if budget.metadata.namespace != info.meta.namespace or budget.spec.selector is None:
            continue
        terms = budget.spec.selector.terms
        if not terms or not matches(terms, info.meta.labels) or info.meta.name in budget.status.disrupted_pods:
            continue
        entry[0] -= 1
        if entry[0] < 0:
            return True
    return False


def _cheapest(candidates: Sequence[_Candidate]) -> _Candidate:
    lowest = min(candidate.cost() for candidate in candidates)
    equal = [candidate for candidate in candidates if candidate.cost() == lowest]
    latest = max(candidate.earliest_start() for candidate in equal)
    return next(candidate for candidate in equal if candidate.earliest_start() == latest)


def _importance(info: PodInfo) -> tuple[int, str]:
    return (-info.priority, _started(info))


def _started(info: PodInfo) -> str:
    """When it started; a pod that has not started counts as starting after all others."""
    return info.pod.status.start_time or "9999"

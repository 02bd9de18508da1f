"""Say how many pods of a PodDisruptionBudget may be evicted now. Pure: no clock, no network, no log.

The API server spends what is said here, one eviction at a time, and notes each victim in `disruptedPods`; a write of
ours never overtakes one of its, for it names the version that it was planned from.

Source: k/k `pkg/controller/disruption/disruption.go`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from labctl.kube.errors import Document
from labctl.kube.meta import OwnerReference
from labctl.kube.resources import POD_DISRUPTION_BUDGETS, PODS
from master.controllers.pods import Labelled, condition, is_ready
from master.controllers.protocol import NEVER_S, Controller, Plan, Step, Tell, World, each, patch, ref
from master.controllers.rollout import scaled
from master.controllers.views import PODS_KIND, Pod
from master.controllers.views_apps import STATEFUL_SETS_KIND, StatefulSet
from master.controllers.views_deployments import DEPLOYMENTS_KIND, REPLICA_SETS_KIND, Deployment
from master.controllers.views_policy import BUDGETS_KIND, Budget

_DELETION_S = 120.0  # how long after its eviction a pod may still show no deletion


Eviction = tuple[str, str, str]  # the budget's uid, the pod's name, the API server's stamp


@dataclass(frozen=True, slots=True)
class Memory:
    """Budgets whose lack of pods, or of countable ones, was told; and since when evictions not yet seen done are known.

    An eviction's stamp is another machine's, whose clock may be a day from ours: its age is counted on ours alone.
    """

    told: frozenset[tuple[str, str]] = frozenset()
    since_s: Mapping[Eviction, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Needs:
    """How many pods there should be, and how many of them healthy."""

    expected: int
    healthy: int


class _UncountableError(Exception):
    """Some pod belongs to nobody who says how many there should be."""


def plan(world: World, memory: Memory) -> Plan:
    """Recount every budget; look again when a pod that was evicted should be gone."""
    if not world.all(BUDGETS_KIND):
        return Plan(memory=Memory())
    pods = Labelled(world.all(PODS_KIND).values())
    scales = _scales(world)
    wakes: list[float] = []
    told: set[tuple[str, str]] = set()
    since_s: dict[Eviction, float] = {}
    for item in world.all(BUDGETS_KIND).values():
        for name, stamp in item.status.disrupted_pods.items():
            eviction = (item.metadata.uid, name, stamp)
            since_s[eviction] = memory.since_s.get(eviction, world.now_s)

    def decide(item: Budget) -> Iterator[Step]:
        selector = item.spec.selector.terms if item.spec.selector else None
        chosen = pods.chosen(item.metadata.namespace, selector) if selector is not None else []
        for step in _Count(item, world, chosen, scales, since_s, wakes).steps():
            fresh = [act for act in step.actions if not _stale(item, act, memory, told)]
            if fresh:
                yield Step(step.about, tuple(fresh))

    steps = tuple(each(POD_DISRUPTION_BUDGETS, world.all(BUDGETS_KIND).values(), decide))
    return Plan(steps, min(wakes, default=NEVER_S), Memory(frozenset(told), since_s))


def _stale(item: Budget, action: Any, memory: Memory, told: set[tuple[str, str]]) -> bool:
    """Whether an Event about the budget's lasting state was told before."""
    if not isinstance(action, Tell) or action.about is not None:
        return False
    key = (item.metadata.uid, action.reason)
    told.add(key)
    return key in memory.told


def _scales(world: World) -> Mapping[str, tuple[str, int]]:
    """By the uid of what may own a pod: the uid of the one who decides the number, and the number."""
    found: dict[str, tuple[str, int]] = {}
    tops: list[Deployment | StatefulSet] = [*world.all(DEPLOYMENTS_KIND).values()]
    for item in (*tops, *world.all(STATEFUL_SETS_KIND).values()):
        found[item.metadata.uid] = (item.metadata.uid, item.spec.replicas)
    for one in world.all(REPLICA_SETS_KIND).values():
        owner = one.metadata.controller
        above = found.get(owner.uid) if owner is not None else None
        found[one.metadata.uid] = above or (one.metadata.uid, one.spec.replicas)
    return found


@dataclass(slots=True)
class _Count:
    """One budget and the pods that it chooses."""

    item: Budget
    world: World
    pods: Sequence[Pod]
    scales: Mapping[str, tuple[str, int]]
    since_s: Mapping[Eviction, float]
    wakes: list[float]

    def steps(self) -> Iterator[Step]:
        """The status as it should be, with the Events that explain it."""
        item = self.item
        about = ref(POD_DISRUPTION_BUDGETS, item.metadata)
        if not self.pods:
            yield Step(about, (Tell(reason="NoPods", message="No matching pods found"),))
        try:
            needs = self._needs()
        except _UncountableError as error:
            message = f"Failed to calculate the number of expected pods: {error}"
            yield Step(about, (Tell(reason="CalculateExpectedPodCountFailed", message=message, type="Warning"),))
            yield from self._write({"disruptionsAllowed": 0}, ("False", "SyncFailed", str(error)))
            return
        disrupted, late = self._disrupted()
        for pod in late:
            message = f"Pod was expected by PDB {item.metadata.key} to be deleted but it wasn't"
            told = Tell(reason="NotDeleted", message=message, type="Warning", about=ref(PODS, pod.metadata))
            yield Step(ref(PODS, pod.metadata), (told,))
        healthy = sum(
            is_ready(pod) and not pod.metadata.deleting and pod.metadata.name not in disrupted for pod in self.pods
        )
        allowed = max(0, healthy - needs.healthy) if needs.expected > 0 else 0
        counts: Document = {
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": needs.healthy,
            "expectedPods": needs.expected,
            "observedGeneration": item.metadata.generation,
            "disruptedPods": disrupted,
        }
        yield from self._write(counts, ("True", "SufficientPods", "") if allowed else ("False", "InsufficientPods", ""))

    def _needs(self) -> _Needs:
        spec = self.item.spec
        if spec.max_unavailable is not None:
            expected = self._expected()
            return _Needs(expected, max(0, expected - scaled(spec.max_unavailable, expected, up=True)))
        if isinstance(spec.min_available, str):
            expected = self._expected()
            return _Needs(expected, scaled(spec.min_available, expected, up=True))
        return _Needs(len(self.pods), spec.min_available or 0)

    def _expected(self) -> int:
        """How many pods their owners want in all."""
        wanted: dict[str, int] = {}
        for pod in self.pods:
            owner = pod.metadata.controller
            if owner is None:
                raise _UncountableError(f'found no controller ref for pod "{pod.metadata.name}"')
            if owner.uid not in self.scales:
                raise _UncountableError(_no_scale(owner))
            uid, replicas = self.scales[owner.uid]
            wanted[uid] = replicas
        return sum(wanted.values())

    def _disrupted(self) -> tuple[dict[str, str], list[Pod]]:
        """Evicted pods whose deletion is still to be seen, and those that were not deleted in time."""
        waiting: dict[str, str] = {}
        late: list[Pod] = []
        by_name = {pod.metadata.name: pod for pod in self.pods}
        for name, stamp in self.item.status.disrupted_pods.items():
            pod = by_name.get(name)
            if pod is None or pod.metadata.deleting:
                continue
            left_s = self.since_s[self.item.metadata.uid, name, stamp] + _DELETION_S - self.world.now_s
            if left_s <= 0:
                late.append(pod)
                continue
            waiting[name] = stamp
            self.wakes.append(max(0.05, left_s))
        return waiting, late

    def _write(self, counts: Document, verdict: tuple[str, str, str]) -> Iterator[Step]:
        item, (status, reason, message) = self.item, verdict
        present = msgspec.to_builtins(item.status)
        old = condition(item.status.conditions, "DisruptionAllowed")
        same = old is not None and (old.status, old.reason, old.message) == verdict
        if same and all(present[key] == value for key, value in counts.items()):
            return
        moved = old.last_transition_time if old is not None and old.status == status else self.world.stamp
        entry = {
            "type": "DisruptionAllowed",
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": moved,
            "observedGeneration": item.metadata.generation,
        }
        others = [one for one in present["conditions"] if one["type"] != "DisruptionAllowed"]
        kept = [{key: value for key, value in one.items() if value} for one in others]
        if "disruptedPods" in counts:  # a merge patch takes out only what it names
            gone = {name: None for name in item.status.disrupted_pods if name not in counts["disruptedPods"]}
            counts = {**counts, "disruptedPods": {**counts["disruptedPods"], **gone}}
        body = {"status": {**counts, "conditions": [*kept, entry]}}
        change = patch(POD_DISRUPTION_BUDGETS, item.metadata, body, exact=True, subresource="status")
        yield Step(ref(POD_DISRUPTION_BUDGETS, item.metadata), (change,))


def _no_scale(owner: OwnerReference) -> str:
    return f"{owner.kind.lower()}s.{owner.api_version.partition('/')[0]} does not implement the scale subresource"


CONTROLLER = Controller(
    name="disruption",
    reads=(BUDGETS_KIND, PODS_KIND, DEPLOYMENTS_KIND, REPLICA_SETS_KIND, STATEFUL_SETS_KIND),
    plan=plan,
    memory=Memory(),
    min_interval_s=0.05,
)

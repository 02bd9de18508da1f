"""Keep as many pods as a ReplicaSet asks for. Pure: no clock, no network, no log.

Source: k/k `pkg/controller/replicaset/replica_set.go` (counts, adoption, deletion order, conditions, burst 500).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cmp_to_key

import msgspec

from labctl.kube.errors import Document
from labctl.kube.resources import PODS, REPLICA_SETS
from labctl.runtime.clock import parse_time
from master.controllers.claiming import Related, claim, pod_of
from master.controllers.pods import (
    condition,
    is_active,
    is_available,
    is_finished,
    is_ready,
    ready_for_s,
    restarts,
    selector_of,
    unique_names,
)
from master.controllers.protocol import (
    Controller,
    Create,
    Plan,
    Step,
    Tell,
    World,
    delete,
    each,
    patch,
    ref,
)
from master.controllers.views import PODS_KIND, Condition, Pod
from master.controllers.views_deployments import REPLICA_SETS_KIND, ReplicaSet

_BURST = 50  # creations for one set in one pass, so that others get their turn


def plan(world: World, memory: None) -> Plan:
    """Adopt, create and delete pods; report status; look again when a pod becomes available by waiting."""
    related = Related(world.all(PODS_KIND).values())
    sets = world.all(REPLICA_SETS_KIND).values()
    steps = tuple(each(REPLICA_SETS, sets, lambda item: _steps(item, world, related)))
    return Plan(steps, related.wake_after_s, memory)


def _steps(item: ReplicaSet, world: World, related: Related) -> Iterator[Step]:
    mine, claims = claim(REPLICA_SETS, item.metadata, selector_of(item.spec.selector), related)
    yield from claims
    active = [pod for pod in mine if is_active(pod)]
    if not item.metadata.deleting:
        yield from _scale(item, mine, active, world, related)
    waiting = [
        item.spec.min_ready_seconds - ready_for_s(pod, world.now)
        for pod in active
        if is_ready(pod) and not is_available(pod, item.spec.min_ready_seconds, world.now)
    ]
    for wait_s in waiting:
        related.wake(wait_s)
    yield from _status(item, mine, active, world)


def _scale(
    item: ReplicaSet, mine: Sequence[Pod], active: Sequence[Pod], world: World, related: Related
) -> Iterator[Step]:
    about = ref(REPLICA_SETS, item.metadata)
    missing = item.spec.replicas - len(active)
    if missing > 0:
        template = msgspec.json.decode(item.spec.template)
        state = (item.metadata.uid, str(item.metadata.generation), *sorted(pod.metadata.uid for pod in mine))
        taken = [pod.metadata.name for pod in mine]
        for name in unique_names(f"{item.metadata.name}-", min(missing, _BURST), *state, taken=taken):
            create = Create(
                resource=PODS,
                namespace=item.metadata.namespace,
                body=pod_of(template, REPLICA_SETS, item.metadata, name),
            )
            told = Tell(reason="SuccessfulCreate", message=f"Created pod: {name}")
            yield Step(about, (create, told), failure_reason="FailedCreate", failure_prefix="Error creating: ")
        if missing > _BURST:
            related.wake_after_s = 0.0
    elif missing < 0:
        for pod in surplus(active, -missing, _neighbours(item, world, related), world):
            told = Tell(reason="SuccessfulDelete", message=f"Deleted pod: {pod.metadata.name}")
            yield Step(about, (delete(PODS, pod.metadata), told), failure_reason="FailedDelete")


def _neighbours(item: ReplicaSet, world: World, related: Related) -> Mapping[str, int]:
    """Active pods per node of all sets with the same owner: where a rollout doubles up, the doubled go first."""
    owner = item.metadata.controller
    uids = [item.metadata.uid]
    if owner is not None:
        uids = [
            other.metadata.uid
            for other in world.all(REPLICA_SETS_KIND).values()
            if other.metadata.controller is not None and other.metadata.controller.uid == owner.uid
        ]
    counts: dict[str, int] = {}
    for uid in uids:
        for pod in related.owned.get(uid, ()):
            if is_active(pod) and pod.spec.node_name:
                counts[pod.spec.node_name] = counts.get(pod.spec.node_name, 0) + 1
    return counts


def surplus(pods: Sequence[Pod], count: int, per_node: Mapping[str, int], world: World) -> list[Pod]:
    """The pods to delete first, as `ActivePodsWithRanks` orders them.

    Unassigned, then pending, then not ready, then cheaper by annotation, then on crowded nodes, then ready for a
    shorter time, then more restarts, then younger. Times are told apart by their magnitude only, so that the choice is
    not always the same age; within one magnitude the uid decides.
    """
    ranks = [(_Rank(pod, per_node.get(pod.spec.node_name, 0), world), pod) for pod in pods]
    ranks.sort(key=cmp_to_key(_earlier))
    return [pod for _, pod in ranks[:count]]


class _Rank:
    """What decides how early a pod goes, read once a pod: sorting compares each one many times."""

    __slots__ = ("age_s", "exact", "ready_s", "restarts", "uid")

    def __init__(self, pod: Pod, crowd: int, world: World) -> None:
        phases = {"Pending": 0, "Unknown": 1, "Running": 2}
        ready = is_ready(pod)
        self.exact = (
            bool(pod.spec.node_name),
            phases.get(pod.status.phase, 0),
            ready,
            _deletion_cost(pod),
            -crowd,
        )
        self.ready_s = ready_for_s(pod, world.now) if ready else None
        self.restarts = restarts(pod)
        made = pod.metadata.creation_timestamp
        self.age_s = (world.now - parse_time(made)).total_seconds() if made else 0.0
        self.uid = pod.metadata.uid


def _earlier(first: tuple[_Rank, Pod], second: tuple[_Rank, Pod]) -> int:
    """Negative where `first` goes before `second`."""
    one, other = first[0], second[0]
    if one.exact != other.exact:
        return -1 if one.exact < other.exact else 1
    if one.ready_s is not None and other.ready_s is not None and one.ready_s != other.ready_s:
        return _shorter(one, other, one.ready_s, other.ready_s)
    if one.restarts != other.restarts:
        return other.restarts - one.restarts
    return _shorter(one, other, one.age_s, other.age_s)


def _shorter(one: _Rank, other: _Rank, first_s: float, second_s: float) -> int:
    magnitudes = [int(max(seconds, 0.0) * 1e9).bit_length() for seconds in (first_s, second_s)]
    return magnitudes[0] - magnitudes[1] or (-1 if one.uid < other.uid else 1 if one.uid > other.uid else 0)


def _deletion_cost(pod: Pod) -> int:
    text = pod.metadata.annotations.get("controller.kubernetes.io/pod-deletion-cost", "0")
    try:
        return int(text)
    except ValueError:
        return 0


def _status(item: ReplicaSet, mine: Sequence[Pod], active: Sequence[Pod], world: World) -> Iterator[Step]:
    template = msgspec.json.decode(item.spec.template)
    labels = ((template.get("metadata") or {}).get("labels") or {}).items()
    wanted: Document = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(labels <= pod.metadata.labels.items() for pod in active),
        "readyReplicas": sum(is_ready(pod) for pod in active),
        "availableReplicas": sum(is_available(pod, item.spec.min_ready_seconds, world.now) for pod in active),
        "terminatingReplicas": sum(pod.metadata.deleting and not is_finished(pod) for pod in mine),
        "observedGeneration": item.metadata.generation,
    }
    status = item.status
    conditions = _conditions(item, len(active), world)
    present = {
        "replicas": status.replicas,
        "fullyLabeledReplicas": status.fully_labeled_replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "terminatingReplicas": status.terminating_replicas or 0,
        "observedGeneration": status.observed_generation,
    }
    if wanted != present or conditions != status.conditions:
        if conditions != status.conditions:
            kept = [msgspec.to_builtins(one) for one in conditions]
            wanted["conditions"] = [{key: value for key, value in one.items() if value} for one in kept]
        change = patch(REPLICA_SETS, item.metadata, {"status": wanted}, exact=True, subresource="status")
        yield Step(ref(REPLICA_SETS, item.metadata), (change,))


def _conditions(item: ReplicaSet, active: int, world: World) -> tuple[Condition, ...]:
    """ReplicaFailure from the first creation or deletion that failed until the number is right."""
    present, failure = item.status.conditions, world.failures.get(item.metadata.uid)
    known = condition(present, "ReplicaFailure")
    if known is None and failure is not None and not item.metadata.deleting:
        fresh = Condition(
            type="ReplicaFailure",
            status="True",
            reason=failure.reason,
            message=failure.message,
            last_transition_time=world.stamp,
        )
        return (*present, fresh)
    if known is not None and failure is None and active == item.spec.replicas:
        return tuple(one for one in present if one.type != "ReplicaFailure")
    return present


CONTROLLER = Controller(name="replicaset", reads=(PODS_KIND, REPLICA_SETS_KIND), plan=plan)

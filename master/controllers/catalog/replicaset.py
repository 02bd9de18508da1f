"""Keep as many pods as a ReplicaSet asks for. Pure: no clock, no network, no log.

Source: k/k `pkg/controller/replicaset/replica_set.go` (counts, adoption, deletion order, conditions, burst 500).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.errors import Document
from labctl.kube.resources import PODS, REPLICA_SETS
from labctl.kube.selectors import matches
from master.controllers.pods import (
    by_controller,
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
    NEVER_S,
    Controller,
    Create,
    Plan,
    Step,
    Tell,
    World,
    delete,
    each,
    owner_reference,
    patch,
    ref,
)
from master.controllers.views import (
    PODS_KIND,
    REPLICA_SETS_KIND,
    Pod,
    ReplicaSet,
)

_BURST = 50  # creations for one set in one pass, so that others get their turn


def plan(world: World, memory: None) -> Plan:
    """Adopt, create and delete pods; report status; look again when a pod becomes available by waiting."""
    pods_of = by_controller(world.all(PODS_KIND).values())
    related = _Related(pods_of)
    sets = world.all(REPLICA_SETS_KIND).values()
    steps = tuple(each(REPLICA_SETS, sets, lambda item: _steps(item, world, related)))
    return Plan(steps, related.wake_after_s, memory)


class _Related:
    """Pods by owner and by namespace, and the pass's next wake."""

    def __init__(self, pods_of: Mapping[str, list[Pod]]) -> None:
        self.owned = pods_of
        self.orphans: dict[str, list[Pod]] = {}
        for pod in pods_of.get("", ()):
            self.orphans.setdefault(pod.metadata.namespace, []).append(pod)
        self.wake_after_s = NEVER_S


def _steps(item: ReplicaSet, world: World, related: _Related) -> Iterator[Step]:
    selector = selector_of(item.spec.selector)
    mine = [pod for pod in related.owned.get(item.metadata.uid, ()) if matches(selector, pod.metadata.labels)]
    strays = [pod for pod in related.owned.get(item.metadata.uid, ()) if not matches(selector, pod.metadata.labels)]
    yield from (_release(item, pod) for pod in strays if not pod.metadata.deleting)
    adopted: list[Pod] = []
    if not item.metadata.deleting:
        for pod in related.orphans.get(item.metadata.namespace, ()):
            if is_active(pod) and matches(selector, pod.metadata.labels):
                adopted.append(pod)
                yield _adopt(item, pod)
    active = [pod for pod in (*mine, *adopted) if is_active(pod)]
    if not item.metadata.deleting:
        yield from _scale(item, mine, active, world, related)
    waiting = [
        item.spec.min_ready_seconds - ready_for_s(pod, world.now)
        for pod in active
        if is_ready(pod) and not is_available(pod, item.spec.min_ready_seconds, world.now)
    ]
    related.wake_after_s = min([related.wake_after_s, *(max(0.05, wait_s) for wait_s in waiting)])
    yield from _status(item, mine, active, world)


def _release(item: ReplicaSet, pod: Pod) -> Step:
    """A pod whose labels no longer match is let go, alive."""
    body = {"metadata": {"ownerReferences": [{"$patch": "delete", "uid": item.metadata.uid}]}}
    return Step(ref(PODS, pod.metadata), (patch(PODS, pod.metadata, body, kind=STRATEGIC_PATCH),))


def _adopt(item: ReplicaSet, pod: Pod) -> Step:
    body = {"metadata": {"ownerReferences": [owner_reference(REPLICA_SETS, item.metadata)]}}
    return Step(ref(PODS, pod.metadata), (patch(PODS, pod.metadata, body, exact=True, kind=STRATEGIC_PATCH),))


def _scale(
    item: ReplicaSet, mine: Sequence[Pod], active: Sequence[Pod], world: World, related: _Related
) -> Iterator[Step]:
    about = ref(REPLICA_SETS, item.metadata)
    missing = item.spec.replicas - len(active)
    if missing > 0:
        template = msgspec.json.decode(item.spec.template)
        state = (item.metadata.uid, str(item.metadata.generation), *sorted(pod.metadata.uid for pod in mine))
        taken = [pod.metadata.name for pod in mine]
        for name in unique_names(f"{item.metadata.name}-", min(missing, _BURST), *state, taken=taken):
            create = Create(resource=PODS, namespace=item.metadata.namespace, body=_pod(item, template, name))
            told = Tell(reason="SuccessfulCreate", message=f"Created pod: {name}")
            yield Step(about, (create, told), failure_reason="FailedCreate", failure_prefix="Error creating: ")
        if missing > _BURST:
            related.wake_after_s = 0.0
    elif missing < 0:
        for pod in surplus(active, -missing, _neighbours(item, world, related), world):
            told = Tell(reason="SuccessfulDelete", message=f"Deleted pod: {pod.metadata.name}")
            yield Step(about, (delete(PODS, pod.metadata), told), failure_reason="FailedDelete")


def _pod(item: ReplicaSet, template: Document, name: str) -> Document:
    meta = template.get("metadata") or {}
    kept = {key: meta[key] for key in ("labels", "annotations", "finalizers") if meta.get(key)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **kept,
            "name": name,
            "generateName": f"{item.metadata.name}-",
            "namespace": item.metadata.namespace,
            "ownerReferences": [owner_reference(REPLICA_SETS, item.metadata)],
        },
        "spec": template.get("spec") or {},
    }


def _neighbours(item: ReplicaSet, world: World, related: _Related) -> Mapping[str, int]:
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
    shorter time, then more restarts, then younger.
    """
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}

    def rank(pod: Pod) -> tuple[Any, ...]:
        return (
            bool(pod.spec.node_name),
            phases.get(pod.status.phase, 2),
            is_ready(pod),
            _deletion_cost(pod),
            -per_node.get(pod.spec.node_name, 0),
            _log2(ready_for_s(pod, world.now)) if is_ready(pod) else 0,
            -restarts(pod),
            _Younger(pod.metadata.creation_timestamp),
            pod.metadata.uid,
        )

    return sorted(pods, key=rank)[:count]


class _Younger(str):
    """A time stamp that sorts the newest first."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


def _log2(seconds: float) -> int:
    """Ages are told apart by their magnitude only, so that the choice is not always the same age."""
    return int(max(seconds, 0.0)).bit_length()


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
    present = {
        "replicas": status.replicas,
        "fullyLabeledReplicas": status.fully_labeled_replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "terminatingReplicas": status.terminating_replicas or 0,
        "observedGeneration": status.observed_generation,
    }
    if wanted != present:
        yield Step(
            ref(REPLICA_SETS, item.metadata),
            (patch(REPLICA_SETS, item.metadata, {"status": wanted}, exact=True, subresource="status"),),
        )


CONTROLLER = Controller(name="replicaset", reads=(PODS_KIND, REPLICA_SETS_KIND), plan=plan)

"""Remove pods that nobody else will: of nodes that are gone, finished in great number, or never scheduled. Pure.

Source: k/k `pkg/controller/podgc/gc_controller.go`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.resources import NODES, PODS
from master.controllers.pods import is_finished, is_true, stamped
from master.controllers.protocol import (
    NEVER_S,
    Action,
    ConfirmAbsent,
    Controller,
    Plan,
    Step,
    World,
    delete,
    patch,
    ref,
)
from master.controllers.views import NODES_KIND, PODS_KIND, Node, Pod

_FINISHED_MOST = 12_500  # upstream's --terminated-pod-gc-threshold
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


@dataclass(frozen=True, slots=True)
class Memory:
    """Since when (our clock) each node that pods name has been missing."""

    missing_s: Mapping[str, float] = field(default_factory=dict)


def plan(world: World, memory: Memory) -> Plan:
    """Delete what is left over; look again when a missing node's quarantine ends, else every period if there is one."""
    nodes = world.all(NODES_KIND)
    pods = world.all(PODS_KIND).values()
    missing = {
        name: memory.missing_s.get(name, world.now_s)
        for name in {pod.spec.node_name for pod in pods}
        if name and name not in nodes
    }
    quarantine_s = world.settings.profile.pod_gc_quarantine_s
    out = {name for name, node in nodes.items() if _out_of_service(node)}
    steps: list[Step] = []
    for pod in pods:
        node = pod.spec.node_name
        if node in missing and world.now_s - missing[node] >= quarantine_s:
            steps.append(_orphaned(pod, world))
        elif pod.metadata.deleting and not node:
            steps.append(Step(ref(PODS, pod.metadata), (delete(PODS, pod.metadata, grace_s=0),)))
        elif pod.metadata.deleting and node in out:
            steps.append(_out_of_service_pod(pod, world))
    steps += _finished(pods=[pod for pod in pods if is_finished(pod) and not pod.metadata.deleting])
    waits = [quarantine_s - (world.now_s - since_s) for since_s in missing.values()]
    period_s = world.settings.profile.pod_gc_period_s
    wake_s = min((wait_s if wait_s > 0 else period_s for wait_s in waits), default=NEVER_S)
    return Plan(tuple(steps), wake_s, Memory(missing))


def _out_of_service(node: Node) -> bool:
    tainted = any(taint.key == OUT_OF_SERVICE for taint in node.spec.taints)
    return tainted and not is_true(node.status.conditions, "Ready")


def _orphaned(pod: Pod, world: World) -> Step:
    gone = ConfirmAbsent(resource=NODES, name=pod.spec.node_name)
    return Step(ref(PODS, pod.metadata), (gone, *_bury(pod, world, "PodGC: node no longer exists")))


def _out_of_service_pod(pod: Pod, world: World) -> Step:
    return Step(ref(PODS, pod.metadata), _bury(pod, world, "PodGC: node is out of service"))


def _bury(pod: Pod, world: World, why: str) -> tuple[Action, ...]:
    """Failed, with the reason on it, then gone without grace: no kubelet will answer."""
    actions: list[Action] = []
    if not is_finished(pod):
        entry = stamped("DisruptionTarget", "True", "DeletionByPodGC", why, world.stamp)
        body = {"status": {"phase": "Failed", "conditions": [entry]}}
        actions.append(patch(PODS, pod.metadata, body, subresource="status", kind=STRATEGIC_PATCH))
    return (*actions, delete(PODS, pod.metadata, grace_s=0))


def _finished(pods: list[Pod]) -> Iterator[Step]:
    """Those beyond the threshold: evicted ones first, then the oldest."""
    excess = len(pods) - _FINISHED_MOST
    for pod in sorted(pods, key=lambda pod: (pod.status.reason != "Evicted", pod.metadata.creation_timestamp))[
        : max(0, excess)
    ]:
        yield Step(ref(PODS, pod.metadata), (delete(PODS, pod.metadata, grace_s=0),))


CONTROLLER = Controller(name="pod_gc", reads=(PODS_KIND, NODES_KIND), plan=plan, memory=Memory(), min_interval_s=0.2)

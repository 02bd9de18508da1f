"""Evict pods that do not tolerate their node's NoExecute taints, once their tolerations run out. Pure.

Source: k/k `pkg/controller/tainteviction/taint_eviction.go`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.resources import PODS
from labctl.kube.taints import Taint, tolerates
from master.controllers.pods import stamped
from master.controllers.protocol import NEVER_S, Controller, Plan, Step, Tell, World, delete, patch, ref
from master.controllers.views import NODES_KIND, PODS_KIND, Node, Pod


@dataclass(frozen=True, slots=True)
class Memory:
    """Since when (our clock) each pod has had to go; by pod uid."""

    since_s: Mapping[str, float] = field(default_factory=dict)


def plan(world: World, memory: Memory) -> Plan:
    """Evict those whose time is up; forget those whose taint went; wake for the next."""
    tainted = {name: _no_execute(node) for name, node in world.all(NODES_KIND).items()}
    tainted = {name: taints for name, taints in tainted.items() if taints}
    steps: list[Step] = []
    since: dict[str, float] = {}
    wake_s = NEVER_S
    for pod in world.all(PODS_KIND).values():
        uid = pod.metadata.uid
        allowed_s = NEVER_S
        if pod.spec.node_name in tainted and not pod.metadata.deleting:
            allowed_s = tolerated_s(pod, tainted[pod.spec.node_name])
        if allowed_s == NEVER_S:
            if uid in memory.since_s and not pod.metadata.deleting:
                told = Tell(reason="TaintManagerEviction", message=f"Cancelling deletion of Pod {pod.metadata.key}")
                steps.append(Step(ref(PODS, pod.metadata), (told,)))
            continue
        since[uid] = memory.since_s.get(uid, world.now_s)
        left_s = since[uid] + allowed_s - world.now_s
        if left_s <= 0:
            steps.append(_evict(pod, world))
        else:
            wake_s = min(wake_s, left_s)
    return Plan(tuple(steps), wake_s, Memory(since))


def _no_execute(node: Node) -> tuple[Taint, ...]:
    return tuple(taint for taint in node.spec.taints if taint.effect == "NoExecute")


def tolerated_s(pod: Pod, taints: Sequence[Taint]) -> float:
    """For how long the pod may stay: the least time that the first toleration of any taint has; for ever without."""
    limits: list[float] = []
    for taint in taints:
        first = next((toleration for toleration in pod.spec.tolerations if tolerates(toleration, taint)), None)
        if first is None:
            return 0.0
        if first.toleration_seconds is not None:
            limits.append(first.toleration_seconds)
    return max(0.0, min(limits, default=NEVER_S))


def _evict(pod: Pod, world: World) -> Step:
    entry = stamped(
        "DisruptionTarget",
        "True",
        "DeletionByTaintManager",
        "Taint manager: deleting due to NoExecute taint",
        world.stamp,
    )
    body = {"status": {"conditions": [entry]}}
    return Step(
        ref(PODS, pod.metadata),
        (
            patch(PODS, pod.metadata, body, subresource="status", kind=STRATEGIC_PATCH),
            Tell(reason="TaintManagerEviction", message=f"Marking for deletion Pod {pod.metadata.key}"),
            delete(PODS, pod.metadata),
        ),
    )


CONTROLLER = Controller(name="taint_eviction", reads=(PODS_KIND, NODES_KIND), plan=plan, memory=Memory())

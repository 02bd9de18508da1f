"""Whether this node takes a pod that was bound to it. Pure.

The scheduler decides on what it knew; the kubelet has the last word. Source: k/k `pkg/kubelet/lifecycle/predicate.go`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from agents.kubelet.qos import pod_requests, qos_class
from agents.kubelet.seen import EVICTED, Rejection
from agents.kubelet.shutdown import CRITICAL_PRIORITY
from agents.kubelet.views import Pod

_MEMORY_TAINT = "node.kubernetes.io/memory-pressure"


def admit(
    pod: Pod, others: Iterable[Pod], *, allocatable: Mapping[str, int], labels: Mapping[str, str]
) -> Rejection | None:
    """None to take it. `allocatable`: CPU in thousandths, the rest in units; `others` are the pods taken before."""
    wrong = [key for key, value in pod.spec.node_selector.items() if labels.get(key) != value]
    if wrong:
        return Rejection("NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match")
    used: dict[str, int] = {"pods": 0}
    for other in others:
        used["pods"] += 1
        for name, amount in pod_requests(other).items():
            used[name] = used.get(name, 0) + amount
    for name, amount in {**pod_requests(pod), "pods": 1}.items():
        room = allocatable.get(name, 0)
        if amount > 0 and used.get(name, 0) + amount > room:
            words = f"requested: {amount}, used: {used.get(name, 0)}, capacity: {room}"
            return Rejection(f"OutOf{name}", f"Pod was rejected: Node didn't have enough resource: {name}, {words}")
    return None


def pressed(pod: Pod, pressures: Collection[str]) -> Rejection | None:
    """None to take it on a node with these conditions. `PIDPressure` and `DiskPressure` keep all but critical pods
    away; `MemoryPressure` alone those without any request, where they do not tolerate it.

    Source: k/k `pkg/kubelet/eviction/eviction_manager.go` (Admit).
    """
    if not pressures or pod.spec.priority >= CRITICAL_PRIORITY:
        return None
    if set(pressures) == {"MemoryPressure"} and (qos_class(pod) != "BestEffort" or _bears_memory_pressure(pod)):
        return None
    return Rejection(EVICTED, f"Pod was rejected: The node had condition: [{' '.join(sorted(pressures))}]. ")


def _bears_memory_pressure(pod: Pod) -> bool:
    return any(
        toleration.effect in {"", "NoSchedule"}
        and (toleration.key == _MEMORY_TAINT or (not toleration.key and toleration.operator == "Exists"))
        for toleration in pod.spec.tolerations
    )

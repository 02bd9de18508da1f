"""Quality of service: a pod's class, its requests, and how readily the kernel kills it. Pure.

Source: k/k `pkg/apis/core/helper/qos`, `pkg/kubelet/qos/policy.go`, `pkg/api/v1/resource/helpers.go`.
"""

from __future__ import annotations

from collections.abc import Mapping

from agents.kubelet.views import Container, Pod
from labctl.kube import quantity

_COMPUTE = ("cpu", "memory")
_GUARANTEED, _BEST_EFFORT = -997, 1000


def requests(container: Container) -> dict[str, int]:
    """CPU in thousandths, the rest in units; a limit without a request is the request."""
    merged = {**container.resources.limits, **container.resources.requests}
    return {name: _amount(name, value) for name, value in merged.items()}


def limits(container: Container) -> dict[str, int]:
    """CPU in thousandths, the rest in units."""
    return {name: _amount(name, value) for name, value in container.resources.limits.items()}


def _amount(name: str, value: str | int | float) -> int:
    return quantity.milli(value) if name == "cpu" else quantity.whole(value)


def pod_requests(pod: Pod) -> dict[str, int]:
    """What the scheduler counts: the containers' sum, or the hungriest moment of the init phase if larger."""
    total: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in pod.spec.containers:
        _add(total, requests(container))
    for container in pod.spec.init_containers:
        wanted = requests(container)
        if container.restart_policy == "Always":
            _add(sidecars, wanted)
            wanted = {}
        for name in wanted.keys() | sidecars.keys():
            peak[name] = max(peak.get(name, 0), wanted.get(name, 0) + sidecars.get(name, 0))
    _add(total, sidecars)
    return {name: max(total.get(name, 0), peak.get(name, 0)) for name in total.keys() | peak.keys()}


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def qos_class(pod: Pod) -> str:
    """Guaranteed where every container's CPU and memory limits equal its requests, BestEffort where none has any."""
    containers = (*pod.spec.containers, *pod.spec.init_containers)
    wanted = [{n: v for n, v in requests(c).items() if n in _COMPUTE and v} for c in containers]
    capped = [{n: v for n, v in limits(c).items() if n in _COMPUTE and v} for c in containers]
    if not any(wanted) and not any(capped):
        return "BestEffort"
    whole = all(len(top) == len(_COMPUTE) and top == want for want, top in zip(wanted, capped, strict=True))
    return "Guaranteed" if whole else "Burstable"


def oom_score_adj(pod: Pod, container: Container, memory_bytes: int) -> int:
    """The more memory a burstable container asked for, the later the kernel kills it (on a node of `memory_bytes`)."""
    kind = qos_class(pod)
    if kind == "Guaranteed":
        return _GUARANTEED
    if kind == "BestEffort":
        return _BEST_EFFORT
    share = 1000 * requests(container).get("memory", 0) // max(1, memory_bytes)
    return max(1000 + _GUARANTEED, min(_BEST_EFFORT - 1, 1000 - share))

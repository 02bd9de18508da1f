"""What held when, read out of a drill's history: endpoints, pods, leaders, and the requests that count. Pure.

Zero is the moment at which the first fault was ordered, so a slow power switch counts against the cluster's
figures, never for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from labctl.drills.history import History
from labctl.drills.records import (
    LEADERS,
    EndpointSeen,
    FaultBegan,
    LeaseSeen,
    NodeSeen,
    PodSeen,
    Probed,
    Scene,
    SliceSeen,
)

T = TypeVar("T")

UNREACHABLE = "node.kubernetes.io/unreachable"
NOT_READY = "node.kubernetes.io/not-ready"
_NEVER = float("inf")


def zero_s(history: History) -> float | None:
    """The moment that times count from; None where no fault was begun."""
    began = history.first(FaultBegan)
    return began[0] if began else None


def load(history: History) -> list[Probed]:
    """The requests that count: those that ended after the fault. What failed while a lab became steady does not.

    Nor do requests by a node whose machine was fenced, from the taint on that allowed it: nobody is reached there.
    """
    zero = zero_s(history)
    probes = [probe for _, probe in history.of(Probed)]
    if zero is None:
        return probes
    closed = fenced_from(history)
    return [probe for probe in probes if ended_s(probe) >= zero and ended_s(probe) < closed.get(probe.via, _NEVER)]


def fenced_from(history: History) -> dict[str, float]:
    """The addresses of nodes that the cluster had powered off during the drill, and when each was given up."""
    zero, staged = zero_s(history), history.first(Scene)
    if zero is None or staged is None:
        return {}
    since: dict[str, float] = {}
    found: dict[str, float] = {}
    for at_s, node in history.of(NodeSeen):
        if at_s < zero or node.event == "DELETED":
            continue
        if f"{UNREACHABLE}:NoExecute" in node.taints:
            since.setdefault(node.name, at_s)
        if node.fenced and node.name in since:
            found.setdefault(staged[1].machines.get(node.name, node.address), since[node.name])
    return found


def error_window_s(probes: list[Probed]) -> float:
    """From the first failed request's intended send to the last one's end; 0 where none failed."""
    failed = [probe for probe in probes if not probe.ok]
    if not failed:
        return 0.0
    first_s = min(probe.intended_s for probe in failed)
    return round(max(ended_s(probe) for probe in failed) - first_s, 3)


def slices_over_time(history: History, scene: Scene) -> Iterator[tuple[float, tuple[EndpointSeen, ...]]]:
    """Every endpoint of the service, after each change of one of its slices."""
    slices: dict[str, tuple[EndpointSeen, ...]] = {}
    for at_s, found in history.of(SliceSeen):
        if scene.covers_slice(found):
            slices[found.name] = () if found.event == "DELETED" else found.endpoints
            yield at_s, tuple(endpoint for endpoints in slices.values() for endpoint in endpoints)


def pods_over_time(history: History, scene: Scene) -> Iterator[tuple[float, dict[str, PodSeen]]]:
    """The workload's pods by uid, after each change of one of them."""
    pods: dict[str, PodSeen] = {}
    for at_s, pod in history.of(PodSeen):
        if not scene.covers(pod):
            continue
        if pod.event == "DELETED":
            pods.pop(pod.uid, None)
        else:
            pods[pod.uid] = pod
        yield at_s, dict(pods)


def condemned(history: History, scene: Scene) -> dict[str, tuple[float | None, PodSeen]]:
    """The workload's pods that were on a victim at the fault, by uid: when marked for deletion, and as last seen."""
    zero = zero_s(history) or 0.0
    found: dict[str, tuple[float | None, PodSeen]] = {}
    for at_s, pod in history.of(PodSeen):
        if not scene.covers(pod) or pod.node not in scene.victims:
            continue
        ending = pod.deleting or pod.event == "DELETED"
        if at_s < zero:
            found.pop(pod.uid, None)
            if not ending:
                found[pod.uid] = (None, pod)
        elif pod.uid in found and found[pod.uid][0] is None:
            found[pod.uid] = (at_s if ending else None, pod)
    return found


def toleration_s(pod: PodSeen) -> float | None:
    """How long the pod tolerates an unreachable node; None: for ever."""
    for key in (UNREACHABLE, ""):
        if key in pod.tolerates_s:
            return pod.tolerates_s[key]
    return 0.0


def ended_s(probe: Probed) -> float:
    """When the request's fate was known."""
    return probe.intended_s + probe.latency_s


def handovers(history: History) -> dict[str, float]:
    """When each lease of a leader first had another holder than before the fault; those that changed hands."""
    zero = zero_s(history) or 0.0
    before: dict[str, str] = {}
    found: dict[str, float] = {}
    for at_s, lease in history.of(LeaseSeen):
        if lease.namespace != LEADERS or not lease.holder:
            continue
        if at_s < zero:
            before[lease.name] = lease.holder
        elif lease.holder != before.get(lease.name, lease.holder):
            found.setdefault(lease.name, at_s)
    return found


def since_zero(zero: float, states: Iterable[tuple[float, T]]) -> Iterator[tuple[float, T]]:
    """The state that held at `zero`, as of then, and every later one."""
    held: tuple[T] | None = None
    passed = False
    for at_s, state in states:
        if at_s >= zero:
            if held is not None and not passed:
                yield zero, held[0]
            passed = True
            yield at_s, state
        held = (state,)
    if held is not None and not passed:
        yield zero, held[0]

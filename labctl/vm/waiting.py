"""What the cluster waits for, in sentences: silent nodes, evictions that are due, fencing. For `labctl status`.

Pure but for `look`. Seconds are by the cluster's own clock, that of the machine that leads: this host's may differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TypeVar

import msgspec

from labctl.kube.client import Client
from labctl.kube.fencing import CONDITION
from labctl.kube.meta import ObjectMeta
from labctl.kube.resources import LEASES, NODES, PODS, Resource
from labctl.kube.taints import Taint, Toleration, tolerates
from labctl.runtime.clock import parse_time

T = TypeVar("T")
_LEADER = "kube-controller-manager"
_NAMES = 4


class _View(msgspec.Struct, frozen=True, rename="camel"):
    pass


class Condition(_View, frozen=True):
    """A node's condition."""

    type: str
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class _NodeSpec(_View, frozen=True):
    taints: tuple[Taint, ...] = ()


class _NodeStatus(_View, frozen=True):
    conditions: tuple[Condition, ...] = ()


class Node(_View, frozen=True):
    """A node."""

    metadata: ObjectMeta
    spec: _NodeSpec = _NodeSpec()
    status: _NodeStatus = _NodeStatus()

    def condition(self, kind: str) -> Condition:
        """Its condition of that type; an empty one where there is none."""
        return next((entry for entry in self.status.conditions if entry.type == kind), Condition(kind))


class _PodSpec(_View, frozen=True):
    node_name: str = ""
    tolerations: tuple[Toleration, ...] = ()


class Pod(_View, frozen=True):
    """A pod."""

    metadata: ObjectMeta
    spec: _PodSpec = _PodSpec()


class _LeaseSpec(_View, frozen=True):
    renew_time: str | None = None


class _Lease(_View, frozen=True):
    metadata: ObjectMeta
    spec: _LeaseSpec = _LeaseSpec()


def look(client: Client) -> tuple[str, ...]:
    """Ask the API; nothing is awaited where all nodes speak. Raises ApiError where it does not answer."""
    nodes = _all(client, NODES, Node)
    silent = [node for node in nodes if node.condition("Ready").status == "Unknown"]
    if not silent:
        return ()
    leases = _all(client, LEASES, _Lease, "kube-system")
    stamp = next((lease.spec.renew_time for lease in leases if lease.metadata.name == _LEADER), None)
    return sentences(nodes, _all(client, PODS, Pod), parse_time(stamp) if stamp else None)


def sentences(nodes: Iterable[Node], pods: Iterable[Pod], now: datetime | None) -> tuple[str, ...]:
    """One sentence for each thing awaited."""
    silent = sorted(
        (node for node in nodes if node.condition("Ready").status == "Unknown"), key=lambda node: node.metadata.name
    )
    there = sorted(pods, key=lambda pod: pod.metadata.key)
    found: list[str] = []
    for node in silent:
        mine = [pod for pod in there if pod.spec.node_name == node.metadata.name]
        found += _about(node, mine, now)
    return tuple(found)


def _about(node: Node, pods: list[Pod], now: datetime | None) -> Iterator[str]:
    name = node.metadata.name
    since = node.condition("Ready").last_transition_time
    ago = f", {_seconds(now, since):.0f} s" if now and since else ""
    yield f"{name} to speak again: Unknown since {since or 'it was made'}{ago}"
    taint = next((taint for taint in node.spec.taints if taint.effect == "NoExecute"), None)
    staying = [pod for pod in pods if not pod.metadata.deleting]
    if taint is None and pods:
        yield f"its turn to be evicted: {name} carries no NoExecute taint yet"
    elif taint is not None and now:
        yield from _evictions(name, taint, staying, now)
    condemned = [pod for pod in pods if pod.metadata.deleting]
    fenced = node.condition(CONDITION)
    if fenced.reason == "FencingPending":
        yield f"fencing of {name}: {fenced.message}"
    elif condemned:
        yield f"{name} or a person to confirm the end of {_names(condemned)}"
    if fenced.reason == "PoweredOff":
        yield f"somebody to start {name}: {fenced.message}"


def _evictions(name: str, taint: Taint, pods: list[Pod], now: datetime) -> Iterator[str]:
    """Pods by the second they are due."""
    due: dict[int, list[Pod]] = {}
    for pod in pods:
        left_s = _left_s(pod, taint, now)
        if left_s is not None:
            due.setdefault(round(left_s), []).append(pod)
    for left_s, group in sorted(due.items()):
        yield f"evictions from {name} in {left_s} s: {_names(group)}"


def _left_s(pod: Pod, taint: Taint, now: datetime) -> float | None:
    """Until the pod has to go; None where it need not."""
    limits = [entry.toleration_seconds for entry in pod.spec.tolerations if tolerates(entry, taint)]
    finite = [limit for limit in limits if limit is not None]
    if limits and not finite:
        return None
    passed_s = _seconds(now, taint.time_added) if taint.time_added else 0.0
    return max(0.0, min(finite, default=0) - passed_s)


def _seconds(now: datetime, stamp: str) -> float:
    return max(0.0, (now - parse_time(stamp)).total_seconds())


def _names(pods: list[Pod]) -> str:
    names = [pod.metadata.key for pod in pods]
    return ", ".join([*names[:_NAMES], *([f"{len(names) - _NAMES} more"] if len(names) > _NAMES else [])])


def _all(client: Client, resource: Resource, view: type[T], namespace: str = "") -> list[T]:
    return [msgspec.json.decode(raw, type=view) for raw in client.list(resource, namespace).items]

"""What the scheduler knows between cycles: nodes added up, pods that wait, bindings under way. No network, no clock.

Only what changed is worked out again. A pod that fits nowhere is not tried again before something that could help has
changed: a node, or a pod that left one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from master.scheduler.snapshot import NodeInfo, PodInfo, Snapshot, in_order, node_info, pod_info
from master.scheduler.views import Node, Pod

_MOST_AT_ONCE = 100  # pods in one cycle, so that the world is looked at again


@dataclass(slots=True)
class _Held:
    """A pod that is not to be tried before `until_s`, or before the epoch moves on."""

    until_s: float
    epoch: int  # -1: the time alone decides


class State:
    """Fed with changed objects, asked for snapshots. Used by one thread."""

    def __init__(self, scheduler_name: str = "default-scheduler") -> None:
        self._name = scheduler_name
        self._nodes: dict[str, Node] = {}
        self._infos: dict[str, NodeInfo] = {}
        self._stale: set[str] = set()  # nodes to add up again
        self._pods: dict[str, PodInfo] = {}
        self._on: dict[str, dict[str, PodInfo]] = {}  # node -> pod key -> pod
        self._where: dict[str, str] = {}  # pod key -> node it is counted on
        self._pending: set[str] = set()
        self._assumed: dict[str, str] = {}  # pod uid -> node
        self._held: dict[str, _Held] = {}  # by pod uid
        self._epoch = 0

    def take_nodes(self, changed: Iterable[str], nodes: Mapping[str, Node]) -> None:
        """Nodes that came, went or changed."""
        for name in changed:
            node, old = nodes.get(name), self._nodes.get(name)
            if node is None:
                self._nodes.pop(name, None)
                self._infos.pop(name, None)
                self._stale.discard(name)
            else:
                self._nodes[name] = node
                if old is None or _facts(old) != _facts(node):
                    self._stale.add(name)
                    self._epoch += 1

    def take_pods(self, changed: Iterable[str], pods: Mapping[str, Pod]) -> None:
        """Pods that came, went or changed."""
        for key in changed:
            pod, old = pods.get(key), self._pods.get(key)
            if old is not None and (pod is None or pod.metadata.uid != old.meta.uid):
                self._drop(key, old)
                old = None
            if pod is not None:
                self._keep(key, pod, old)

    def assume(self, info: PodInfo, node: str) -> None:
        """Count `info` on `node` until the API says so, or the binding fails."""
        self._assumed[info.meta.uid] = node
        self._pending.discard(info.meta.key)
        self._count(info.meta.key, info, node)

    def forget(self, info: PodInfo, now_s: float, delay_s: float) -> None:
        """The binding failed: try again after `delay_s`."""
        if self._assumed.pop(info.meta.uid, None) is None:
            return
        key = info.meta.key
        current = self._pods.get(key)
        if current is None or current.meta.uid != info.meta.uid or current.pod.spec.node_name:
            return
        self._count(key, current, "")
        self._epoch += 1
        self._held[info.meta.uid] = _Held(now_s + delay_s, -1)
        if self._waits(current.pod):
            self._pending.add(key)

    def hold(self, info: PodInfo, until_s: float) -> None:
        """It fits nowhere: not again before something that could help changes, or `until_s`."""
        self._held[info.meta.uid] = _Held(until_s, self._epoch)

    def snapshot(self, now_s: float) -> Snapshot:
        """The nodes, and the pods to try now."""
        for name in self._stale:
            self._infos[name] = node_info(self._nodes[name], self._on.get(name, {}).values())
        self._stale.clear()
        ready = [self._pods[key] for key in self._pending]
        ready = [info for info in ready if self._due(info, now_s)]
        return Snapshot(dict(self._infos), in_order(ready)[:_MOST_AT_ONCE])

    def wake_after_s(self, now_s: float) -> float:
        """Until a held pod is due by time alone."""
        waits = [held.until_s - now_s for held in self._held.values()]
        return max(0.0, min(waits, default=3_600.0))

    def _due(self, info: PodInfo, now_s: float) -> bool:
        held = self._held.get(info.meta.uid)
        if held is None:
            return True
        if held.until_s <= now_s or held.epoch not in (-1, self._epoch):
            del self._held[info.meta.uid]
            return True
        return False

    def _waits(self, pod: Pod) -> bool:
        spec = pod.spec
        unassigned = not spec.node_name and spec.scheduler_name == self._name and not spec.scheduling_gates
        return unassigned and not pod.metadata.deleting and pod.status.phase not in {"Succeeded", "Failed"}

    def _keep(self, key: str, pod: Pod, old: PodInfo | None) -> None:
        same = old is not None and old.same_spec(pod)
        info = replace(old, pod=pod) if same and old is not None else pod_info(pod)
        if old is not None and not same:
            self._held.pop(pod.metadata.uid, None)  # it may fit now
        self._pods[key] = info
        if pod.spec.node_name:
            self._assumed.pop(pod.metadata.uid, None)
        node = pod.spec.node_name or self._assumed.get(pod.metadata.uid, "")
        if pod.status.phase in {"Succeeded", "Failed"}:
            node = ""  # what it took is free again
        self._count(key, info, node)
        if self._waits(pod) and pod.metadata.uid not in self._assumed:
            self._pending.add(key)
        else:
            self._pending.discard(key)

    def _drop(self, key: str, old: PodInfo) -> None:
        del self._pods[key]
        self._pending.discard(key)
        self._held.pop(old.meta.uid, None)
        self._assumed.pop(old.meta.uid, None)
        self._count(key, old, "")

    def _count(self, key: str, info: PodInfo, node: str) -> None:
        """Move a pod's weight to `node`; "" is nowhere."""
        before = self._where.pop(key, "")
        if before and before != node:
            self._on[before].pop(key, None)
            self._stale.update({before} & self._nodes.keys())
            self._epoch += 1
        if node:
            self._where[key] = node
            self._on.setdefault(node, {})[key] = info
            self._stale.update({node} & self._nodes.keys())


def _facts(node: Node) -> tuple[object, ...]:
    """What scheduling depends on; heartbeats are not among it."""
    return (node.metadata.labels, node.spec, node.status)

"""What the scheduler knows between cycles: nodes added up, pods that wait, bindings under way. No network, no clock.

Only what changed is worked out again. Pods that fit nowhere are `waiting`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec

from master.scheduler.changes import Change, NodeMoved, PodMoved
from master.scheduler.protocol import Plugin
from master.scheduler.snapshot import NodeInfo, PodInfo, Snapshot, node_info, pod_info
from master.scheduler.views import Node, Pod
from master.scheduler.waiting import Waiting

_MOST_AT_ONCE = 100  # pods in one cycle, so that the world is looked at again
_MOST_CHANGES = 1_000  # beyond it every waiting pod is woken by the last of them anyway, or is not helped by any
_ENDED = {"Succeeded", "Failed"}


class State:
    """Fed with changed objects, asked for snapshots. Used by one thread."""

    def __init__(self, scheduler_name: str = "default-scheduler", plugins: Iterable[Plugin] = ()) -> None:
        self._name = scheduler_name
        self._nodes: dict[str, Node] = {}
        self._infos: dict[str, NodeInfo] = {}
        self._stale: set[str] = set()  # nodes to add up again
        self._pods: dict[str, PodInfo] = {}
        self._on: dict[str, dict[str, PodInfo]] = {}  # node -> pod key -> pod
        self._where: dict[str, str] = {}  # pod key -> node it is counted on
        self._pending: set[str] = set()
        self._assumed: dict[str, str] = {}  # pod uid -> node
        self._promised: dict[str, str] = {}  # pod uid -> node nominated by us, until the API says so
        self._nominated: set[str] = set()  # keys of waiting pods that a node is nominated for
        self._changes: list[Change] = []
        self._waiting = Waiting(plugins)
        self._start = 0

    def take_nodes(self, changed: Iterable[str], nodes: Mapping[str, Node]) -> None:
        """Nodes that came, went or changed."""
        for name in changed:
            node, old = nodes.get(name), self._nodes.get(name)
            if node is None:
                self._nodes.pop(name, None)
                self._infos.pop(name, None)
                self._stale.discard(name)
                if old is not None:
                    self._note(NodeMoved(node_info(old, ()), None))
            elif old is None or _facts(old) != _facts(node):
                self._nodes[name] = node
                self._stale.add(name)
                self._note(NodeMoved(node_info(old, ()) if old else None, node_info(node, ())))

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
        self._nominated.discard(info.meta.key)
        self._count(info.meta.key, info, node)

    def forget(self, info: PodInfo, now_s: float, delay_s: float) -> None:
        """The binding, or making room for it, failed: try again after `delay_s`."""
        assumed = self._assumed.pop(info.meta.uid, None) is not None
        key = info.meta.key
        current = self._pods.get(key)
        if current is None or current.meta.uid != info.meta.uid or current.pod.spec.node_name:
            return
        if assumed:
            self._count(key, current, "")
        self._waiting.failed(current, now_s, delay_s)
        self._wait(key, current)

    def hold(self, info: PodInfo, now_s: float, refused_by: frozenset[str] = frozenset(), nominated: str = "") -> None:
        """It fits nowhere: not again before something that could help changes. `nominated` makes room for it."""
        self._waiting.hold(info, now_s, refused_by)
        key, current = info.meta.key, self._pods.get(info.meta.key)
        if current is not None and current.meta.uid == info.meta.uid:
            self._promised[info.meta.uid] = nominated
            self._pods[key] = _nominated(current, nominated)
            self._wait(key, self._pods[key])

    def advance(self, examined: int) -> None:
        """So many nodes were looked at: begin after them next time."""
        self._start += examined

    def snapshot(self, now_s: float) -> Snapshot:
        """The nodes, and the pods to try now."""
        for name in self._stale:
            self._infos[name] = node_info(self._nodes[name], self._on.get(name, {}).values())
        self._stale.clear()
        self._waiting.happened(self._changes)
        self._changes = []
        start = self._start = self._start % max(1, len(self._infos))
        ready = self._waiting.ready((self._pods[key] for key in self._pending), now_s, _MOST_AT_ONCE)
        nominated: dict[str, tuple[PodInfo, ...]] = {}
        for info in (self._pods[key] for key in sorted(self._nominated)):
            name = info.pod.status.nominated_node_name
            nominated[name] = (*nominated.get(name, ()), info)
        return Snapshot(dict(self._infos), tuple(ready), nominated=nominated, start=start, percentage=0)

    def wake_after_s(self, now_s: float) -> float:
        """Until a held pod is due by time alone."""
        return self._waiting.wake_after_s(now_s)

    def _note(self, change: Change) -> None:
        self._changes.append(change)
        if len(self._changes) > _MOST_CHANGES:
            self._waiting.happened(self._changes)
            self._changes = []

    def _keep(self, key: str, pod: Pod, old: PodInfo | None) -> None:
        uid = pod.metadata.uid
        same = old is not None and old.same_spec(pod)
        info = replace(old, pod=pod) if same and old is not None else pod_info(pod)
        if old is not None and not same:
            self._waiting.changed(uid)
        promised = self._promised.get(uid)
        if promised is not None and promised != pod.status.nominated_node_name:
            info = _nominated(info, promised)
        else:
            self._promised.pop(uid, None)
        self._pods[key] = info
        if pod.spec.node_name:
            self._assumed.pop(uid, None)
            self._waiting.gone(uid)
        node = pod.spec.node_name or self._assumed.get(uid, "")
        if pod.status.phase in _ENDED:
            node = ""  # what it took is free again
        self._count(key, info, node)
        self._wait(key, info)

    def _wait(self, key: str, info: PodInfo) -> None:
        """Whether it is pending, and whether room is kept for it."""
        spec, meta = info.pod.spec, info.meta
        unbound = not spec.node_name and meta.uid not in self._assumed
        ours = spec.scheduler_name == self._name and not spec.scheduling_gates
        waits = unbound and ours and not meta.deleting and info.pod.status.phase not in _ENDED
        (self._pending.add if waits else self._pending.discard)(key)
        kept = waits and info.pod.status.nominated_node_name
        if not kept and key in self._nominated and unbound:
            self._note(PodMoved(info, None))  # the room that was kept for it is free for others
        (self._nominated.add if kept else self._nominated.discard)(key)

    def _drop(self, key: str, old: PodInfo) -> None:
        del self._pods[key]
        self._pending.discard(key)
        self._waiting.gone(old.meta.uid)
        self._assumed.pop(old.meta.uid, None)
        self._promised.pop(old.meta.uid, None)
        if key in self._nominated:
            self._nominated.discard(key)
            self._note(PodMoved(old, None))
        self._count(key, old, "")

    def _count(self, key: str, info: PodInfo, node: str) -> None:
        """Move a pod's weight to `node`; "" is nowhere."""
        before = self._where.pop(key, "")
        was = self._on[before].get(key) if before else None
        if before and before != node:
            self._on[before].pop(key, None)
            self._stale.update({before} & self._nodes.keys())
        if node:
            self._where[key] = node
            self._on.setdefault(node, {})[key] = info
            self._stale.update({node} & self._nodes.keys())
        if before != node:
            if was is not None:
                self._note(PodMoved(was, None))
            if node:
                self._note(PodMoved(None, info))
        elif was is not None and (was.meta.labels != info.meta.labels or was.requests != info.requests):
            self._note(PodMoved(was, info))


def _nominated(info: PodInfo, node: str) -> PodInfo:
    status = msgspec.structs.replace(info.pod.status, nominated_node_name=node)
    return replace(info, pod=msgspec.structs.replace(info.pod, status=status))


def _facts(node: Node) -> tuple[object, ...]:
    """What scheduling depends on; heartbeats are not among it."""
    return (node.metadata.labels, node.spec, node.status)

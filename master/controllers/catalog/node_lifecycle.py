"""Decide which nodes have gone silent, and what follows: conditions, taints, their pods' readiness. Pure.

Silence is what WE did not see for `node_monitor_grace_s` of our own monotonic clock: a node's own stamps are only
compared with each other (did they move?), never with our time. Time in which our own writes did not come through, or
in which this process did not run, does not count: then the fault may be ours.

Source: k/k `pkg/controller/nodelifecycle/node_lifecycle_controller.go`; CONTRACT section 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.errors import Document
from labctl.kube.resources import NODES, PODS
from labctl.kube.taints import Taint
from labctl.runtime.clock import rfc3339
from master.controllers.pods import condition, is_ready
from master.controllers.protocol import (
    NEVER_S,
    Action,
    Controller,
    Patch,
    Plan,
    Step,
    Tell,
    World,
    patch,
    ref,
)
from master.controllers.views import NODE_LEASES_KIND, NODES_KIND, PODS_KIND, Node, Pod
from master.controllers.zones import Bucket, Disruption, counts_for_disruption, disruption, grouped, rate_per_s

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_HEALTH = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
# condition type -> status -> taint key, all with effect NoSchedule
_CONDITION_TAINTS: Mapping[str, Mapping[str, str]] = {
    "Ready": {"False": NOT_READY, "Unknown": UNREACHABLE},
    "MemoryPressure": {"True": "node.kubernetes.io/memory-pressure"},
    "DiskPressure": {"True": "node.kubernetes.io/disk-pressure"},
    "NetworkUnavailable": {"True": "node.kubernetes.io/network-unavailable"},
    "PIDPressure": {"True": "node.kubernetes.io/pid-pressure"},
}
_MANAGED = {key for keys in _CONDITION_TAINTS.values() for key in keys.values()} | {_UNSCHEDULABLE}


@dataclass(frozen=True, slots=True)
class Pulse:
    """The last sign of life: what moved, and when we saw it move."""

    sign: tuple[str, str]
    at_s: float


@dataclass(frozen=True, slots=True)
class Memory:
    """What one pass tells the next."""

    pulses: Mapping[str, Pulse] = field(default_factory=dict)  # by node uid
    ready: Mapping[str, str] = field(default_factory=dict)  # status of Ready by node uid, as last seen
    states: Mapping[str, Disruption] = field(default_factory=dict)  # by zone
    buckets: Mapping[str, Bucket] = field(default_factory=dict)  # by zone
    queued: Mapping[str, float] = field(default_factory=dict)  # node uid -> since when it waits for its taint
    granted: frozenset[str] = frozenset()  # uids of the nodes that may carry it
    last_pass_s: float = -1.0
    floor_s: float = 0.0  # silence before this does not count


def plan(world: World, memory: Memory) -> Plan:
    """Mark the silent, taint the sick at the zone's rate, clear the recovered, and flip the pods of the unready."""
    nodes = world.all(NODES_KIND)
    floor_s = _floor(world, memory)
    pulses = _pulses(world, memory)
    verdicts = {name: _judge(node, pulses[node.metadata.uid], floor_s, world) for name, node in nodes.items()}
    evictions = _Evictions(world, memory, verdicts)
    steps: list[Step] = []
    pods_of: dict[str, list[Pod]] = {}
    for pod in world.all(PODS_KIND).values():
        if pod.spec.node_name:
            pods_of.setdefault(pod.spec.node_name, []).append(pod)
    for name in sorted(nodes):
        node, verdict = nodes[name], verdicts[name]
        if verdict.mark:
            steps.append(_mark(node, world))
        before = memory.ready.get(node.metadata.uid, "")
        if verdict.ready != "True" and before == "True":
            told = Tell(reason="NodeNotReady", message=f"Node {name} status is now: NodeNotReady")
            steps.append(Step(ref(NODES, node.metadata), (told,)))
        if verdict.ready == "Unknown" or (verdict.ready == "False" and before == "True"):
            steps += [_unready(pod, world) for pod in pods_of.get(name, ()) if is_ready(pod)]
        if not verdict.mark:  # its taints follow in the next pass, from the version that the mark makes
            steps += _taint(node, verdict.ready, evictions.wanted(node), world)
    waits = [verdict.wait_s for verdict in verdicts.values()]
    remembered = Memory(
        pulses=pulses,
        ready={nodes[name].metadata.uid: verdict.ready for name, verdict in verdicts.items()},
        states=evictions.states,
        buckets=evictions.buckets,
        queued=evictions.queued,
        granted=frozenset(evictions.granted),
        last_pass_s=world.now_s,
        floor_s=max(floor_s, world.now_s) if evictions.recovered else floor_s,
    )
    longest_s = max(world.settings.profile.node_monitor_period_s, 0.5) * 4
    return Plan(tuple(steps), max(0.0, min([longest_s, evictions.wait_s, *waits])), remembered)


def _floor(world: World, memory: Memory) -> float:
    """From when on silence counts: since our own writes come through, and since this process runs without a gap."""
    floor_s = max(memory.floor_s, world.steady_since_s)
    allowed_s = world.settings.profile.node_monitor_grace_s / 2
    if memory.last_pass_s >= 0 and world.now_s - memory.last_pass_s > max(allowed_s, _longest_pass_s(world)):
        return max(floor_s, world.now_s)  # we were frozen or starved: what we missed we cannot hold against anyone
    return floor_s


def _longest_pass_s(world: World) -> float:
    return max(world.settings.profile.node_monitor_period_s, 0.5) * 4 + 1.0


def _pulses(world: World, memory: Memory) -> dict[str, Pulse]:
    leases = world.all(NODE_LEASES_KIND)
    found: dict[str, Pulse] = {}
    for name, node in world.all(NODES_KIND).items():
        lease = leases.get(f"kube-node-lease/{name}")
        ready = condition(node.status.conditions, "Ready")
        sign = (lease.spec.renew_time if lease else "", ready.last_heartbeat_time if ready else "")
        known = memory.pulses.get(node.metadata.uid)
        found[node.metadata.uid] = known if known and known.sign == sign else Pulse(sign, world.now_s)
    return found


@dataclass(frozen=True, slots=True)
class _Verdict:
    """`ready` as it is or is about to be; `mark`: write Unknown; `wait_s`: until silence would become too long."""

    ready: str
    mark: bool
    wait_s: float


def _judge(node: Node, pulse: Pulse, floor_s: float, world: World) -> _Verdict:
    profile = world.settings.profile
    found = condition(node.status.conditions, "Ready")
    grace_s = profile.node_monitor_grace_s if found else profile.node_startup_grace_s
    left_s = grace_s - (world.now_s - max(pulse.at_s, floor_s))
    status = found.status if found else ""
    if left_s > 0:
        return _Verdict(status, False, NEVER_S if status == "Unknown" else left_s)
    unknown = all(
        entry is not None and entry.status == "Unknown"
        for entry in (condition(node.status.conditions, kind) for kind in _HEALTH)
    )
    return _Verdict("Unknown", not unknown, NEVER_S)


def _mark(node: Node, world: World) -> Step:
    """Every health condition becomes Unknown; on condition that the node's status has not moved meanwhile."""
    entries: list[Document] = []
    for kind in _HEALTH:
        old = condition(node.status.conditions, kind)
        if old is not None and old.status == "Unknown":
            continue
        entry = {"type": kind, "status": "Unknown", "lastTransitionTime": world.stamp}
        if old is None:
            entry |= {"reason": "NodeStatusNeverUpdated", "message": "Kubelet never posted node status."}
            entry["lastHeartbeatTime"] = node.metadata.creation_timestamp or world.stamp
        else:
            entry |= {"reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}
        entries.append(entry)
    body = {"status": {"conditions": entries}}
    change = patch(NODES, node.metadata, body, exact=True, subresource="status", kind=STRATEGIC_PATCH)
    return Step(ref(NODES, node.metadata), (change,))


def _unready(pod: Pod, world: World) -> Step:
    """Out of every Service at once: nobody knows whether it still answers."""
    entry = {"type": "Ready", "status": "False", "lastTransitionTime": world.stamp}
    body = {"status": {"conditions": [entry]}}
    about = ref(PODS, pod.metadata)
    told = Tell(reason="NodeNotReady", message="Node is not ready", type="Warning")
    return Step(about, (patch(PODS, pod.metadata, body, subresource="status", kind=STRATEGIC_PATCH), told))


class _Evictions:
    """Which nodes may carry their NoExecute taint now: zone by zone, at the zone's rate, none while all are down."""

    def __init__(self, world: World, memory: Memory, verdicts: Mapping[str, _Verdict]) -> None:
        nodes = world.all(NODES_KIND)
        profile = world.settings.profile
        zones = grouped(nodes)
        ready = {
            zone: [verdicts[one.metadata.name].ready == "True" for one in members if counts_for_disruption(one)]
            for zone, members in zones.items()
        }
        self.states = {zone: disruption(found, profile) for zone, found in ready.items() if found}
        self.frozen = bool(self.states) and all(state == "FullDisruption" for state in self.states.values())
        was_frozen = bool(memory.states) and all(state == "FullDisruption" for state in memory.states.values())
        self.recovered = was_frozen and not self.frozen
        self.queued: dict[str, float] = {}
        self.buckets: dict[str, Bucket] = {}
        self.wait_s = NEVER_S
        self.granted: set[str] = set()
        self._down: dict[str, str] = {}
        for zone, members in zones.items():
            rate = 0.0 if self.frozen else rate_per_s(self.states.get(zone, "Normal"), len(ready[zone]), profile)
            self._zone(zone, members, rate, world, memory, verdicts)

    def _zone(
        self,
        zone: str,
        members: list[Node],
        rate: float,
        world: World,
        memory: Memory,
        verdicts: Mapping[str, _Verdict],
    ) -> None:
        bucket = memory.buckets.get(zone, Bucket(at_s=world.now_s)).at(world.now_s, rate)
        waiting: list[tuple[float, str]] = []
        for node in members:
            status = verdicts[node.metadata.name].ready
            key = {"False": NOT_READY, "Unknown": UNREACHABLE}.get(status, "")
            if not key or verdicts[node.metadata.name].mark:
                continue
            uid = node.metadata.uid
            self._down[uid] = key
            if uid in memory.granted or _has_no_execute(node):
                self.granted.add(uid)  # a swap from one taint to the other is no new eviction
            else:
                waiting.append((memory.queued.get(uid, world.now_s), uid))
        for since_s, uid in sorted(waiting):
            if rate > 0 and bucket.tokens >= 1.0 - 1e-9:
                bucket = bucket.taken()
                self.granted.add(uid)
            else:
                self.queued[uid] = since_s
                self.wait_s = min(self.wait_s, bucket.wait_s(rate))
        if self.frozen:
            self.granted.clear()
        self.buckets[zone] = bucket

    def wanted(self, node: Node) -> str:
        """The key of the NoExecute taint the node should carry; "" for none."""
        return self._down[node.metadata.uid] if node.metadata.uid in self.granted else ""


def _has_no_execute(node: Node) -> bool:
    return any(taint.effect == "NoExecute" and taint.key in {NOT_READY, UNREACHABLE} for taint in node.spec.taints)


def _taint(node: Node, ready: str, no_execute: str, world: World) -> Iterator[Step]:
    """Bring the taints we manage in line; all others stay as they are."""
    wanted = {_UNSCHEDULABLE} if node.spec.unschedulable else set()
    for entry in node.status.conditions:
        status = ready if entry.type == "Ready" else entry.status
        if key := _CONDITION_TAINTS.get(entry.type, {}).get(status):
            wanted.add(key)
    if condition(node.status.conditions, "Ready") is None:
        wanted.add(NOT_READY)  # it has not reported yet; admission set this taint
    taints: list[Taint] = []
    for taint in node.spec.taints:
        ours = taint.effect == "NoSchedule" and taint.key in _MANAGED
        ours_too = taint.effect == "NoExecute" and taint.key in {NOT_READY, UNREACHABLE}
        keep = taint.key in wanted if ours else taint.key == no_execute if ours_too else True
        if keep:
            taints.append(taint)
    present = {(taint.key, taint.effect) for taint in taints}
    stamp = rfc3339(world.now) if wanted or no_execute else ""
    for key in sorted(wanted):
        if (key, "NoSchedule") not in present:
            taints.append(Taint(key=key, effect="NoSchedule", time_added=stamp))
    if no_execute and (no_execute, "NoExecute") not in present:
        taints.append(Taint(key=no_execute, effect="NoExecute", time_added=stamp))
    if tuple(taints) != node.spec.taints:
        change: Action = _spec_patch(node, taints)
        yield Step(ref(NODES, node.metadata), (change,))


def _spec_patch(node: Node, taints: list[Taint]) -> Patch:
    """The list is replaced whole, so only this very version of the node may take it."""
    return patch(NODES, node.metadata, {"spec": {"taints": taints or None}}, exact=True)


CONTROLLER = Controller(
    name="node_lifecycle",
    reads=(NODES_KIND, NODE_LEASES_KIND, PODS_KIND),
    plan=plan,
    memory=Memory(),
    min_interval_s=0.02,
)

"""Place pending pods on nodes. Pure: the same snapshot, the same decisions; no clock, no network, no log.

Source: k/k `pkg/scheduler/schedule_one.go`, `framework/types.go` (FitError: the text of "0/3 nodes are available").
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from master.scheduler.cluster import Cluster, Verdict
from master.scheduler.preemption import preempt
from master.scheduler.protocol import Plugin
from master.scheduler.search import Found, Profile, beside_nominated, judge, refused_by, search
from master.scheduler.snapshot import PodInfo, Snapshot


@dataclass(frozen=True, slots=True)
class Placed:
    """Bind the pod to the node. `examined` nodes were looked at; the next search begins after them."""

    pod: PodInfo
    node: str
    examined: int = 0


@dataclass(frozen=True, slots=True)
class Unschedulable:
    """No node fits; `message` says why in upstream's words, `refused_by` names the plugins that objected.

    Where others are to make room, `victims` leave the node `nominated`, and pods of a lower priority that it was
    promised to are `displaced`.
    """

    pod: PodInfo
    message: str
    refused_by: frozenset[str] = frozenset()
    examined: int = 0
    nominated: str = ""
    victims: tuple[PodInfo, ...] = ()
    displaced: tuple[PodInfo, ...] = ()


Decision = Placed | Unschedulable


def decide(snapshot: Snapshot, plugins: Sequence[Plugin], cluster: Cluster | None = None) -> tuple[Decision, ...]:
    """One decision for every pending pod, in order; each sees those before it already placed.

    `cluster`, kept from an earlier cycle, saves work and changes no decision.
    """
    profile = Profile.of(plugins)
    cluster = Cluster(snapshot) if cluster is None else cluster.move(snapshot)
    decisions: list[Decision] = []
    for info in snapshot.pending:
        decision = place(info, cluster, profile)
        if isinstance(decision, Placed):
            cluster.place(info, decision.node, profile.preparing)
        elif decision.victims:
            cluster.nominate(info, decision.nominated)
        cluster.start += decision.examined
        decisions.append(decision)
    return tuple(decisions)


def place(info: PodInfo, cluster: Cluster, profile: Profile) -> Decision:
    """The best node for one pod, or why there is none."""
    if not cluster.nodes:
        return Unschedulable(info, "no nodes available to schedule pods")
    if _nominated_fits(info, cluster, profile):
        return Placed(info, info.pod.status.nominated_node_name)
    found = search(info, cluster, profile)
    if found.fitting:
        return Placed(info, _best(info, found.fitting, cluster, profile), found.examined)
    by = frozenset(plugin for _, plugin in found.refused.values()) | frozenset(found.narrowed_by)
    room = preempt(info, cluster, profile, found)
    message = f"{no_fit(len(cluster.nodes), found)} {room.message}"
    displaced = cluster.nominated.get(room.node, ()) if room.victims else ()
    lower = tuple(other for other in displaced if other.priority < info.priority)
    return Unschedulable(info, message, by, found.examined, room.node, room.victims, lower)


def no_fit(nodes: int, found: Found) -> str:
    """Upstream's FitError: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`"""
    if found.conflict:
        return f"0/{nodes} nodes are available: pod affinity terms conflict."
    reasons = Counter(reason for refusal, _ in found.refused.values() for reason in refusal.reasons)
    if elsewhere := nodes - len(found.refused):
        reasons[f"node(s) didn't satisfy plugin(s) [{' '.join(found.narrowed_by)}]"] += elsewhere
    texts = sorted(f"{count} {reason}" for reason, count in reasons.items())
    return f"0/{nodes} nodes are available: {', '.join(texts)}."


def _nominated_fits(info: PodInfo, cluster: Cluster, profile: Profile) -> bool:
    """Whether the node whose room was made for the pod can take it now: then no other is looked at."""
    node = cluster.nodes.get(info.pod.status.nominated_node_name)
    if node is None:
        return False
    ready = cluster.ready(info, profile.preparing)
    refused = judge(info, node, profile).refusal or refused_by(info, node, profile.wide, ready)
    return not refused and not beside_nominated(info, node, cluster, profile, ready)


def _best(info: PodInfo, fitting: Sequence[Verdict], cluster: Cluster, profile: Profile) -> str:
    if len(fitting) == 1:
        return fitting[0].node.name
    totals = [verdict.ratings[0] for verdict in fitting]
    for at, plugin in enumerate(profile.relative, start=1):
        if plugin.normalize is None or not plugin.applies(info):
            continue
        ratings = [verdict.ratings[at] for verdict in fitting]
        if len(set(ratings)) > 1:
            scores = plugin.normalize(ratings)
            totals = [total + plugin.weight * score for total, score in zip(totals, scores, strict=True)]
    ready, nodes = cluster.ready(info, profile.preparing), [verdict.node for verdict in fitting]
    for plugin in profile.scoring:
        found = plugin.score(info, nodes, ready[plugin.name]) if plugin.score is not None else None
        if found is not None:
            totals = [total + plugin.weight * score for total, score in zip(totals, found, strict=True)]
    highest = max(totals)
    best = [node for node, total in zip(nodes, totals, strict=True) if total == highest]
    fewest = min([len(node.pods) for node in best])
    return _one_of([node.name for node in best if len(node.pods) == fewest], info)


def _one_of(names: Sequence[str], info: PodInfo) -> str:
    """Among equals, no node is always the first: as good as upstream's coin, and the same every time."""
    begun = zlib.crc32(f"{info.meta.uid} ".encode())
    return max(names, key=lambda name: zlib.crc32(name.encode(), begun))

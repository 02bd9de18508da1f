"""Place pending pods on nodes. Pure: the same snapshot, the same decisions; no clock, no network, no log.

Source: k/k `pkg/scheduler/schedule_one.go`, `framework/types.go` (FitError: the text of "0/3 nodes are available").
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from master.scheduler.protocol import Cluster, Plugin
from master.scheduler.snapshot import NodeInfo, PodInfo, Snapshot


@dataclass(frozen=True, slots=True)
class Placed:
    """Bind the pod to the node."""

    pod: PodInfo
    node: str


@dataclass(frozen=True, slots=True)
class Unschedulable:
    """No node fits; `message` says why in upstream's words."""

    pod: PodInfo
    message: str


Decision = Placed | Unschedulable


def decide(snapshot: Snapshot, plugins: Sequence[Plugin]) -> tuple[Decision, ...]:
    """One decision for every pending pod, in order; each sees those before it already placed."""
    cluster = Cluster(snapshot)
    decisions: list[Decision] = []
    for info in snapshot.pending:
        decision = place(info, cluster, plugins)
        if isinstance(decision, Placed):
            cluster.place(info, decision.node)
        decisions.append(decision)
    return tuple(decisions)


def place(info: PodInfo, cluster: Cluster, plugins: Sequence[Plugin]) -> Decision:
    """The best node for one pod, or why there is none."""
    if not cluster.nodes:
        return Unschedulable(info, "no nodes available to schedule pods")
    prepared = [(plugin, plugin.prepare(info, cluster)) for plugin in plugins]
    fitting: list[NodeInfo] = []
    reasons: Counter[str] = Counter()
    for node in cluster.nodes.values():
        why = next(
            (why for plugin, ready in prepared if plugin.filter and (why := plugin.filter(info, node, ready))), ""
        )
        if why:
            reasons.update(why.split("\n"))  # a plugin may give several, one a line
        else:
            fitting.append(node)
    if not fitting:
        return Unschedulable(info, no_fit(len(cluster.nodes), reasons))
    totals = dict.fromkeys((node.name for node in fitting), 0.0)
    if len(fitting) > 1:
        for plugin, ready in prepared:
            if plugin.score is not None:
                scores = plugin.normalize({node.name: plugin.score(info, node, ready) for node in fitting})
                for name, score in scores.items():
                    totals[name] += plugin.weight * score
    return Placed(info, max(fitting, key=lambda node: (totals[node.name], -len(node.pods), _tie(info, node))).name)


def no_fit(nodes: int, reasons: Counter[str]) -> str:
    """Upstream's FitError: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`"""
    texts = sorted(f"{count} {reason}" for reason, count in reasons.items())
    return f"0/{nodes} nodes are available: {', '.join(texts)}."


def _tie(info: PodInfo, node: NodeInfo) -> int:
    """Among equals, no node is always the first: as good as upstream's coin, and the same every time."""
    return zlib.crc32(f"{info.meta.uid} {node.name}".encode())

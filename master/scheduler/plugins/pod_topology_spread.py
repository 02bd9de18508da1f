"""PodTopologySpread: the pod's own constraints; without any, pods of one Service or set spread over hosts and zones.

Source: k/k `pkg/scheduler/framework/plugins/podtopologyspread` (filtering.go, scoring.go; default constraints hostname
skew 3, zone skew 5, ScheduleAnyway).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.kube.selectors import Requirement, Selector, matches
from master.scheduler.plugins import node_affinity
from master.scheduler.protocol import MOST, Cluster, Plugin, Scores
from master.scheduler.snapshot import NodeInfo, PodInfo, selector_of

_HOSTNAME, _ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
_DEFAULTS = ((3, _HOSTNAME), (5, _ZONE))


@dataclass(frozen=True, slots=True)
class _Constraint:
    """One constraint with the number of matching pods in each of its domains."""

    key: str
    skew: int
    hard: bool
    counts: Mapping[str, int]
    matches_itself: bool


def _prepare(info: PodInfo, cluster: Cluster) -> tuple[_Constraint, ...]:
    spec = info.pod.spec
    if spec.topology_spread_constraints:
        return tuple(
            _constraint(
                info,
                cluster,
                entry.topology_key,
                entry.max_skew,
                selector_of(entry.label_selector) if entry.label_selector else _NOTHING,
                hard=entry.when_unsatisfiable == "DoNotSchedule",
            )
            for entry in spec.topology_spread_constraints
        )
    selector = _default_selector(info, cluster)
    if selector is None:
        return ()
    return tuple(_constraint(info, cluster, key, skew, selector, hard=False) for skew, key in _DEFAULTS)


_NOTHING: Selector = (Requirement("", "Exists"),)


def _constraint(info: PodInfo, cluster: Cluster, key: str, skew: int, selector: Selector, *, hard: bool) -> _Constraint:
    per_node = cluster.count(info.meta.namespace, selector)
    counts: dict[str, int] = {}
    for name, node in cluster.nodes.items():
        domain = node.node.metadata.labels.get(key)
        if domain is not None and (not hard or _eligible(info, node)):
            counts[domain] = counts.get(domain, 0) + per_node.get(name, 0)
    return _Constraint(key, skew, hard, counts, matches(selector, info.meta.labels))


def _eligible(info: PodInfo, node: NodeInfo) -> bool:
    """Only nodes that the pod's affinity allows count (nodeAffinityPolicy Honor, the default)."""
    check = node_affinity.PLUGIN.filter
    return check is not None and not check(info, node, None)


def _default_selector(info: PodInfo, cluster: Cluster) -> Selector | None:
    """The Services that select the pod; without any, the labels of its controller's pods."""
    terms: dict[str, str] = {}
    for service in cluster.services:
        selector = service.spec.selector
        if (
            service.metadata.namespace == info.meta.namespace
            and selector
            and selector.items() <= info.meta.labels.items()
        ):
            terms |= selector
    owner = info.meta.controller
    if owner is not None and owner.kind in {"ReplicaSet", "StatefulSet", "ReplicationController"}:
        terms |= info.meta.labels  # a set's pods carry the set's labels; its selector is among them
    return tuple(Requirement(key, "In", (value,)) for key, value in sorted(terms.items())) if terms else None


def _filter(info: PodInfo, node: NodeInfo, constraints: Any) -> str:
    del info
    for entry in constraints:
        if not entry.hard:
            continue
        domain = node.node.metadata.labels.get(entry.key)
        if domain is None:
            return "node(s) didn't match pod topology spread constraints (missing required label)"
        least = min(entry.counts.values(), default=0)
        if entry.counts.get(domain, 0) + entry.matches_itself - least > entry.skew:
            return "node(s) didn't match pod topology spread constraints"
    return ""


def _score(info: PodInfo, node: NodeInfo, constraints: Any) -> float:
    """The crowd in the node's domains; less is better."""
    del info
    total = 0.0
    for entry in constraints:
        domain = node.node.metadata.labels.get(entry.key)
        if not entry.hard and domain is not None:
            total += entry.counts.get(domain, 0) * math.log(len(entry.counts) + 2) + entry.skew - 1
    return total


def _normalize(scores: Scores) -> Scores:
    highest, lowest = max(scores.values(), default=0.0), min(scores.values(), default=0.0)
    if highest == 0:
        return dict.fromkeys(scores, MOST)
    return {name: float(int(MOST * (highest + lowest - value) / highest)) for name, value in scores.items()}


PLUGIN = Plugin(
    name="PodTopologySpread", order=9, weight=2, prepare=_prepare, filter=_filter, score=_score, normalize=_normalize
)

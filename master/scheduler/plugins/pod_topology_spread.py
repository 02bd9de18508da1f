"""PodTopologySpread: the pod's own constraints; without any, the cluster's, for pods of one Service or set.

Source: k/k `pkg/scheduler/framework/plugins/podtopologyspread` (filtering.go, scoring.go, common.go, plugin.go: system
defaults hostname skew 3, zone skew 5, ScheduleAnyway), `plugins/helper/spread.go` (DefaultSelector).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import repeat
from operator import add, is_
from typing import Any

from labctl.kube.selectors import Requirement, Selector, matches
from master.scheduler.changes import Change, NodeMoved
from master.scheduler.cluster import Cluster
from master.scheduler.plugins.node_affinity import attracted
from master.scheduler.plugins.taint_toleration import admitted
from master.scheduler.protocol import MOST, Plugin, Ratings, Refusal
from master.scheduler.snapshot import NodeInfo, PodInfo
from master.scheduler.terms import with_keys
from master.scheduler.views import SpreadConstraint

_HOSTNAME, _ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
_SYSTEM = tuple(
    SpreadConstraint(max_skew=skew, topology_key=key, when_unsatisfiable="ScheduleAnyway")
    for skew, key in ((3, _HOSTNAME), (5, _ZONE))
)
_NO_LABEL = Refusal(("node(s) didn't match pod topology spread constraints (missing required label)",), final=True)
_SKEWED = Refusal(("node(s) didn't match pod topology spread constraints",))


@dataclass(frozen=True, slots=True)
class _Constraint:
    """One constraint, the domain of each node that counts, and how many matching pods each domain has."""

    spec: SpreadConstraint
    selector: Selector
    domains: Mapping[str, str]  # by node
    counts: Mapping[str, int]  # by domain; empty where `per_node` says it already
    per_node: Mapping[str, int]
    least: int  # of `counts`, where nodes are filtered by it
    matches_itself: bool


@dataclass(frozen=True, slots=True)
class _Ready:
    hard: tuple[_Constraint, ...]
    soft: tuple[_Constraint, ...]
    whole: bool  # nodes without one of the labels are left out of the score


def _prepare(info: PodInfo, cluster: Cluster) -> _Ready:
    own, given = info.pod.spec.topology_spread_constraints, cluster.seen.default_spread
    chosen: list[tuple[SpreadConstraint, Selector]] = []
    if own:
        for entry in own:
            selector = with_keys(entry.label_selector, info.meta.labels, entry.match_label_keys)
            chosen.append((entry, _NOTHING if selector is None else selector))
    elif (default := _default_selector(info, cluster)) is not None:
        chosen = [(entry, default) for entry in (_SYSTEM if given is None else given)]
    whole = bool(own) or given is not None
    sides: dict[bool, tuple[_Constraint, ...]] = {}
    for hard in (True, False):
        side = [pair for pair in chosen if (pair[0].when_unsatisfiable == "DoNotSchedule") == hard]
        keys = tuple(entry.topology_key for entry, _ in side) if hard or whole else ()
        sides[hard] = tuple(_constraint(info, cluster, entry, selector, keys) for entry, selector in side)
    return _Ready(sides[True], sides[False], whole)


_NOTHING: Selector = (Requirement("", "Exists"),)


def _constraint(
    info: PodInfo, cluster: Cluster, entry: SpreadConstraint, selector: Selector, keys: tuple[str, ...]
) -> _Constraint:
    """`keys` are labels that a node must have to count."""
    namespace = info.meta.namespace

    def counted(other: PodInfo) -> bool:
        meta = other.meta
        return meta.namespace == namespace and not meta.deleting and matches(selector, meta.labels)

    def domains() -> tuple[dict[str, str], dict[str, int]]:
        found = {}
        for name, node in cluster.nodes.items():
            labels = node.node.metadata.labels
            domain = labels.get(entry.topology_key)
            if domain is not None and all(key in labels for key in keys) and _included(info, node, entry):
                found[name] = domain
        return found, dict.fromkeys(found.values(), 0)

    # An empty selector counts nothing, as upstream's countPodsMatchSelector.
    per_node = cluster.tally(("spread", namespace, selector), counted) if selector else {}
    policies = (entry.topology_key, entry.node_affinity_policy, entry.node_taints_policy)
    where, empty = cluster.of_nodes(("spread", info.shape, policies, keys), domains)
    hard = entry.when_unsatisfiable == "DoNotSchedule"
    counts: dict[str, int] = {}
    if hard or entry.topology_key != _HOSTNAME:
        counts = dict(empty)
        for name, number in per_node.items():
            if name in where:
                counts[where[name]] += number
    least = _least(entry, counts) if hard else 0
    return _Constraint(entry, selector, where, counts, per_node, least, matches(selector, info.meta.labels))


def _included(info: PodInfo, node: NodeInfo, entry: SpreadConstraint) -> bool:
    """Whether the constraint's policies let the node count."""
    if entry.node_affinity_policy == "Honor" and not attracted(info, node):
        return False
    return entry.node_taints_policy != "Honor" or admitted(info, node)


def _least(entry: SpreadConstraint, counts: Mapping[str, int]) -> int:
    """The emptiest domain's count; with fewer domains than asked for, as if one more were empty."""
    return min(counts.values()) if len(counts) >= max(1, entry.min_domains) else 0


def _default_selector(info: PodInfo, cluster: Cluster) -> Selector | None:
    """What the Services that select the pod ask for, and what its set does; None where it has neither."""
    terms: dict[str, str] = {}
    for service in cluster.seen.services:
        selector = service.spec.selector
        if service.metadata.namespace == info.meta.namespace and selector.items() <= info.meta.labels.items():
            terms |= selector
    found = tuple(Requirement(key, "In", (value,)) for key, value in sorted(terms.items()))
    owner = info.meta.controller
    if owner is not None:
        found += cluster.seen.sets.get((owner.kind, f"{info.meta.namespace}/{owner.name}"), ())
    return found or None


def _adjust(info: PodInfo, ready: _Ready, other: PodInfo, node: NodeInfo, count: int) -> _Ready:
    meta = other.meta
    if meta.namespace != info.meta.namespace or meta.deleting or not (ready.hard or ready.soft):
        return ready
    before = (*ready.hard, *ready.soft)
    after = [_counting(entry, other, node.name, count) for entry in before]
    if all(map(is_, before, after)):
        return ready
    number = len(ready.hard)
    return replace(ready, hard=tuple(after[:number]), soft=tuple(after[number:]))


def _counting(entry: _Constraint, other: PodInfo, node: str, count: int) -> _Constraint:
    domain = entry.domains.get(node)
    if (
        domain is None
        or domain not in entry.counts
        or not entry.selector
        or not matches(entry.selector, other.meta.labels)
    ):
        return entry
    counts = dict(entry.counts)
    before = counts[domain]
    counts[domain] = before + count
    if entry.spec.when_unsatisfiable != "DoNotSchedule" or (count > 0 and before > entry.least):
        return replace(entry, counts=counts)
    return replace(entry, counts=counts, least=_least(entry.spec, counts))


def _filter(info: PodInfo, node: NodeInfo, ready: Any) -> Refusal | None:
    del info
    labels = node.node.metadata.labels
    for entry in ready.hard:
        domain = labels.get(entry.spec.topology_key)
        if domain is None:
            return _NO_LABEL
        if entry.counts.get(domain, 0) + entry.matches_itself - entry.least > entry.spec.max_skew:
            return _SKEWED
    return None


def _score(info: PodInfo, nodes: Sequence[NodeInfo], ready: Any) -> Ratings | None:
    """The crowd in the node's domains, each weighed by how many domains there are; less is better."""
    del info
    soft: tuple[_Constraint, ...] = ready.soft
    if not soft:
        return None
    names = [node.name for node in nodes]
    # A node that fits counts by every policy, so it has a domain unless it lacks a label.
    left_out = {at for at, name in enumerate(names) if name not in soft[0].domains} if ready.whole else set()
    columns = [_column(entry, names, len(names) - len(left_out)) for entry in soft]
    return _normalized(reduce(lambda left, right: list(map(add, left, right)), columns), left_out)


def _column(entry: _Constraint, names: Sequence[str], counted: int) -> list[float]:
    """One constraint's crowd on each node, 0 without a domain. Thousands of nodes share few values: each made once."""
    domains, base = entry.domains, entry.spec.max_skew - 1
    if entry.spec.topology_key == _HOSTNAME:
        weight, numbers = math.log(counted + 2), list(map(entry.per_node.get, names, repeat(0)))
        crowds = {number: number * weight + base for number in set(numbers)}
        column = list(map(crowds.__getitem__, numbers))
        if all(map(domains.__contains__, names)):
            return column
        return [value if name in domains else 0.0 for value, name in zip(column, names, strict=True)]
    where = list(map(domains.get, names))
    kinds = {domain for domain in set(where) if domain is not None}
    weight = math.log(len(kinds) + 2)
    values: dict[str | None, float] = {domain: entry.counts[domain] * weight + base for domain in kinds}
    values[None] = 0.0
    return list(map(values.__getitem__, where))


def _normalized(crowd: list[float], left_out: set[int]) -> list[float]:
    """From 0 for the most crowded of those that count to 100 for an empty one; 0 for those left out."""
    counted = [value for at, value in enumerate(crowd) if at not in left_out] if left_out else crowd
    rounded = {value: math.floor(value + 0.5) for value in set(crowd)}
    numbers = {rounded[value] for value in set(counted)}
    highest, both = max(numbers, default=0), max(numbers, default=0) + min(numbers, default=0)
    made = {value: MOST * (both - number) // highest if highest else MOST for value, number in rounded.items()}
    scores = list(map(made.__getitem__, crowd))
    for at in left_out:
        scores[at] = 0.0
    return scores


def _hint(info: PodInfo, change: Change) -> bool:
    """A matching pod that came or went, or a node that counts."""
    entries = info.pod.spec.topology_spread_constraints
    if isinstance(change, NodeMoved):
        retainted = change.old and change.new and change.old.node.spec.taints != change.new.node.spec.taints
        sides = [node.node.metadata.labels for node in (change.old, change.new) if node is not None]
        counts = any(all(entry.topology_key in labels for entry in entries) for labels in sides)
        return bool(change.relabelled or retainted) and (counts or not entries)
    for other in (change.old, change.new):
        if other is None or other.meta.namespace != info.meta.namespace:
            continue
        for entry in entries:
            selector = with_keys(entry.label_selector, info.meta.labels, entry.match_label_keys)
            if selector is not None and matches(selector, other.meta.labels):
                return True
    return not entries


PLUGIN = Plugin(
    name="PodTopologySpread",
    order=9,
    weight=2,
    prepare=_prepare,
    adjust=_adjust,
    idle=lambda _info, ready: not ready.hard,
    filter=_filter,
    hint=_hint,
    score=_score,
)

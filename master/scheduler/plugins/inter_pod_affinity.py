"""InterPodAffinity: near the pods that a pod asks for, away from those it shuns, and from those that shun it.

Source: k/k `pkg/scheduler/framework/plugins/interpodaffinity` (filtering.go, scoring.go; hardPodAffinityWeight 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from operator import add
from typing import Any

from labctl.kube.selectors import matches
from master.scheduler.changes import Change, NodeMoved
from master.scheduler.cluster import Cluster
from master.scheduler.protocol import MOST, Plugin, Ratings, Refusal
from master.scheduler.snapshot import NodeInfo, PodInfo
from master.scheduler.terms import Term

_HARD_WEIGHT = 1  # what the required affinity of pods that run already counts for, beside 1 to 100 of wishes

Place = tuple[str, str]  # a node label and its value
Counts = Mapping[Place, int]
Labels = Mapping[str, str]

_NO_AFFINITY = Refusal(("node(s) didn't match pod affinity rules",), final=True)
_OWN_ANTI = Refusal(("node(s) didn't match pod anti-affinity rules",))
_THEIR_ANTI = Refusal(("node(s) didn't satisfy existing pods anti-affinity rules",))


@dataclass(frozen=True, slots=True)
class _Ready:
    """Where pods are that matter. `wanted` match every affinity term, `shunned` an anti-affinity term of the pod;
    `shunning` have a term that matches it. `score` is the sum of wishes."""

    own_spaces: Labels  # labels of the pod's namespace
    spaces: Mapping[str, Labels]
    lonely: bool  # the pod matches its own affinity terms: the first of its group may go anywhere
    wanted: Counts
    shunned: Counts
    shunning: Counts
    score: Counts


def _prepare(info: PodInfo, cluster: Cluster) -> _Ready:
    spaces = cluster.seen.namespaces
    own = spaces.get(info.meta.namespace, {})
    wanted: dict[Place, int] = {}
    shunned: dict[Place, int] = {}
    terms = info.terms
    if terms.affinity:
        for name, number in _near(cluster, terms.affinity).items():
            for term in terms.affinity:
                _add(wanted, term, cluster.nodes[name], number)
    for term in terms.anti:
        for name, number in _near(cluster, (term,)).items():
            _add(shunned, term, cluster.nodes[name], number)
    shunning: dict[Place, int] = {}
    for term, nodes in cluster.terms("anti").items():
        if term.matches(info.meta, own):
            for name, number in nodes.items():
                _add(shunning, term, cluster.nodes[name], number)
    lonely = bool(terms.affinity) and all(term.matches(info.meta, own) for term in terms.affinity)
    return _Ready(own, spaces, lonely, wanted, shunned, shunning, _wishes(info, cluster, own))


def _wishes(info: PodInfo, cluster: Cluster, own: Labels) -> dict[Place, int]:
    """The pod's wishes about others, and theirs about it."""
    score: dict[Place, int] = {}
    for mine, sign in ((info.terms.preferred, 1), (info.terms.preferred_anti, -1)):
        for term in mine:
            for name, number in _near(cluster, (term,)).items():
                _add(score, term, cluster.nodes[name], sign * term.weight * number)
    for theirs, sign in (
        (cluster.terms("affinity"), _HARD_WEIGHT),
        (cluster.terms("preferred"), 1),
        (cluster.terms("preferred_anti"), -1),
    ):
        for term, nodes in theirs.items():
            if term.matches(info.meta, own):
                for name, number in nodes.items():
                    _add(score, term, cluster.nodes[name], sign * (term.weight or 1) * number)
    return score


def _near(cluster: Cluster, terms: tuple[Term, ...]) -> Mapping[str, int]:
    """How many pods each node has that match every term."""
    spaces = cluster.seen.namespaces
    if any(term.spaces is not None for term in terms):  # namespaces' labels may change between two cycles
        key: Any = (terms, tuple(sorted((name, tuple(sorted(labels.items()))) for name, labels in spaces.items())))
    else:
        key = terms

    def matching(other: PodInfo) -> bool:
        labels = spaces.get(other.meta.namespace, {})
        return all(term.matches(other.meta, labels) for term in terms)

    return cluster.tally(key, matching)


def _add(counts: dict[Place, int], term: Term, node: NodeInfo, number: int) -> None:
    value = node.node.metadata.labels.get(term.key)
    if value is not None:
        place = (term.key, value)
        total = counts.get(place, 0) + number
        if total:
            counts[place] = total
        else:
            del counts[place]


def _adjust(info: PodInfo, ready: _Ready, other: PodInfo, node: NodeInfo, count: int) -> _Ready:
    labels = ready.spaces.get(other.meta.namespace, {})
    mine, theirs = info.terms, other.terms
    changed: dict[str, Any] = {}

    def changing(name: str) -> dict[Place, int]:
        if name not in changed:
            changed[name] = dict(getattr(ready, name))
        found: dict[Place, int] = changed[name]
        return found

    if mine.affinity and all(term.matches(other.meta, labels) for term in mine.affinity):
        for term in mine.affinity:
            _add(changing("wanted"), term, node, count)
    for term in mine.anti:
        if term.matches(other.meta, labels):
            _add(changing("shunned"), term, node, count)
    for term in theirs.anti:
        if term.matches(info.meta, ready.own_spaces):
            _add(changing("shunning"), term, node, count)
    for terms, sign in ((mine.preferred, 1), (mine.preferred_anti, -1)):
        for term in terms:
            if term.matches(other.meta, labels):
                _add(changing("score"), term, node, sign * term.weight * count)
    for terms, sign in ((theirs.affinity, _HARD_WEIGHT), (theirs.preferred, 1), (theirs.preferred_anti, -1)):
        for term in terms:
            if term.matches(info.meta, ready.own_spaces):
                _add(changing("score"), term, node, sign * (term.weight or 1) * count)
    return replace(ready, **changed) if changed else ready


def _filter(info: PodInfo, node: NodeInfo, ready: Any) -> Refusal | None:
    labels = node.node.metadata.labels
    if info.terms.affinity and not _attracted(info, labels, ready):
        return _NO_AFFINITY
    if ready.shunned and any((term.key, labels.get(term.key)) in ready.shunned for term in info.terms.anti):
        return _OWN_ANTI
    if ready.shunning and not ready.shunning.keys().isdisjoint(labels.items()):
        return _THEIR_ANTI
    return None


def _attracted(info: PodInfo, labels: Labels, ready: _Ready) -> bool:
    """Whether matching pods are near by every term; the first of a group that wants itself needs the labels only."""
    near = True
    for term in info.terms.affinity:
        value = labels.get(term.key)
        if value is None:
            return False
        near = near and (term.key, value) in ready.wanted
    return near or (not ready.wanted and ready.lonely)


def _score(info: PodInfo, nodes: Sequence[NodeInfo], ready: Any) -> Ratings | None:
    del info
    score: Counts = ready.score
    if not score:
        return None
    labels = [node.node.metadata.labels for node in nodes]
    sums = [0] * len(labels)
    for key in {key for key, _ in score}:
        by_value: dict[str | None, int] = {value: number for (of, value), number in score.items() if of == key}
        column = map(by_value.get, [own.get(key) for own in labels], repeat(0))
        sums = list(map(add, sums, column))
    lowest = min(sums)
    width = max(sums) - lowest
    return [float(int(MOST * (value - lowest) / width)) for value in sums] if width else None


def _hint(info: PodInfo, change: Change) -> bool:
    """A pod that is asked for came, one that was shunned or shunning left or changed; or a node came or was relabelled.

    Labels of namespaces are not known here: a term that selects by them counts as matching.
    """
    if isinstance(change, NodeMoved):
        return change.new is not None and change.relabelled
    if change.new is not None and any(_may_match(term, change.new) for term in info.terms.affinity):
        return True
    if change.old is None:
        return False
    if any(_may_match(term, change.old) for term in info.terms.anti):
        return True
    return any(_may_match(term, info) for term in change.old.terms.anti)


def _may_match(term: Term, other: PodInfo) -> bool:
    if term.spaces is not None:
        return term.selector is not None and matches(term.selector, other.meta.labels)
    return term.matches(other.meta, {})


PLUGIN = Plugin(
    name="InterPodAffinity",
    order=10,
    weight=2,
    prepare=_prepare,
    adjust=_adjust,
    idle=lambda info, ready: not (info.terms.affinity or info.terms.anti or ready.shunning),
    filter=_filter,
    hint=_hint,
    score=_score,
)

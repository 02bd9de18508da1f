"""What a pod demands of other pods near it: its affinity and anti-affinity terms, ready to be matched.

Source: k/k `pkg/scheduler/framework/types.go` (AffinityTerm, newAffinityTerm), `pkg/registry/core/pod/strategy.go`
(applyMatchLabelKeysAndMismatchLabelKeys).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from labctl.kube.meta import ObjectMeta
from labctl.kube.selectors import LabelSelector, Requirement, Selector, matches
from master.scheduler.views import Affinity, Pod, PodAffinity, PodAffinityTerm


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """Pods that match, in nodes alike in the label `key`. `selector` None matches no pod, `spaces` None no namespace.

    Told apart by identity: pods that ask for the same share their terms, so that these are counted fast.
    """

    key: str
    selector: Selector | None
    namespaces: frozenset[str]
    spaces: Selector | None
    weight: int = 0

    def matches(self, meta: ObjectMeta, namespace_labels: Mapping[str, str]) -> bool:
        """Whether a pod, in a namespace with these labels, is meant."""
        if self.selector is None or not matches(self.selector, meta.labels):
            return False
        if meta.namespace in self.namespaces:
            return True
        return self.spaces is not None and matches(self.spaces, namespace_labels)


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """All of a pod's terms: near such pods (affinity) or away from them (anti), required or preferred."""

    affinity: tuple[Term, ...] = ()
    anti: tuple[Term, ...] = ()
    preferred: tuple[Term, ...] = ()
    preferred_anti: tuple[Term, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.affinity or self.anti or self.preferred or self.preferred_anti)


NONE = Terms()


def terms_of(pod: Pod) -> Terms:
    """A pod's terms."""
    affinity, labels = pod.spec.affinity, pod.metadata.labels
    if affinity.pod_affinity == _NOTHING and affinity.pod_anti_affinity == _NOTHING:
        return NONE
    keys = sorted(key for term in _entries(affinity) for key in (*term.match_label_keys, *term.mismatch_label_keys))
    own = tuple((key, labels[key]) for key in keys if key in labels)
    return _terms(msgspec.json.encode(affinity), pod.metadata.namespace, own)


_NOTHING = PodAffinity()
_AFFINITY = msgspec.json.Decoder(Affinity)


def _entries(affinity: Affinity) -> Iterator[PodAffinityTerm]:
    for side in (affinity.pod_affinity, affinity.pod_anti_affinity):
        yield from side.required_during_scheduling_ignored_during_execution
        for entry in side.preferred_during_scheduling_ignored_during_execution:
            yield entry.pod_affinity_term


@lru_cache(maxsize=4_096)
def _terms(encoded: bytes, namespace: str, labels: tuple[tuple[str, str], ...]) -> Terms:
    affinity, own = _AFFINITY.decode(encoded), dict(labels)

    def required(side: PodAffinity) -> tuple[Term, ...]:
        entries = side.required_during_scheduling_ignored_during_execution
        return tuple(_term(entry, namespace, own) for entry in entries)

    def preferred(side: PodAffinity) -> tuple[Term, ...]:
        entries = side.preferred_during_scheduling_ignored_during_execution
        return tuple(_term(entry.pod_affinity_term, namespace, own, entry.weight) for entry in entries if entry.weight)

    near, away = affinity.pod_affinity, affinity.pod_anti_affinity
    return Terms(required(near), required(away), preferred(near), preferred(away)) or NONE


def with_keys(
    selector: LabelSelector | None, labels: Mapping[str, str], same: tuple[str, ...], other: tuple[str, ...] = ()
) -> Selector | None:
    """A selector that also asks for the pod's own values of the labels `same`, and for none of its values of `other`.

    The API server writes these into the object as it is created; to ask for them twice changes nothing.
    """
    if selector is None:
        return None
    own = [Requirement(key, "In", (labels[key],)) for key in same if key in labels]
    own += [Requirement(key, "NotIn", (labels[key],)) for key in other if key in labels]
    return (*selector.terms, *own)


def _term(entry: PodAffinityTerm, namespace: str, labels: Mapping[str, str], weight: int = 0) -> Term:
    spaces = entry.namespace_selector
    own_only = not entry.namespaces and spaces is None
    return Term(
        entry.topology_key,
        with_keys(entry.label_selector, labels, entry.match_label_keys, entry.mismatch_label_keys),
        frozenset((namespace,) if own_only else entry.namespaces),
        None if spaces is None else spaces.terms,
        weight,
    )

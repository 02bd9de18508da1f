"""NodeAffinity: nodeSelector, required and preferred node affinity.

Source: k/k `pkg/scheduler/framework/plugins/nodeaffinity`, component-helpers `scheduling/corev1/nodeaffinity`.
"""

from __future__ import annotations

from typing import Any

from labctl.kube import selectors
from master.scheduler.changes import Change, NodeMoved
from master.scheduler.protocol import Plugin, Refusal, scaled
from master.scheduler.snapshot import NodeInfo, PodInfo
from master.scheduler.views import Node, NodeSelectorTerm, PreferredTerm


def matches(term: NodeSelectorTerm, node: Node) -> bool:
    """Whether a term holds; an empty one never does."""
    if not term.match_expressions and not term.match_fields:
        return False
    meta = node.metadata
    fields = {"metadata.name": meta.name}
    return selectors.matches(term.match_expressions, meta.labels) and selectors.matches(term.match_fields, fields)


def attracted(info: PodInfo, node: NodeInfo) -> bool:
    """Whether the node is one of those that the pod's selector and required affinity ask for."""
    spec = info.pod.spec
    required = spec.affinity.node_affinity.required_during_scheduling_ignored_during_execution
    if not spec.node_selector.items() <= node.node.metadata.labels.items():
        return False
    return required is None or any(matches(term, node.node) for term in required.node_selector_terms)


_ELSEWHERE = Refusal(("node(s) didn't match Pod's node affinity/selector",), final=True)


def _filter(info: PodInfo, node: NodeInfo, _: Any) -> Refusal | None:
    return None if attracted(info, node) else _ELSEWHERE


def _only(info: PodInfo) -> frozenset[str] | None:
    """The nodes that are asked for by name, as for the pods of a DaemonSet."""
    required = info.pod.spec.affinity.node_affinity.required_during_scheduling_ignored_during_execution
    if required is None:
        return None
    names: set[str] = set()
    for term in required.node_selector_terms:
        wanted = [set(entry.values) for entry in term.match_fields if entry.operator == "In"]
        if not wanted:
            return None
        names |= set.intersection(*wanted)
    return frozenset(names)


def _preferred(info: PodInfo) -> tuple[PreferredTerm, ...]:
    return info.pod.spec.affinity.node_affinity.preferred_during_scheduling_ignored_during_execution


def _rate(info: PodInfo, node: NodeInfo) -> float:
    return float(sum(entry.weight for entry in _preferred(info) if matches(entry.preference, node.node)))


def _hint(info: PodInfo, change: Change) -> bool:
    if not isinstance(change, NodeMoved) or change.new is None:
        return False
    return attracted(info, change.new) and (change.old is None or not attracted(info, change.old))


PLUGIN = Plugin(
    name="NodeAffinity",
    order=4,
    weight=2,
    only=_only,
    filter=_filter,
    hint=_hint,
    rate=_rate,
    normalize=scaled,
    applies=lambda info: bool(_preferred(info)),
)

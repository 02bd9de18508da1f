"""NodeAffinity: nodeSelector, required and preferred node affinity.

Source: k/k `pkg/scheduler/framework/plugins/nodeaffinity`, component-helpers `scheduling/corev1/nodeaffinity`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from labctl.kube.selectors import Requirement
from master.scheduler.protocol import Plugin, scaled
from master.scheduler.snapshot import NodeInfo, PodInfo
from master.scheduler.views import Expression, Node, NodeSelectorTerm


def _hold(expressions: Iterable[Expression], values: Mapping[str, str]) -> bool:
    return all(Requirement(entry.key, entry.operator, entry.values).matches(values) for entry in expressions)


def matches(term: NodeSelectorTerm, node: Node) -> bool:
    """Whether a term holds; an empty one never does."""
    if not term.match_expressions and not term.match_fields:
        return False
    fields = {"metadata.name": node.metadata.name}
    return _hold(term.match_expressions, node.metadata.labels) and _hold(term.match_fields, fields)


def _filter(info: PodInfo, node: NodeInfo, _: Any) -> str:
    spec = info.pod.spec
    required = spec.affinity.node_affinity.required_during_scheduling_ignored_during_execution
    fits = spec.node_selector.items() <= node.node.metadata.labels.items() and (
        required is None or any(matches(term, node.node) for term in required.node_selector_terms)
    )
    return "" if fits else "node(s) didn't match Pod's node affinity/selector"


def _score(info: PodInfo, node: NodeInfo, _: Any) -> float:
    preferred = info.pod.spec.affinity.node_affinity.preferred_during_scheduling_ignored_during_execution
    return float(sum(entry.weight for entry in preferred if matches(entry.preference, node.node)))


PLUGIN = Plugin(name="NodeAffinity", order=4, weight=2, filter=_filter, score=_score, normalize=scaled)

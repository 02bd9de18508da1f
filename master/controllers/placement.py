"""Where the pods of a DaemonSet belong. Pure.

Source: k/k `pkg/controller/daemon/daemon_controller.go` (NodeShouldRunDaemonPod), `util/daemonset_util.go`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labctl.kube.errors import Document
from labctl.kube.selectors import matches
from labctl.kube.taints import Toleration, tolerates
from master.controllers.views import Node, Pod, PodSpec

_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
_HOST_NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a new pod belongs on a node, and whether one that is there may stay."""

    run: bool
    stay: bool


def judge(spec: PodSpec, node: Node) -> Verdict:
    """By the template's node name, selector, affinity and tolerations, with those that every daemon has."""
    if spec.node_name not in ("", node.metadata.name) or not _attracted(spec, node):
        return Verdict(False, False)
    always = (*_TOLERATED, _HOST_NETWORK) if spec.host_network else _TOLERATED
    tolerations = (*spec.tolerations, *(Toleration(key=key, operator="Exists", effect=to) for key, to in always))
    taints = [
        taint
        for taint in node.spec.taints
        if taint.effect in {"NoSchedule", "NoExecute"} and not any(tolerates(one, taint) for one in tolerations)
    ]
    return Verdict(not taints, not any(taint.effect == "NoExecute" for taint in taints))


def _attracted(spec: PodSpec, node: Node) -> bool:
    if not spec.node_selector.items() <= node.metadata.labels.items():
        return False
    required = spec.affinity.node_affinity.required_during_scheduling_ignored_during_execution
    fields = {"metadata.name": node.metadata.name}
    return required is None or any(
        (term.match_expressions or term.match_fields)
        and matches(term.match_expressions, node.metadata.labels)
        and matches(term.match_fields, fields)
        for term in required.node_selector_terms
    )


def node_of(pod: Pod) -> str:
    """The node that a daemon's pod is on, or is meant for."""
    if pod.spec.node_name:
        return pod.spec.node_name
    required = pod.spec.affinity.node_affinity.required_during_scheduling_ignored_during_execution
    for term in required.node_selector_terms if required else ():
        for entry in term.match_fields:
            if entry.key == "metadata.name" and entry.operator == "In" and len(entry.values) == 1:
                return entry.values[0]
    return ""


def tied_to(spec: Document, node: str) -> dict[str, Any]:
    """The spec fields that bind a pod to a node through the scheduler and let it stay there in trouble."""
    affinity = dict(spec.get("affinity") or {})
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    affinity["nodeAffinity"] = {**(affinity.get("nodeAffinity") or {}), **required}
    wanted = [*_TOLERATED, *([_HOST_NETWORK] if spec.get("hostNetwork") else [])]
    tolerations: list[Document] = [{"key": key, "operator": "Exists", "effect": effect} for key, effect in wanted]
    given = [entry for entry in spec.get("tolerations") or () if entry not in tolerations]
    return {"affinity": affinity, "tolerations": [*given, *tolerations]}

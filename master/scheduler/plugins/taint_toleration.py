"""TaintToleration: stay off nodes whose taints the pod does not tolerate; prefer those it need not put up with.

Source: k/k `pkg/scheduler/framework/plugins/tainttoleration`.
"""

from __future__ import annotations

from typing import Any

from labctl.kube.taints import Taint, tolerates
from master.scheduler.changes import Change, NodeMoved
from master.scheduler.protocol import Plugin, Refusal, scaled
from master.scheduler.snapshot import NodeInfo, PodInfo


def _tolerated(info: PodInfo, taint: Taint) -> bool:
    return any(tolerates(toleration, taint) for toleration in info.pod.spec.tolerations)


def admitted(info: PodInfo, node: NodeInfo) -> bool:
    """Whether the pod puts up with every taint that keeps pods off."""
    taints = node.node.spec.taints
    return all(taint.effect not in {"NoSchedule", "NoExecute"} or _tolerated(info, taint) for taint in taints)


_TAINTED = Refusal(("node(s) had untolerated taint(s)",), final=True)  # since 1.36 without naming the taint


def _filter(info: PodInfo, node: NodeInfo, _: Any) -> Refusal | None:
    return None if admitted(info, node) else _TAINTED


def _rate(info: PodInfo, node: NodeInfo) -> float:
    """How many taints the pod would rather avoid."""
    taints = (taint for taint in node.node.spec.taints if taint.effect == "PreferNoSchedule")
    return float(sum(not _tolerated(info, taint) for taint in taints))


def _hint(info: PodInfo, change: Change) -> bool:
    if not isinstance(change, NodeMoved) or change.new is None:
        return False
    return admitted(info, change.new) and (change.old is None or not admitted(info, change.old))


PLUGIN = Plugin(
    name="TaintToleration",
    order=3,
    weight=3,
    filter=_filter,
    hint=_hint,
    rate=_rate,
    normalize=lambda ratings: scaled(ratings, reverse=True),
)

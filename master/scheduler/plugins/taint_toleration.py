"""TaintToleration: stay off nodes whose taints the pod does not tolerate; prefer those it need not put up with.

Source: k/k `pkg/scheduler/framework/plugins/tainttoleration`.
"""

from __future__ import annotations

from typing import Any

from master.scheduler.protocol import Plugin, scaled
from master.scheduler.snapshot import NodeInfo, PodInfo
from master.scheduler.views import Taint, Toleration


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether a toleration covers a taint."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value


def _tolerated(info: PodInfo, taint: Taint) -> bool:
    return any(tolerates(toleration, taint) for toleration in info.pod.spec.tolerations)


def _filter(info: PodInfo, node: NodeInfo, _: Any) -> str:
    for taint in node.node.spec.taints:
        if taint.effect in {"NoSchedule", "NoExecute"} and not _tolerated(info, taint):
            return "node(s) had untolerated taint(s)"
    return ""


def _score(info: PodInfo, node: NodeInfo, _: Any) -> float:
    """How many taints the pod would rather avoid."""
    taints = (taint for taint in node.node.spec.taints if taint.effect == "PreferNoSchedule")
    return float(sum(not _tolerated(info, taint) for taint in taints))


PLUGIN = Plugin(
    name="TaintToleration",
    order=3,
    weight=3,
    filter=_filter,
    score=_score,
    normalize=lambda scores: scaled(scores, reverse=True),
)

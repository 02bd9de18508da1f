"""NodeUnschedulable: cordoned nodes take no pods, except those that tolerate the cordon."""

from __future__ import annotations

from typing import Any

from labctl.kube.taints import Taint, tolerates
from master.scheduler.changes import Change, NodeMoved
from master.scheduler.protocol import Plugin, Refusal
from master.scheduler.snapshot import NodeInfo, PodInfo

_CORDON = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
_CORDONED = Refusal(("node(s) were unschedulable",), final=True)


def _filter(info: PodInfo, node: NodeInfo, _: Any) -> Refusal | None:
    if not node.node.spec.unschedulable or any(tolerates(entry, _CORDON) for entry in info.pod.spec.tolerations):
        return None
    return _CORDONED


def _hint(info: PodInfo, change: Change) -> bool:
    if not isinstance(change, NodeMoved) or change.new is None:
        return False
    was_closed = change.old is None or _filter(info, change.old, None) is not None
    return was_closed and _filter(info, change.new, None) is None


PLUGIN = Plugin(name="NodeUnschedulable", order=1, filter=_filter, hint=_hint)

"""NodeUnschedulable: cordoned nodes take no pods, except those that tolerate the cordon."""

from __future__ import annotations

from typing import Any

from master.scheduler.changes import Change, NodeMoved
from master.scheduler.protocol import Plugin, Refusal
from master.scheduler.snapshot import NodeInfo, PodInfo
from master.scheduler.views import Taint, Toleration

_CORDON = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
_CORDONED = Refusal(("node(s) were unschedulable",), final=True)


def _tolerates(entry: Toleration) -> bool:
    fits = entry.key in ("", _CORDON.key) and entry.effect in ("", _CORDON.effect)
    return fits and (entry.operator == "Exists" or (bool(entry.key) and entry.value == ""))


def _filter(info: PodInfo, node: NodeInfo, _: Any) -> Refusal | None:
    if not node.node.spec.unschedulable or any(_tolerates(entry) for entry in info.pod.spec.tolerations):
        return None
    return _CORDONED


def _hint(info: PodInfo, change: Change) -> bool:
    if not isinstance(change, NodeMoved) or change.new is None:
        return False
    was_closed = change.old is None or _filter(info, change.old, None) is not None
    return was_closed and _filter(info, change.new, None) is None


PLUGIN = Plugin(name="NodeUnschedulable", order=1, filter=_filter, hint=_hint)

"""NodeName: a pod that names its node runs there or nowhere."""

from __future__ import annotations

from typing import Any

from master.scheduler.changes import Change, NodeMoved
from master.scheduler.protocol import Plugin, Refusal
from master.scheduler.snapshot import NodeInfo, PodInfo

_ELSEWHERE = Refusal(("node(s) didn't match the requested node name",), final=True)


def _filter(info: PodInfo, node: NodeInfo, _: Any) -> Refusal | None:
    wanted = info.pod.spec.node_name
    return None if wanted in ("", node.name) else _ELSEWHERE


def _hint(info: PodInfo, change: Change) -> bool:
    if not isinstance(change, NodeMoved) or change.new is None:
        return False
    return change.old is None and _filter(info, change.new, None) is None


PLUGIN = Plugin(name="NodeName", order=2, filter=_filter, hint=_hint)

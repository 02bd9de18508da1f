"""NodeName: a pod that names its node runs there or nowhere."""

from __future__ import annotations

from typing import Any

from master.scheduler.protocol import Plugin
from master.scheduler.snapshot import NodeInfo, PodInfo


def _filter(info: PodInfo, node: NodeInfo, _: Any) -> str:
    wanted = info.pod.spec.node_name
    return "" if wanted in ("", node.name) else "node(s) didn't match the requested node name"


PLUGIN = Plugin(name="NodeName", order=2, filter=_filter)

"""NodePorts: a port of the node's own goes to one pod only."""

from __future__ import annotations

from typing import Any

from master.scheduler.changes import Change, NodeMoved
from master.scheduler.protocol import Plugin, Refusal
from master.scheduler.snapshot import NodeInfo, PodInfo

_TAKEN = Refusal(("node(s) didn't have free ports for the requested pod ports",))


def _filter(info: PodInfo, node: NodeInfo, _: Any) -> Refusal | None:
    if info.ports:
        taken = [port for other in node.pods for port in other.ports]
        if any(port.clashes(other) for port in info.ports for other in taken):
            return _TAKEN
    return None


def _hint(info: PodInfo, change: Change) -> bool:
    if isinstance(change, NodeMoved):
        return change.old is None
    left = change.old.ports if change.old is not None and change.new is None else ()
    return any(port.clashes(other) for port in info.ports for other in left)


PLUGIN = Plugin(name="NodePorts", order=5, filter=_filter, hint=_hint)

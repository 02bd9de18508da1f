"""NodeResourcesFit: enough of everything is left; and the emptier, the better (LeastAllocated).

Source: k/k `pkg/scheduler/framework/plugins/noderesources` (fit.go, least_allocated.go).
"""

from __future__ import annotations

from typing import Any

from master.scheduler.changes import Change, NodeMoved
from master.scheduler.protocol import MOST, Plugin, Refusal
from master.scheduler.snapshot import CPU, MEMORY, PODS, NodeInfo, PodInfo


def _filter(info: PodInfo, node: NodeInfo, _: Any) -> Refusal | None:
    why: list[str] = []
    if len(node.pods) + 1 > node.allocatable.get(PODS, 0):
        why.append("Too many pods")
    final = False
    for name, amount in info.requests.items():
        room = node.allocatable.get(name, 0)
        if amount and amount > room - node.requested.get(name, 0):
            why.append(f"Insufficient {name}")
            final = final or amount > room  # not even an empty node would do
    return Refusal(tuple(why), final) if why else None


def _rate(info: PodInfo, node: NodeInfo) -> float:
    total = 0.0
    for name in (CPU, MEMORY):
        room = node.allocatable.get(name, 0)
        taken = node.weight.get(name, 0) + info.weight.get(name, 0)
        if room > 0 and taken <= room:
            total += (room - taken) * MOST // room
    return total // 2


def _hint(info: PodInfo, change: Change) -> bool:
    """Where something was given back that the pod needs, or a node came or grew that could hold it when empty."""
    if isinstance(change, NodeMoved):
        if change.new is None or (change.old is not None and change.old.allocatable == change.new.allocatable):
            return False
        room = change.new.allocatable
        return all(amount <= room.get(name, 0) for name, amount in info.requests.items())
    if change.old is None:
        return False
    if change.new is None:
        return True  # its place among the pods at least
    return any(change.new.requests.get(name, 0) < amount for name, amount in change.old.requests.items())


PLUGIN = Plugin(name="NodeResourcesFit", order=6, weight=1, filter=_filter, rate=_rate, hint=_hint)

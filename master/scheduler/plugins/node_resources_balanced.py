"""NodeResourcesBalancedAllocation: prefer nodes on which CPU and memory fill up evenly.

Source: k/k `pkg/scheduler/framework/plugins/noderesources/balanced_allocation.go`.
"""

from __future__ import annotations

from typing import Any

from master.scheduler.protocol import MOST, Plugin
from master.scheduler.snapshot import CPU, MEMORY, NodeInfo, PodInfo


def _score(info: PodInfo, node: NodeInfo, _: Any) -> float:
    shares: list[float] = []
    for name in (CPU, MEMORY):
        if room := node.allocatable.get(name, 0):
            shares.append(min(1.0, (node.requested.get(name, 0) + info.requests.get(name, 0)) / room))
    deviation = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else 0.0
    return float(int((1 - deviation) * MOST))


PLUGIN = Plugin(name="NodeResourcesBalancedAllocation", weight=1, score=_score)

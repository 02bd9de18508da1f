"""NodeResourcesBalancedAllocation: prefer nodes on which CPU and memory fill up evenly.

Source: k/k `pkg/scheduler/framework/plugins/noderesources/balanced_allocation.go`.
"""

from __future__ import annotations

from master.scheduler.protocol import MOST, Plugin
from master.scheduler.snapshot import CPU, MEMORY, Amounts, NodeInfo, PodInfo


def _balance(node: NodeInfo, more: Amounts) -> int:
    """100 where CPU and memory are taken to the same degree, 50 where one is full and the other free."""
    shares: list[float] = []
    for name in (CPU, MEMORY):
        if room := node.allocatable.get(name, 0):
            shares.append(min(1.0, (node.requested.get(name, 0) + more.get(name, 0)) / room))
    deviation = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else 0.0
    return int((1 - deviation) * MOST)


def _rate(info: PodInfo, node: NodeInfo) -> float:
    """By how much the pod would improve the balance; 75 where it leaves it as it is."""
    better = _balance(node, info.requests) - _balance(node, {})
    return MOST / 2 + (MOST / 2 + better) // 2


def _applies(info: PodInfo) -> bool:
    """Pods that ask for nothing would otherwise crowd where the balance happens to be good."""
    return bool(info.requests.get(CPU) or info.requests.get(MEMORY))


PLUGIN = Plugin(name="NodeResourcesBalancedAllocation", weight=1, rate=_rate, applies=_applies)

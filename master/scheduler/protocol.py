"""What a scheduler plugin is: any of a preparation, a filter and a score, all pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from labctl.kube.selectors import Selector, matches
from master.scheduler.snapshot import NodeInfo, PodInfo, Snapshot

MOST = 100.0  # the best score a plugin may give

Scores = Mapping[str, float]  # by node name


class Cluster:
    """The nodes as they stand while a cycle goes on: pods placed earlier in the cycle are on them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.nodes: dict[str, NodeInfo] = dict(snapshot.nodes)
        self.services = snapshot.services
        self._counts: dict[tuple[str, Selector], dict[str, int]] = {}

    def place(self, info: PodInfo, node: str) -> None:
        """Count `info` as running on `node` from now on."""
        self.nodes[node] = self.nodes[node].with_pod(info)
        for (namespace, selector), counts in self._counts.items():
            if info.meta.namespace == namespace and matches(selector, info.meta.labels):
                counts[node] = counts.get(node, 0) + 1

    def count(self, namespace: str, selector: Selector) -> Mapping[str, int]:
        """How many matching pods that are not on their way out each node has; nodes with none are left out."""
        key = (namespace, selector)
        if key not in self._counts:
            counts: dict[str, int] = {}
            for name, node in self.nodes.items():
                number = sum(
                    info.meta.namespace == namespace and not info.meta.deleting and matches(selector, info.meta.labels)
                    for info in node.pods
                )
                if number:
                    counts[name] = number
            self._counts[key] = counts
        return self._counts[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """`prepare` runs once a pod, its result goes to the others. `filter` says why not, "" for yes.

    `score` rates a node that passed; `normalize` turns the ratings of all of them into 0 to 100.
    """

    name: str
    order: int = 100  # filters run in this order, and the first to object is the reason given
    weight: int = 0
    prepare: Callable[[PodInfo, Cluster], Any] = lambda _pod, _cluster: None
    filter: Callable[[PodInfo, NodeInfo, Any], str] | None = None
    score: Callable[[PodInfo, NodeInfo, Any], float] | None = None
    normalize: Callable[[Scores], Scores] = lambda scores: scores


def scaled(scores: Scores, *, reverse: bool = False) -> Scores:
    """Stretch to 0..100 by the highest; `reverse` where less is better. Upstream's DefaultNormalizeScore."""
    highest = max(scores.values(), default=0.0)
    if highest <= 0:
        return dict.fromkeys(scores, MOST if reverse else 0.0)
    stretched = {name: float(int(MOST * value / highest)) for name, value in scores.items()}
    return {name: MOST - value for name, value in stretched.items()} if reverse else stretched

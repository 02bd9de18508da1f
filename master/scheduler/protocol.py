"""What a scheduler plugin is: any of a preparation, a filter and a score, all pure.

A plugin without `prepare` judges a node by itself: its verdict depends on the pod's spec and on the node alone, and the
cycle asks for it again only when the node has changed. One with `prepare` looks at the whole cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from master.scheduler.changes import Change
from master.scheduler.snapshot import NodeInfo, PodInfo

if TYPE_CHECKING:
    from master.scheduler.cluster import Cluster

MOST = 100.0  # the best score a plugin may give

Ratings = Sequence[float]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod cannot run on a node, in upstream's words. `final`: it would not help if pods left the node."""

    reasons: tuple[str, ...]
    final: bool = False


def unchanged(_info: PodInfo, ready: Any, _other: PodInfo, _node: NodeInfo, _count: int) -> Any:
    """Of a plugin to which other pods are all the same."""
    return ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A part of the decision; every function gets the pod to place first.

    - `only`: names of the only nodes that can do, or None for all.
    - `prepare`: what `filter`, `score` and `adjust` need to know of the cluster; once a pod.
    - `adjust`: that knowledge after another pod came to a node (+1) or left it (-1); the old one is left as it is.
    - `filter`: why the pod cannot run on a node; None where it can. It gets what was prepared.
    - `idle`: by what was prepared, whether `filter` would object to no node at all.
    - `rate`: a rating of one node by itself, and `normalize` turns those of all nodes into 0 to 100.
    - `score`: for plugins that prepare, 0 to 100 for all nodes at once; None where it makes no difference.
    - `applies`: whether nodes are rated at all.
    - `hint`: whether a change could make the pod fit that `filter` refused (upstream's queueing hints).
    """

    name: str
    order: int = 100  # filters run in this order, and the first to object is the reason given
    weight: int = 0
    only: Callable[[PodInfo], frozenset[str] | None] | None = None
    prepare: Callable[[PodInfo, Cluster], Any] | None = None
    adjust: Callable[[PodInfo, Any, PodInfo, NodeInfo, int], Any] = unchanged
    filter: Callable[[PodInfo, NodeInfo, Any], Refusal | None] | None = None
    idle: Callable[[PodInfo, Any], bool] = lambda _info, _ready: False
    rate: Callable[[PodInfo, NodeInfo], float] | None = None
    normalize: Callable[[Ratings], Ratings] | None = None
    score: Callable[[PodInfo, Sequence[NodeInfo], Any], Ratings | None] | None = None
    applies: Callable[[PodInfo], bool] = lambda _info: True
    hint: Callable[[PodInfo, Change], bool] = lambda _info, _change: True


def scaled(ratings: Ratings, *, reverse: bool = False) -> Ratings:
    """Stretch to 0..100 by the highest; `reverse` where less is better. Upstream's DefaultNormalizeScore."""
    highest = max(ratings, default=0.0)
    if highest <= 0:
        return [MOST if reverse else 0.0] * len(ratings)
    stretched = [float(int(MOST * value / highest)) for value in ratings]
    return [MOST - value for value in stretched] if reverse else stretched

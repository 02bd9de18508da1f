"""The cluster as it stands while pods are placed, with the counts that plugins ask for again and again.

It may be kept from one cycle to the next: `move` takes over a new snapshot and looks again only at the nodes that
changed, which it tells by identity (a NodeInfo is replaced, never changed). What it answers does not depend on what it
was asked before, so a cycle with a kept Cluster decides as one with a new one would.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import Any, Literal, TypeVar

from master.scheduler.protocol import Plugin, Refusal
from master.scheduler.snapshot import NodeInfo, PodInfo, Snapshot
from master.scheduler.terms import NONE, Term

_TALLIES = 128  # different questions remembered
_SHAPES = 32  # different pods whose verdicts on nodes are remembered

_ZONE = "topology.kubernetes.io/zone"

T = TypeVar("T")
Test = Callable[[PodInfo], bool]
Kind = Literal["affinity", "anti", "preferred", "preferred_anti"]
_KINDS: tuple[Kind, ...] = ("affinity", "anti", "preferred", "preferred_anti")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of the plugins that judge a node by itself: a refusal and whose, or ratings in the plugins' order."""

    node: NodeInfo
    refusal: Refusal | None
    by: str
    ratings: tuple[float, ...] = ()


class Cluster:
    """Nodes with their pods; pods placed earlier in the cycle are on them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self.seen = snapshot
        self.start = 0
        self.nominated: dict[str, tuple[PodInfo, ...]] = {}  # pods that the room on a node is kept for
        self.images: dict[str, int] = {}  # how many nodes have an image
        self._tallies: OrderedDict[Hashable, tuple[Test, dict[str, int]]] = OrderedDict()
        self._terms: dict[Kind, dict[Term, dict[str, int]]] = {kind: {} for kind in _KINDS}
        self._verdicts: OrderedDict[bytes, dict[str, Verdict]] = OrderedDict()
        self._ready: dict[bytes, tuple[PodInfo, dict[str, Any]]] = {}
        self._of_nodes: OrderedDict[Hashable, Any] = OrderedDict()
        self._names: list[str] = []  # as in the snapshot
        self._order: list[str] = []  # zone by zone in turn
        self.move(snapshot)

    def move(self, snapshot: Snapshot) -> Cluster:
        """Take over a new snapshot."""
        self.seen, self.start, self._ready = snapshot, snapshot.start, {}
        self.nominated = dict(snapshot.nominated)
        while len(self._tallies) > _TALLIES:
            self._tallies.popitem(last=False)
        for name in self.nodes.keys() - snapshot.nodes.keys():
            self._replace(name, None)
        zones_moved = False
        known = self.nodes.get
        for name, node in [(name, node) for name, node in snapshot.nodes.items() if known(name) is not node]:
            old = known(name)
            zones_moved = zones_moved or old is None or _zone(old) != _zone(node)
            self._replace(name, node)
        names = list(snapshot.nodes)
        if zones_moved or self._names != names:
            self._names = names
            self._order = _interleaved(snapshot.nodes)
        return self

    def place(self, info: PodInfo, name: str, plugins: Iterable[Plugin]) -> None:
        """Count `info` as running on a node from now on."""
        node = self.nodes[name].with_pod(info)
        self._replace(name, node)
        kept_for = info.pod.status.nominated_node_name
        if kept_for in self.nominated:  # it has what it waited for
            rest = tuple(other for other in self.nominated[kept_for] if other.meta.uid != info.meta.uid)
            self.nominated[kept_for] = rest
        for owner, ready in self._ready.values():
            for plugin in plugins:
                if plugin.prepare is not None:
                    ready[plugin.name] = plugin.adjust(owner, ready[plugin.name], info, node, 1)

    def nominate(self, info: PodInfo, name: str) -> None:
        """Keep the room that is being made on a node for `info`; those of a lower priority lose their claim."""
        rest = [other for other in self.nominated.get(name, ()) if other.priority >= info.priority]
        self.nominated[name] = (*(other for other in rest if other.meta.uid != info.meta.uid), info)

    def in_turn(self) -> Iterator[str]:
        """Every node's name, beginning where the last search ended, and zone by zone in turn."""
        at = self.start % max(1, len(self._order))
        return chain(islice(self._order, at, None), islice(self._order, at))

    def ready(self, info: PodInfo, plugins: Iterable[Plugin]) -> dict[str, Any]:
        """What plugins prepare for a pod, by their names; once for all pods of its kind."""
        known = self._ready.get(info.kin)
        if known is None:
            made = {plugin.name: plugin.prepare(info, self) for plugin in plugins if plugin.prepare is not None}
            known = self._ready[info.kin] = (info, made)
        return known[1]

    def verdicts(self, info: PodInfo) -> dict[str, Verdict]:
        """Verdicts on nodes as they are now, by their names, for pods of one shape; the caller adds what is missing."""
        found = self._verdicts.get(info.shape)
        if found is None:
            found = self._verdicts[info.shape] = {}
            while len(self._verdicts) > _SHAPES:
                self._verdicts.popitem(last=False)
        else:
            self._verdicts.move_to_end(info.shape)
        return found

    def tally(self, key: Hashable, test: Test) -> Mapping[str, int]:
        """How many pods each node has for which `test` holds; nodes without any are left out.

        `key` stands for the test: the same key must always mean the same question.
        """
        known = self._tallies.get(key)
        if known is None:
            counts: dict[str, int] = {}
            for name, node in self.nodes.items():
                if node.pods and (number := sum(map(test, node.pods))):
                    counts[name] = number
            known = self._tallies[key] = (test, counts)
        else:
            self._tallies.move_to_end(key)
        return known[1]

    def of_nodes(self, key: Hashable, make: Callable[[], T]) -> T:
        """Something that follows from the nodes by themselves, whatever runs on them; remembered while they stay."""
        if key not in self._of_nodes:
            self._of_nodes[key] = make()
            while len(self._of_nodes) > _SHAPES:
                self._of_nodes.popitem(last=False)
        self._of_nodes.move_to_end(key)
        found: T = self._of_nodes[key]
        return found

    def terms(self, kind: Kind) -> Mapping[Term, Mapping[str, int]]:
        """The terms of one kind that pods on nodes have, and on which nodes how many pods have each."""
        return self._terms[kind]

    def _replace(self, name: str, node: NodeInfo | None) -> None:
        old = self.nodes.get(name)
        if old is None or node is None or old.node is not node.node:
            self._of_nodes.clear()
        before = {id(info): info for info in old.pods} if old else {}
        after = {id(info): info for info in node.pods} if node else {}
        gone = [info for key, info in before.items() if key not in after]
        come = [info for key, info in after.items() if key not in before]
        for test, counts in self._tallies.values():
            _add(counts, name, sum(map(test, come)) - sum(map(test, gone)))
        for info, number in chain(((info, 1) for info in come), ((info, -1) for info in gone)):
            if info.terms is not NONE:
                self._count_terms(info, name, number)
        images = node.image_bytes if node else {}
        if (had := old.image_bytes if old else {}) != images:
            for image in had:
                _add(self.images, image, -1)
            for image in images:
                _add(self.images, image, 1)
        for known in self._verdicts.values():
            known.pop(name, None)
        if node is None:
            del self.nodes[name]
        else:
            self.nodes[name] = node

    def _count_terms(self, info: PodInfo, name: str, number: int) -> None:
        for kind in _KINDS:
            index = self._terms[kind]
            for term in getattr(info.terms, kind):
                nodes = index.setdefault(term, {})
                _add(nodes, name, number)
                if not nodes:
                    del index[term]


def _add(counts: dict[str, int], key: str, number: int) -> None:
    """Zero counts are not kept."""
    if total := counts.get(key, 0) + number:
        counts[key] = total
    else:
        counts.pop(key, None)


def _zone(node: NodeInfo) -> str:
    return node.node.metadata.labels.get(_ZONE, "")


def _interleaved(nodes: Mapping[str, NodeInfo]) -> list[str]:
    """One node of each zone in turn, so that a search that ends early has looked into all. Upstream's nodeTree."""
    zones: dict[str, list[str]] = {}
    for name, node in nodes.items():
        zones.setdefault(_zone(node), []).append(name)
    return [name for row in zip_longest(*zones.values()) for name in row if name is not None]

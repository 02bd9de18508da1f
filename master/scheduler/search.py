"""Which nodes can a pod run on, and why not on the others? Pure.

Source: k/k `pkg/scheduler/schedule_one.go` (findNodesThatFitPod, numFeasibleNodesToFind),
`framework/runtime/framework.go` (RunFilterPluginsWithNominatedPods).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from master.scheduler.cluster import Cluster, Verdict
from master.scheduler.protocol import Plugin, Refusal
from master.scheduler.snapshot import NodeInfo, PodInfo

_FEW_NODES = 100  # so many that fit are always looked for
_LEAST_PERCENT = 5


@dataclass(frozen=True, slots=True)
class Profile:
    """Plugins by what they do."""

    own: tuple[Plugin, ...]  # filters that judge a node by itself
    wide: tuple[Plugin, ...]  # filters that look at the whole cluster
    preparing: tuple[Plugin, ...]
    plain: tuple[Plugin, ...]  # their ratings are scores already
    relative: tuple[Plugin, ...]  # their ratings are to be normalized over all nodes
    scoring: tuple[Plugin, ...]
    narrowing: tuple[Plugin, ...]

    @classmethod
    def of(cls, plugins: Sequence[Plugin]) -> Profile:
        """Sort them out."""
        return cls(
            own=tuple(plugin for plugin in plugins if plugin.filter and plugin.prepare is None),
            wide=tuple(plugin for plugin in plugins if plugin.filter and plugin.prepare is not None),
            preparing=tuple(plugin for plugin in plugins if plugin.prepare is not None),
            plain=tuple(plugin for plugin in plugins if plugin.rate and plugin.normalize is None),
            relative=tuple(plugin for plugin in plugins if plugin.rate and plugin.normalize is not None),
            scoring=tuple(plugin for plugin in plugins if plugin.score),
            narrowing=tuple(plugin for plugin in plugins if plugin.only),
        )


@dataclass(slots=True)
class Found:
    """What a search found: nodes that fit, and who refused the others; nodes not looked at are in neither."""

    fitting: list[Verdict] = field(default_factory=list)
    refused: dict[str, tuple[Refusal, str]] = field(default_factory=dict)  # node -> why, plugin
    narrowed_by: tuple[str, ...] = ()  # plugins that named the only nodes to look at
    conflict: bool = False  # they left none
    examined: int = 0


def enough(nodes: int, percentage: int) -> int:
    """How many nodes that fit are enough. `percentage` 0: 50, less one for every 125 nodes, at least 5."""
    if nodes < _FEW_NODES or percentage >= 100:
        return nodes
    return max(_FEW_NODES, nodes * (percentage or max(_LEAST_PERCENT, 50 - nodes // 125)) // 100)


def search(info: PodInfo, cluster: Cluster, profile: Profile) -> Found:
    """Look at nodes until enough fit."""
    found = Found()
    names: Iterable[str] = cluster.in_turn()
    total = len(cluster.nodes)
    for plugin in profile.narrowing:
        if plugin.only is not None and (only := plugin.only(info)) is not None:
            names = [name for name in names if name in only]
            total, found.conflict = len(names), found.conflict or not only
            found.narrowed_by += (plugin.name,)
    wanted = enough(total, cluster.seen.percentage)
    known, ready = cluster.verdicts(info), cluster.ready(info, profile.preparing)
    wide = [plugin for plugin in profile.wide if not plugin.idle(info, ready[plugin.name])]
    if not (wide or cluster.nominated or found.narrowed_by):
        return _by_themselves(info, cluster, profile, wanted)
    asked = [(plugin.name, plugin.filter, ready[plugin.name]) for plugin in wide if plugin.filter is not None]
    nodes, fitting, refused, nominated = cluster.nodes, found.fitting, found.refused, cluster.nominated
    for at, name in enumerate(names, start=1):  # the hottest loop there is: nothing in it twice
        found.examined = at
        node = nodes[name]
        verdict = known.get(name)
        if verdict is None:
            verdict = known[name] = judge(info, node, profile)
        if verdict.refusal is not None:
            refused[name] = (verdict.refusal, verdict.by)
            continue
        refusal = None
        for by, refuses, prepared in asked:
            if (why := refuses(info, node, prepared)) is not None:
                refusal = (why, by)
                break
        if refusal is None and name in nominated:
            refusal = beside_nominated(info, node, cluster, profile, ready)
        if refusal is not None:
            refused[name] = refusal
            continue
        fitting.append(verdict)
        if len(fitting) >= wanted:
            break
    return found


def _by_themselves(info: PodInfo, cluster: Cluster, profile: Profile, wanted: int) -> Found:
    """`search` where each node is judged by itself alone: as many at once as are wanted still."""
    found, known, turn = Found(), cluster.verdicts(info), cluster.in_turn()
    while names := list(islice(turn, wanted - len(found.fitting))):
        found.examined += len(names)
        for name in [name for name in names if name not in known]:
            known[name] = judge(info, cluster.nodes[name], profile)
        verdicts = list(map(known.__getitem__, names))
        refused = {verdict.node.name: (verdict.refusal, verdict.by) for verdict in verdicts if verdict.refusal}
        if refused:
            found.refused |= refused
            verdicts = [verdict for verdict in verdicts if verdict.refusal is None]
        found.fitting += verdicts
    return found


def judge(info: PodInfo, node: NodeInfo, profile: Profile) -> Verdict:
    """What the plugins say that look at one node by itself."""
    if refusal := refused_by(info, node, profile.own, {}):
        return Verdict(node, *refusal)
    plain = 0.0
    for plugin in profile.plain:
        if plugin.rate and plugin.applies(info):
            plain += plugin.weight * plugin.rate(info, node)
    relative = (plugin.rate(info, node) if plugin.rate and plugin.applies(info) else 0.0 for plugin in profile.relative)
    return Verdict(node, None, "", (plain, *relative))


def refused_by(
    info: PodInfo, node: NodeInfo, plugins: Iterable[Plugin], ready: Mapping[str, Any]
) -> tuple[Refusal, str] | None:
    """The first objection and whose it is."""
    for plugin in plugins:
        if plugin.filter is not None and (why := plugin.filter(info, node, ready.get(plugin.name))) is not None:
            return why, plugin.name
    return None


def beside_nominated(
    info: PodInfo, node: NodeInfo, cluster: Cluster, profile: Profile, ready: Mapping[str, Any]
) -> tuple[Refusal, str] | None:
    """Why not, once the pods of the same or a higher priority are there that the node's room is kept for."""
    nominated = [
        other
        for other in cluster.nominated.get(node.name, ())
        if other.priority >= info.priority and other.meta.uid != info.meta.uid
    ]
    if not nominated:
        return None
    with_them = dict(ready)
    for other in nominated:
        node = node.with_pod(other)
        for plugin in profile.preparing:
            with_them[plugin.name] = plugin.adjust(info, with_them[plugin.name], other, node, 1)
    return refused_by(info, node, (*profile.own, *profile.wide), with_them)

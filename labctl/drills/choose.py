"""Choosing whom a drill strikes. Pure: from the facts of a lab, and the nodes that were asked for by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from labctl.drills.model import Facts
from labctl.runtime.errors import UsageError

Choose = Callable[[Facts, Sequence[str]], tuple[str, ...]]


def busiest(number: int, *, spare: int = 1) -> Choose:
    """The workers that run most of the workload, `number` of them, with `spare` others left; or those asked for."""

    def choose(facts: Facts, asked: Sequence[str]) -> tuple[str, ...]:
        if len(facts.nodes) < number + spare:
            raise UsageError(
                f"this drill needs {number + spare} workers: {number} to strike, {spare} to go on",
                hint=f"labctl up --workers {number + spare}",
            )
        if unknown := [name for name in asked if name not in facts.nodes]:
            raise UsageError(f"there is no node {unknown[0]!r}", hint=f"the nodes are: {', '.join(facts.nodes)}")
        if asked and len(set(asked)) != number:
            raise UsageError(f"this drill strikes {number} of the nodes, not {len(set(asked))}")
        if asked:
            return tuple(dict.fromkeys(asked))
        load = Counter(pod.node for pod in facts.pods if not pod.deleting)
        return tuple(sorted(facts.nodes, key=lambda name: (load[name], name), reverse=True)[:number])

    return choose


def no_worker(facts: Facts, asked: Sequence[str]) -> tuple[str, ...]:
    """None: the drill strikes the control plane."""
    if not facts.masters:
        raise UsageError("this drill strikes the masters' machines, and none of them is known")
    if asked:
        raise UsageError("this drill strikes no worker", hint="leave --node out")
    return ()

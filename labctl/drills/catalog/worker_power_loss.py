"""Drill 1: a worker loses its power."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from labctl.drills.contract import silent_node
from labctl.drills.faults import Fault, PowerOff
from labctl.drills.model import Drill, Facts
from labctl.drills.records import Scene
from labctl.runtime.errors import UsageError


def choose(facts: Facts, asked: Sequence[str]) -> tuple[str, ...]:
    """The worker asked for, else the one that runs most of the workload; UsageError where that cannot be."""
    if len(facts.nodes) < 2:
        raise UsageError("this drill needs two workers: one to lose, one to go on", hint="labctl up --workers 2")
    if asked:
        unknown = [name for name in asked if name not in facts.nodes]
        if unknown or len(asked) > 1:
            what = f"there is no node {unknown[0]!r}" if unknown else "this drill takes the power of one node"
            raise UsageError(what, hint=f"the nodes are: {', '.join(facts.nodes)}")
        return (asked[0],)
    load = Counter(pod.node for pod in facts.pods if not pod.deleting)
    return (max(facts.nodes, key=lambda name: (load[name], name)),)


def faults(scene: Scene) -> tuple[Fault, ...]:
    """Pull the plug of each victim."""
    return tuple(PowerOff(node=name) for name in scene.victims)


DRILL = Drill(
    name="worker-power-loss",
    title="A worker loses its power",
    shows=(
        "How a cluster finds out that a node is gone, and what it does about it: the lease stops, the node becomes "
        "Unknown when the grace is over, its endpoints leave the service, the taint evicts its pods, and "
        "replacements serve on the nodes that live. When the power is back, the node comes home and cleans up."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed",
        "the undo (power on) is written to disk, and a process that heals if this one dies stands by",
        "cut the power of the worker that runs most replicas",
        "watch: detected, endpoints removed, tainted, evicted, rescheduled, serving again",
        "power on; wait until spec equals status and no container is left over",
        "judge the invariants A to F and every time against the profile's contract",
    ),
    choose=choose,
    faults=faults,
    bounds=silent_node,
)

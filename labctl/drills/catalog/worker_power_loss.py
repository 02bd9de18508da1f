"""Drill 1: a worker loses its power."""

from __future__ import annotations

from labctl.drills.choose import busiest
from labctl.drills.contract import identity_moves, silent_node
from labctl.drills.faults import Fault, PowerOff
from labctl.drills.model import Demand, Drill
from labctl.drills.records import Scene


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
        "steady state: every node Ready, the Deployment available, requests succeed; a StatefulSet takes records",
        "the undo (power on) is written to disk, and a process that heals if this one dies stands by",
        "cut the power of the worker that runs most replicas",
        "watch: detected, endpoints removed, tainted, evicted, rescheduled, serving again",
        "power on; wait until spec equals status and no container is left over",
        "judge the invariants A to F and every time against the profile's contract",
    ),
    choose=busiest(1),
    faults=faults,
    bounds=lambda profile, scene: (*silent_node(profile, scene), *identity_moves(profile, scene)),
    demand=Demand(stateful="power"),
)

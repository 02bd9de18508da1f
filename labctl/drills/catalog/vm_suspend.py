"""Drill 9: a worker is suspended past its eviction, and resumed."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import silent_node
from labctl.drills.expect import ENDS_AFTER_HEAL, NO_STALE_STATUS
from labctl.drills.faults import Step, Suspend
from labctl.drills.model import Demand, Drill
from labctl.drills.records import Scene


def faults(scene: Scene) -> tuple[Step, ...]:
    """Suspend each victim."""
    return tuple(Suspend(node=name) for name in scene.victims)


DRILL = Drill(
    name="vm-suspend",
    title="A worker is suspended until it was given up, then resumed",
    shows=(
        "A machine that was paused wakes up and believes that no time has passed: its pods run, its clock may lie, its "
        "connections look open. Meanwhile its pods were given up and run elsewhere. This zombie must reconcile before "
        "it writes, and nothing that it still believes may undo what was decided."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed; a StatefulSet takes records",
        "suspend the worker that runs most replicas, as a whole",
        "watch: Unknown, endpoints removed, tainted, evicted, rescheduled, serving again",
        "resume it; wait until the given-up containers have ended and spec equals status",
        "judge the times against the profile's contract, and that nothing given up came back to life",
    ),
    choose=busiest(1),
    faults=faults,
    bounds=silent_node,
    demand=Demand(stateful="none"),
    checkers={**CHECKERS, **ENDS_AFTER_HEAL, **NO_STALE_STATUS},
)

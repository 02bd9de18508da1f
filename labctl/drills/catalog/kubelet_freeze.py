"""Drill 8: a kubelet stands still."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import identity_moves, out_of_reach
from labctl.drills.expect import ENDS_AFTER_HEAL, NO_STALE_STATUS
from labctl.drills.faults import Step
from labctl.drills.faults_process import Freeze
from labctl.drills.model import Demand, Drill
from labctl.drills.records import Scene


def faults(scene: Scene) -> tuple[Step, ...]:
    """SIGSTOP each victim's kubelet."""
    return tuple(Freeze(node=name, component="kubelet") for name in scene.victims)


DRILL = Drill(
    name="kubelet-freeze",
    title="A kubelet stands still; the containers do not notice",
    shows=(
        "A node that does not report is given up, though everything on it works: its endpoints leave the service and "
        "its pods are replaced, while the old containers serve on. For a Deployment that overlap is legal, and the "
        "drill measures it. When the kubelet goes on, it learns what was decided and ends what was given up."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed; a StatefulSet takes records",
        "SIGSTOP the kubelet of the worker that runs most replicas",
        "watch: Unknown, endpoints removed, tainted, evicted, rescheduled; requests go on",
        "SIGCONT; wait until the given-up containers have ended and spec equals status",
        "judge the times against the profile's contract, and how long old and new ran side by side",
    ),
    choose=busiest(1),
    faults=faults,
    bounds=lambda profile, scene: (*out_of_reach(profile, scene), *identity_moves(profile, scene)),
    demand=Demand(stateful="self"),
    victims_answer=True,
    checkers={**CHECKERS, **ENDS_AFTER_HEAL, **NO_STALE_STATUS},
)

"""Drill 4: a worker and the masters lose each other."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import cut_off, identity_moves
from labctl.drills.expect import ENDS_AFTER_HEAL, NO_STALE_STATUS
from labctl.drills.faults import Step
from labctl.drills.faults_network import Cut, peers
from labctl.drills.model import Demand, Drill
from labctl.drills.records import Scene


def faults(scene: Scene) -> tuple[Step, ...]:
    """Cut each victim from every master."""
    masters = peers(scene, scene.masters)
    return tuple(Cut(node=name, peers=masters) for name in scene.victims)


DRILL = Drill(
    name="partition-worker-master",
    title="A worker is cut from the masters, and healed after it was given up",
    shows=(
        "From the masters a partition looks like a power cut: the same silence, the same eviction. But the pods run "
        "on, and whoever reaches them is served. When the partition heals, the kubelet kills what was condemned."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed; a StatefulSet takes records",
        "drop all packets between the worker that runs most replicas and the masters, in the worker's own rules",
        "watch: Unknown, endpoints removed, tainted, evicted, rescheduled; requests go on",
        "remove the rules; wait until the condemned containers have ended and spec equals status",
        "judge the times against the profile's contract, and how long old and new ran side by side",
    ),
    choose=busiest(1),
    faults=faults,
    bounds=lambda profile, scene: (*cut_off(profile, scene), *identity_moves(profile, scene)),
    demand=Demand(stateful="self"),
    victims_answer=True,
    checkers={**CHECKERS, **ENDS_AFTER_HEAL, **NO_STALE_STATUS},
)

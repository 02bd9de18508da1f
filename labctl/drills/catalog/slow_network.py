"""Drill 7: a worker's network is slow and lossy, below the grace."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import Bound
from labctl.drills.expect import NO_EVICTION, NODES_READY, SAME_CONTAINERS
from labctl.drills.faults import Step
from labctl.drills.faults_host import Slow
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile


def faults(scene: Scene) -> tuple[Step, ...]:
    """Delay, jitter and loss for each victim."""
    return tuple(Slow(node=name) for name in scene.victims)


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:  # noqa: ARG001 - a drill's signature
    """None: requests may be slow or lost as long as it lasts, and the report counts them."""
    return ()


DRILL = Drill(
    name="slow-network",
    title="A worker's network is slow and loses packets, but never for as long as the grace",
    shows=(
        "A heartbeat that comes late still comes. A lossy network makes requests slow and some of them fail; what it "
        "must not do is make the cluster take a node for dead that renews its lease within the grace."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed",
        "delay and drop part of what the worker that runs most replicas sends",
        "watch for three times the grace: no node may be taken for dead, no pod may move",
        "give it its network back; wait until requests succeed by every node",
        "judge: nodes Ready all along, the same containers; slow and failed requests are counted",
    ),
    choose=busiest(1, spare=0),
    faults=faults,
    bounds=bounds,
    holds_s=lambda profile: 3 * profile.node_monitor_grace_s,
    victims_answer=True,
    checkers={**CHECKERS, **NODES_READY, **NO_EVICTION, **SAME_CONTAINERS},
)

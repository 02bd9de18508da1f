"""Drill 19: a worker's processors, memory and disk are eaten up."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import Bound, unbroken
from labctl.drills.expect import NODES_READY
from labctl.drills.expect_hogs import HOGS_EVICTED, PRESSURE_TOLD
from labctl.drills.faults import Pause, Step
from labctl.drills.faults_hogs import EatCpu, EatMemory, FillDisk
from labctl.drills.guests import IMPOSSIBLE_ON
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile

_EVICT_S = 6.0  # a look at the machine, a second of grace, and the words to the API


def faults(scene: Scene) -> tuple[Step, ...]:
    """The processors first, so that all that follows must be done beside them; then memory, then disk."""
    node, namespace = scene.victims[0], scene.namespace
    evicted = Pause(_EVICT_S * scene.slowness)
    return (
        EatCpu(node=node, namespace=namespace),
        EatMemory(node=node, namespace=namespace),
        evicted,
        FillDisk(node=node, namespace=namespace),
        evicted,
    )


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:  # noqa: ARG001 - a drill's signature
    """The workload keeps to its requests: nobody may touch it."""
    return (unbroken(scene, why="the hog is evicted, the workload is not"),)


DRILL = Drill(
    name="resource-hogs",
    title="A worker's processors, memory and disk are eaten up",
    shows=(
        "How a node defends itself. It says that it is short before the kernel has to kill, keeps new pods away, and "
        "gives up one pod: the one that uses most beyond what it asked for. Who keeps to its requests stays, and the "
        "heartbeat comes through."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed",
        "place a pod that takes every processor of the worker that runs most replicas",
        "place a modest pod, and one that eats memory until it is stopped: MemoryPressure, eviction",
        "fill the disk but for a rest, which another pod eats: DiskPressure, eviction (not on system containers)",
        "remove them all; wait until spec equals status and no container is left over",
        "judge: the pressure was told, the hogs went and nobody else, every node stayed Ready, no request failed",
    ),
    choose=busiest(1, spare=0),
    faults=faults,
    bounds=bounds,
    victims_answer=True,
    checkers={**CHECKERS, **NODES_READY, **PRESSURE_TOLD, **HOGS_EVICTED},
    impossible_on=IMPOSSIBLE_ON,
)

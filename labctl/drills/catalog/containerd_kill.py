"""Drill 10: containerd is killed."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import Bound, unbroken
from labctl.drills.expect import NO_EVICTION, NODES_READY, SAME_CONTAINERS, SAME_PODS
from labctl.drills.faults import Step
from labctl.drills.faults_process import Kill
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile


def faults(scene: Scene) -> tuple[Step, ...]:
    """kill -9 each victim's containerd."""
    return tuple(Kill(node=name, component="containerd") for name in scene.victims)


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:  # noqa: ARG001 - a drill's signature
    """Containers hang on their shims, not on containerd: no request fails."""
    return (unbroken(scene, why="containers live under their shims, not under containerd"),)


DRILL = Drill(
    name="containerd-kill",
    title="containerd is killed; containers survive",
    shows=(
        "The runtime's daemon is not the parent of your containers: each has a shim of its own. A killed containerd "
        "comes back and finds them; a kubelet that took its silence for their death would restart everything."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed",
        "kill -9 containerd on the worker that runs most replicas; its service manager starts another",
        "watch for twice the grace: nothing may be restarted or moved",
        "judge: the same containers as before, the node Ready all along, no failed request",
    ),
    choose=busiest(1, spare=0),
    faults=faults,
    bounds=bounds,
    holds_s=lambda profile: 2 * profile.node_monitor_grace_s,
    victims_answer=True,
    checkers={**CHECKERS, **NO_EVICTION, **NODES_READY, **SAME_PODS, **SAME_CONTAINERS},
)

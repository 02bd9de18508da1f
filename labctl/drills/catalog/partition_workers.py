"""Drill 6: two workers lose each other."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import Bound
from labctl.drills.expect import NO_EVICTION, NODES_READY, OTHERS_SERVED, SAME_CONTAINERS
from labctl.drills.faults import Step
from labctl.drills.faults_network import Cut
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile


def faults(scene: Scene) -> tuple[Step, ...]:
    """Drop what the first victim and the second send each other, their pods' packets too."""
    first, second = scene.victims
    own = tuple(part for part in (scene.machines[second], scene.pod_networks.get(second, "")) if part)
    return (Cut(node=first, peers=((second, own),)),)


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:  # noqa: ARG001 - a drill's signature
    """None: as long as the partition lasts, requests that must cross it fail, and the report counts them."""
    return ()


DRILL = Drill(
    name="partition-workers",
    title="Two workers are cut from each other; both still reach the masters",
    shows=(
        "A failure that the control plane cannot see: both nodes report, both stay Ready, nothing is evicted, and yet "
        "every request that enters by one and is sent to a pod on the other fails. Readiness is no promise of "
        "reachability, and the report says honestly what failed."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed",
        "drop all packets between the two workers that run most replicas, and between their pods",
        "watch for twice the grace: no node may be taken for dead, no pod may move",
        "remove the rules; wait until requests succeed by every node",
        "judge: nodes Ready all along, the same containers, and by the other nodes no request failed",
    ),
    choose=busiest(2, spare=0),
    faults=faults,
    bounds=bounds,
    holds_s=lambda profile: 2 * profile.node_monitor_grace_s,
    victims_answer=True,
    checkers={**CHECKERS, **NODES_READY, **NO_EVICTION, **SAME_CONTAINERS, **OTHERS_SERVED},
)

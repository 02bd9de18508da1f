"""Drill 2: a worker is reset and comes back within the grace."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import REACTION_S, START_S, Bound, unbroken
from labctl.drills.expect import NO_EVICTION, RESTARTED, SAME_PODS
from labctl.drills.faults import Reset, Step
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile


def faults(scene: Scene) -> tuple[Step, ...]:
    """The reset button."""
    return tuple(Reset(node=name) for name in scene.victims)


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:
    """Nobody moves the endpoints, so what is sent to them fails until the machine and its containers are back."""
    back_s = profile.node_monitor_grace_s + (REACTION_S + START_S) * scene.slowness
    return (unbroken(scene, back_s, "back within the grace, then every container starts anew in its pod"),)


DRILL = Drill(
    name="worker-quick-reboot",
    title="A worker is reset and is back within the grace",
    shows=(
        "Why the cluster waits before it gives a node up: a machine that reboots quickly keeps its pods, with the same "
        "UIDs, and the kubelet starts their containers again in place. Whoever evicted at once would have moved "
        "everything for nothing."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed",
        "reset the worker that runs most replicas, as by its button",
        "watch for twice the grace: no eviction may come, not even late",
        "wait until every container runs again",
        "judge: same pods, restarted in place, no eviction, and the time in which requests failed",
    ),
    choose=busiest(1),
    faults=faults,
    bounds=bounds,
    holds_s=lambda profile: 2 * profile.node_monitor_grace_s,
    checkers={**CHECKERS, **NO_EVICTION, **SAME_PODS, **RESTARTED},
)

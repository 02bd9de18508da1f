"""Drill 18: a worker's clock jumps two minutes back, then a day ahead."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import Bound, unbroken
from labctl.drills.expect import NO_EVICTION, NODES_READY, SAME_CONTAINERS
from labctl.drills.faults import Lift, Pause, Step
from labctl.drills.faults_host import StepClock
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile

_BACK_S, _AHEAD_S = -120, 86_400
_BETWEEN_S = 12.0


def faults(scene: Scene) -> tuple[Step, ...]:
    """Back, right again, ahead: on each victim."""
    back = [StepClock(node=name, seconds=_BACK_S) for name in scene.victims]
    ahead = [StepClock(node=name, seconds=_AHEAD_S) for name in scene.victims]
    return (*back, Pause(_BETWEEN_S), *(Lift(fault) for fault in back), *ahead)


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:  # noqa: ARG001 - a drill's signature
    """No request fails for a wrong clock."""
    return (unbroken(scene, why="no packet waits for a clock"),)


DRILL = Drill(
    name="clock-step",
    title="A worker's clock jumps two minutes back, then a day ahead",
    shows=(
        "Clocks lie. A heartbeat is judged by when it was seen to arrive, never by the time written in it, so a node "
        "whose clock jumped stays Ready; and certificates that were valid a minute ago do not stop working by a day."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed",
        "set the clock of the worker that runs most replicas two minutes back; right again after a while",
        "set it a day ahead, and watch for three times the grace: no node may be taken for dead",
        "set it right, by the machine's own monotonic clock",
        "judge: nodes Ready all along, no pod moved, the same containers, no failed request",
    ),
    choose=busiest(1, spare=0),
    faults=faults,
    bounds=bounds,
    holds_s=lambda profile: _BETWEEN_S + 3 * profile.node_monitor_grace_s,
    victims_answer=True,
    checkers={**CHECKERS, **NODES_READY, **NO_EVICTION, **SAME_CONTAINERS},
    impossible_on={"lxc": "a system container shares its host's clock, so a step would hit every lab and the host"},
)

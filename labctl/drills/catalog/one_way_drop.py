"""Drill 5: a worker hears the API server, but is not heard."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import cut_off
from labctl.drills.expect import ENDS_AFTER_HEAL, NO_STALE_STATUS
from labctl.drills.faults import Step
from labctl.drills.faults_network import Cut, peers
from labctl.drills.model import Drill
from labctl.drills.records import Scene

_API_PORT = 6443


def faults(scene: Scene) -> tuple[Step, ...]:
    """Drop what each victim sends to the API servers."""
    masters = peers(scene, scene.masters)
    return tuple(Cut(node=name, peers=masters, port=_API_PORT) for name in scene.victims)


DRILL = Drill(
    name="one-way-drop",
    title="What a worker sends to the API servers is lost",
    shows=(
        "The nastier half of a partition: open connections do not break, they just stop making progress, and only a "
        "deadline tells. The node is given up as if it were dead, its pods serve on, and after the heal the kubelet "
        "must not sit on a dead connection for minutes."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed",
        "drop what the worker that runs most replicas sends to port 6443 of the masters; nothing else",
        "watch: Unknown, endpoints removed, tainted, evicted, rescheduled; requests go on",
        "remove the rule; wait until the condemned containers have ended and spec equals status",
        "judge the times against the profile's contract, and how long old and new ran side by side",
    ),
    choose=busiest(1),
    faults=faults,
    bounds=cut_off,
    victims_answer=True,
    checkers={**CHECKERS, **ENDS_AFTER_HEAL, **NO_STALE_STATUS},
)

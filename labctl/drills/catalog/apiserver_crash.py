"""Drill 13: the API servers are killed under writes, then stay down."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import no_worker
from labctl.drills.contract import START_S, Bound, unbroken
from labctl.drills.expect import GAPS_ARE_TOLD, NO_EVICTION, NODES_READY, SAME_CONTAINERS
from labctl.drills.faults import Pause, Step, Together
from labctl.drills.faults_process import Kill, StopUnit
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile

_BETWEEN_S = 3.0


def faults(scene: Scene) -> tuple[Step, ...]:
    """kill -9 all at once; a moment later, once they are back, stop them for good."""
    return (
        Together(tuple(Kill(node=name, component="apiserver") for name in scene.masters)),
        Pause(_BETWEEN_S * scene.slowness),
        Together(tuple(StopUnit(node=name, component="apiserver") for name in scene.masters)),
    )


def down_s(profile: Profile) -> float:
    """Two minutes under upstream's timers; longer than the grace under any."""
    return 2.4 * profile.node_monitor_grace_s


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:  # noqa: ARG001 - a drill's signature
    """The data plane does not need the API; writes go on once it is back."""
    return (
        unbroken(scene, why="no packet passes an API server"),
        Bound(
            measure="writes_again_s",
            title="From the heal to the first acknowledged write",
            upper_s=2 * START_S * scene.slowness,
            source="the API server's own start, and the writer's next try",
            awaited=False,
        ),
    )


DRILL = Drill(
    name="apiserver-crash",
    title="The API servers are killed under writes, then stay down for longer than the grace",
    shows=(
        "What the control plane's absence costs: nothing can be changed, yet everything that runs goes on. A write "
        "that was acknowledged is kept. When the API is back, every node looks silent for a moment: a control plane "
        "that took its own absence for theirs would evict the whole cluster."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed; a writer numbers its records",
        "kill -9 the API server of every master; their service manager starts others",
        "stop them all, for 2.4 times the grace: two minutes under the profile `kubernetes`",
        "start them; wait until spec equals status",
        "judge: every acknowledged write is there, no node was taken for dead, no pod moved, no request failed",
    ),
    choose=no_worker,
    faults=faults,
    bounds=bounds,
    holds_s=lambda profile: _BETWEEN_S + down_s(profile),
    checkers={**CHECKERS, **GAPS_ARE_TOLD, **NODES_READY, **NO_EVICTION, **SAME_CONTAINERS},
)

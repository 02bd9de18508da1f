"""Drill 14: etcd is killed, has no room, then stands still."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import no_worker
from labctl.drills.contract import START_S, Bound, unbroken
from labctl.drills.expect import GAPS_ARE_TOLD, NO_EVICTION, NODES_READY, SAME_CONTAINERS
from labctl.drills.expect_etcd import REFUSED_CLEANLY
from labctl.drills.faults import Lift, Pause, Step, Together
from labctl.drills.faults_etcd import NoSpace, TightQuota
from labctl.drills.faults_process import Freeze, Kill
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile

_BETWEEN_S = 4.0
_QUICK = 1.5
_BREATH_S = 2.0  # every lease is renewed
_FULL_S = 2.0  # shorter than the grace: no lease can be renewed meanwhile, and those who judge by them are well


def faults(scene: Scene) -> tuple[Step, ...]:
    """kill -9 every member at once; once they are back, no room for a moment; then stop them where they stand."""
    tight, full = TightQuota(node=scene.masters[0]), NoSpace(node=scene.masters[0])
    # Machines under emulation take so long to fill it and to make room again that it would outlast the grace.
    quick = scene.slowness <= _QUICK
    brief = (full, Pause(_FULL_S), Lift(full), Pause(_BREATH_S), Lift(tight), Pause(_BETWEEN_S))
    return (
        *((tight,) if quick else ()),
        Together(tuple(Kill(node=name, component="etcd") for name in scene.masters)),
        Pause(_BETWEEN_S * scene.slowness),
        *(brief if quick else ()),
        Together(tuple(Freeze(node=name, component="etcd") for name in scene.masters)),
    )


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:  # noqa: ARG001 - a drill's signature
    """The data plane needs no etcd; writes go on once it is back."""
    return (
        unbroken(scene, why="no packet passes etcd"),
        Bound(
            measure="writes_again_s",
            title="From the heal to the first acknowledged write",
            upper_s=3 * START_S * scene.slowness,
            source="requests that hung in the frozen etcd time out or go through, then the writer's next try",
            awaited=False,
        ),
    )


DRILL = Drill(
    name="etcd-trouble",
    title="etcd is killed, has no room for a moment, then stands still for longer than the grace",
    shows=(
        "Where the truth lives. A killed etcd comes back with every write that it acknowledged. One whose quota is "
        "reached answers what is read, and refuses what is written in so many words, until somebody makes room. A "
        "frozen one is worse: it accepts connections and answers nothing, so whoever writes must fail in bounded "
        "time, must not report what did not happen, and nobody may take the silence of all leases for the death of "
        "all nodes."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed; a writer numbers its records",
        "kill -9 etcd on every master; its service manager starts it again",
        "its quota, from that start on 4 MiB more than it holds, is filled until it raises its alarm NOSPACE",
        "two seconds later: delete, compact, defragment, disarm; start it with its usual quota",
        "SIGSTOP it, for 2.4 times the grace",
        "SIGCONT; wait until spec equals status",
        "judge: every acknowledged write is there, no node was taken for dead, no pod moved, no request failed",
    ),
    impossible_on={"foreign": "what etcd holds is asked by the certificates of a lab's etcd"},
    choose=no_worker,
    faults=faults,
    bounds=bounds,
    holds_s=lambda profile: 2 * _BETWEEN_S + _BREATH_S + _FULL_S + 2.4 * profile.node_monitor_grace_s,
    checkers={**CHECKERS, **REFUSED_CLEANLY, **GAPS_ARE_TOLD, **NODES_READY, **NO_EVICTION, **SAME_CONTAINERS},
)

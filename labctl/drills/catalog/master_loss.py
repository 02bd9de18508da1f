"""Drill 21: one of several masters loses its power, the one whose etcd leads."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import no_worker
from labctl.drills.contract import REACTION_S, Bound, unbroken
from labctl.drills.expect import GAPS_ARE_TOLD, NO_EVICTION, NODES_READY, SAME_CONTAINERS
from labctl.drills.faults import Step
from labctl.drills.faults_masters import PowerOffLeader
from labctl.drills.model import Drill
from labctl.drills.pace import patience, stretched_s
from labctl.drills.records import Scene
from labctl.kube.timing import Profile

_ELECTION_S = 2.0  # etcd's election timeout is 1 s, and a candidate waits for up to twice that
_ADDRESS_S = 4.0  # until another master holds the virtual address (docs/masters.md)
_HELD_S = 10.0  # a write that was on its way when the power went is given up by its client then


def faults(scene: Scene) -> tuple[Step, ...]:
    """Pull its plug."""
    return (PowerOffLeader(on=scene.masters),)


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:  # noqa: ARG001 - a drill's signature
    """Two masters of three go on: they elect, one takes the address, and whoever waited for the dead one gives up."""
    work_s = _ELECTION_S + _ADDRESS_S + 2 * REACTION_S
    return (
        unbroken(scene, why="no packet passes a master"),
        Bound(
            measure="write_gap_s",
            title="The longest time without an acknowledged write",
            upper_s=stretched_s(work_s, scene.slowness) + _HELD_S * patience(scene.slowness),
            source="etcd's election, the virtual address's move, and a client's own timeout for what hung",
        ),
    )


DRILL = Drill(
    name="master-loss",
    title="One of several masters loses its power: the one whose etcd leads",
    shows=(
        "What several masters are for. etcd elects another leader, another machine answers at the API's address, and "
        "a standby takes over what was led there. Writes pause for some seconds and go on; none that was acknowledged "
        "is lost, no node is taken for dead, and whatever runs does not notice."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed; a writer numbers its records",
        "ask etcd which member leads, and cut that master's power",
        "watch for three times the grace: how long no write is acknowledged, and that the workers notice nothing",
        "power on; wait until every master's API server is ready and spec equals status",
        "judge: every acknowledged write is there, the gap is bounded, no node was taken for dead, no pod moved",
    ),
    choose=no_worker,
    faults=faults,
    bounds=bounds,
    holds_s=lambda profile: 3 * profile.node_monitor_grace_s,
    masters=3,
    checkers={**CHECKERS, **GAPS_ARE_TOLD, **NODES_READY, **NO_EVICTION, **SAME_CONTAINERS},
    impossible_on={"foreign": "who leads is asked by the certificates of a lab's etcd"},
)

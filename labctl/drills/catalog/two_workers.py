"""Drill 16: two workers lose their power at once."""

from __future__ import annotations

import msgspec

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import Bound, silent_node
from labctl.drills.expect_eviction import ONE_BY_ONE
from labctl.drills.faults import PowerOff, Step, Together
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile

_AFTER_TAINT = ("tainted_s", "evicted_s", "rescheduled_s", "serving_again_s")


def faults(scene: Scene) -> tuple[Step, ...]:
    """Pull both plugs at once."""
    return (Together(tuple(PowerOff(node=name) for name in scene.victims)),)


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:
    """As for one, but the second node is tainted only when the eviction rate allows it."""
    later_s = (len(scene.victims) - 1) / profile.eviction_rate_per_s
    found = silent_node(profile, scene)
    all_dead = scene.on_victims >= scene.replicas
    moved = (*_AFTER_TAINT, "error_window_s") if all_dead else _AFTER_TAINT
    return tuple(
        msgspec.structs.replace(bound, upper_s=bound.upper_s + later_s)
        if bound.measure in moved and bound.upper_s is not None
        else bound
        for bound in found
    )


DRILL = Drill(
    name="two-workers",
    title="Two workers lose their power at once",
    shows=(
        "Why eviction has a rate: the first node's pods go at once, the next node's wait for their turn, so that a "
        "failure of the network is not answered by moving everything. Two dead nodes are still an ordinary failure, "
        "however small the lab; a third would freeze evictions."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed",
        "cut the power of the two workers that run most replicas, at once",
        "watch: both Unknown, tainted one after the other at the eviction rate, evicted, rescheduled",
        "power on; wait until spec equals status and no container is left over",
        "judge the order and the rate of evictions, and every time against the profile's contract",
    ),
    choose=busiest(2),
    faults=faults,
    bounds=bounds,
    checkers={**CHECKERS, **ONE_BY_ONE},
)

"""Drill 15: the scheduler and the controller manager that lead stand still for longer than their leases."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import no_worker
from labctl.drills.contract import REACTION_S, Bound
from labctl.drills.expect import NODES_READY
from labctl.drills.expect_leaders import NOTHING_TWICE, STANDBY_LEADS
from labctl.drills.faults import Lift, Step, Together
from labctl.drills.faults_api import DeletePods, of_workload
from labctl.drills.faults_masters import AwaitLeader, FreezeLeader
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile

_COMPONENTS = ("scheduler", "controllers")


def faults(scene: Scene) -> tuple[Step, ...]:
    """Freeze both leaders and give them work; once others lead, thaw them and give more."""
    namespace, selector = of_workload(scene)
    work = DeletePods(on=scene.nodes, namespace=namespace, selector=selector)
    frozen = Together(tuple(FreezeLeader(on=scene.masters, component=name) for name in _COMPONENTS))
    others = tuple(AwaitLeader(on=scene.masters, component=name) for name in _COMPONENTS)
    return (frozen, work, *others, Lift(frozen), work)


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:
    """A lease is over when it was not renewed for its duration; a standby looks every retry period, with jitter.

    No bound on failed requests: a deleted pod stays an endpoint until somebody leads, and pods are deleted twice, so
    the time from the first failure to the last is as long as the drill's own course.
    """
    react_s = REACTION_S * scene.slowness
    led_s = profile.leader_lease_s + 3 * profile.leader_retry_s + react_s
    return (
        Bound(
            measure="led_again_s",
            title="Others lead in their place",
            lower_s=profile.leader_lease_s - 2 * profile.leader_retry_s,
            upper_s=led_s,
            source="leaseDuration from the last renewal seen, then a try every retryPeriod (client-go leaderelection)",
        ),
    )


DRILL = Drill(
    name="leader-freeze",
    title="The scheduler and the controller manager that lead stand still for longer than their leases",
    shows=(
        "Only one may act at a time, and it need not know that its time is over. A leader that stands still does not "
        "renew its lease, so a standby takes over. When the old one goes on in the middle of what it did, it must find "
        "that it leads no more before it writes: nothing may be created or bound twice."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed; three masters",
        "SIGSTOP the scheduler that leads and the controller manager that leads; delete a pod of the workload",
        "watch: nothing replaces it until the leases are over and others lead",
        "SIGCONT, and delete another pod: now two believe that they lead, and one of them must stop",
        "judge: others led in time, the thawed ones led no more, no pod was created or bound twice",
    ),
    choose=no_worker,
    faults=faults,
    bounds=bounds,
    masters=2,
    checkers={**CHECKERS, **NODES_READY, **STANDBY_LEADS, **NOTHING_TWICE},
)

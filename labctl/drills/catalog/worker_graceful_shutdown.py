"""Drill 3: a worker is shut down in order."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import REACTION_S, START_S, Bound, unbroken
from labctl.drills.expect_shutdown import ENDED_IN_ORDER, NOT_READY_FIRST
from labctl.drills.faults import Step
from labctl.drills.faults_shutdown import Guests, ShutDown
from labctl.drills.guests import IMPOSSIBLE_ON
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile


def faults(scene: Scene) -> tuple[Step, ...]:
    """Two pods by whose end the order can be seen, then `systemctl poweroff` on the victim."""
    node = scene.victims[0]
    return (Guests(node=node, namespace=scene.namespace), ShutDown(node=node))


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:
    """Times count from the placing of the two pods. No request may fail, unless every replica was there."""
    work_s = (START_S + REACTION_S) * scene.slowness
    said_s = work_s + REACTION_S * scene.slowness
    again_s = said_s + profile.shutdown_grace_s + work_s + profile.proxy_min_sync_s
    all_gone = scene.on_victims >= scene.replicas
    why = "an endpoint leaves the Service before its pod is told to end"
    return (
        Bound(
            measure="detected_s",
            title="Node seen to be not Ready",
            upper_s=said_s,
            source="the two pods' start, then the kubelet says so itself (nodeshutdown_manager.go)",
        ),
        Bound(
            measure="endpoint_removed_s",
            title="Endpoints of the node out of the service",
            upper_s=said_s + REACTION_S * scene.slowness,
            source="a pod that is about to end is not Ready any more; slices follow",
        ),
        Bound(
            measure="rescheduled_s",
            title="Replacements Ready on live nodes",
            upper_s=again_s,
            source="shutdownGracePeriod, then a start within the pod startup SLO",
        ),
        Bound(
            measure="serving_again_s",
            title="Serving again, in full",
            upper_s=again_s + profile.proxy_min_sync_s,
            source="replacements Ready, then the slice and one proxy sync (minSyncPeriod)",
        ),
        unbroken(scene, again_s, "every replica was there") if all_gone else unbroken(scene, why=why),
    )


DRILL = Drill(
    name="worker-graceful-shutdown",
    title="A worker is shut down in order",
    shows=(
        "What a goodbye is worth. The kubelet hears of the shutdown, says that its node is not Ready, takes its pods "
        "out of the Services before it ends them, ordinary ones first and critical ones last, and tells why. Compare "
        "with worker-power-loss: nobody has to wait for a grace, and no request fails."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed",
        "place an ordinary and a critical pod on the worker that runs most replicas",
        "systemctl poweroff on that worker",
        "watch: not Ready, endpoints removed, pods ended in order, replacements serving, the machine off",
        "power on; wait until spec equals status and no container is left over",
        "judge: the node's word came first, the order was kept, every pod was told why, no request failed",
    ),
    choose=busiest(1),
    faults=faults,
    bounds=bounds,
    checkers={**CHECKERS, **NOT_READY_FIRST, **ENDED_IN_ORDER},
    impossible_on=IMPOSSIBLE_ON,
)

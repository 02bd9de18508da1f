"""What Kubernetes promises about time, as bounds that follow from a timing profile. Pure; each bound has its source.

A bound's upper end is the sum of the timers in the way, plus an allowance for the work itself (one reaction of the
control plane, one start of a pod). Allowances are multiplied by the lab's `slowness`; timers never are.
Its lower end is where haste breaks the contract: a node may not be given up before its grace is over.
"""

from __future__ import annotations

import msgspec

from labctl.drills.pace import patience, stretched_s
from labctl.drills.records import Scene
from labctl.kube.timing import Profile

REACTION_S = 1.0  # watch, decide, write, watch: everything between two timers, together
START_S = 5.0  # sig-scalability slos/pod_startup_latency.md: 99% of pods start within 5 s, images present
REQUEST_S = 1.0  # a request that nobody answers is given up after this long
FENCE_S = 2.0  # a machine is powered off by its provider and seen off
RECONNECT_S = 3.0  # labctl/kube: a try to connect takes so long where nobody answers, and the next comes at once
TOLERANCE_S = 0.25  # two events that we received this close together may have happened in the other order


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """A measure (a field of `Measures`) and where it must lie; None: no bound on that side."""

    measure: str
    title: str
    lower_s: float | None = None
    upper_s: float | None = None
    source: str = ""
    awaited: bool = True  # the runner waits for it before it heals; False where it comes only with the heal


def request_s(scene: Scene) -> float:
    """How long after the moment it was due a request may fail: its own timeout, and until its sender looks."""
    return REQUEST_S * patience(scene.slowness) + stretched_s(TOLERANCE_S, scene.slowness)


def silent_node(profile: Profile, scene: Scene) -> tuple[Bound, ...]:
    """The contract for a node that falls silent at once and for good: CONTRACT section 1, upstream files as named."""
    last_renewal_s = profile.lease_renew_s * (1 + profile.lease_jitter)
    # The controller notes a renewal at one pass and finds the grace over at another: two periods at most.
    seen_s = profile.node_monitor_grace_s + 2 * profile.node_monitor_period_s
    tainted_s = seen_s + profile.node_monitor_period_s
    evicted_s = tainted_s + profile.toleration_s
    react_s, start_s = REACTION_S * scene.slowness, START_S * scene.slowness
    rescheduled_s = evicted_s + react_s + start_s
    serving_s = rescheduled_s + profile.proxy_min_sync_s
    all_dead = scene.on_victims >= scene.replicas
    window_s = serving_s if all_dead else seen_s + react_s + profile.proxy_min_sync_s
    return (
        Bound(
            measure="detected_s",
            title="Node seen to be not Ready",
            lower_s=profile.node_monitor_grace_s - last_renewal_s,
            upper_s=seen_s + react_s,
            source="grace - one lease renewal; grace + 2 monitor periods (node_lifecycle_controller.go)",
        ),
        Bound(
            measure="silent_s",
            title="Silence before the node was given up",
            lower_s=profile.node_monitor_grace_s,
            source="nodeMonitorGracePeriod counts from the last lease seen to move (node_lifecycle_controller.go)",
        ),
        Bound(
            measure="endpoint_removed_s",
            title="Endpoints of the node out of the service",
            upper_s=seen_s + react_s,
            source="its pods are marked not ready at once (MarkPodsNotReady), slices follow",
        ),
        Bound(
            measure="tainted_s",
            title="Node tainted unreachable:NoExecute",
            upper_s=tainted_s + react_s,
            source="the first node of a zone is tainted at once: burst 1 (rate_limited_queue.go)",
        ),
        Bound(
            measure="toleration_kept_s",
            title="Pods kept after the taint, beyond their toleration",
            lower_s=0.0,
            source="tolerationSeconds from the taint on (taint_eviction.go)",
        ),
        Bound(
            measure="evicted_s",
            title="Pods of the node deleted",
            upper_s=evicted_s + react_s,
            source="taint + tolerationSeconds (taint_eviction.go)",
        ),
        Bound(
            measure="rescheduled_s",
            title="Replacements Ready on live nodes",
            upper_s=rescheduled_s,
            source="a deleting pod stops counting (replica_set.go); start within the pod startup SLO",
        ),
        Bound(
            measure="serving_again_s",
            title="Serving again, in full",
            upper_s=serving_s,
            source="replacements Ready, then the slice and one proxy sync (minSyncPeriod)",
        ),
        Bound(
            measure="error_window_s",
            title="From the first failed request to the last",
            upper_s=window_s + request_s(scene),
            source="until the dead endpoints are out and every proxy has synced, plus a request's own timeout",
        ),
    )


def identity_moves(profile: Profile, scene: Scene) -> tuple[Bound, ...]:
    """The contract for the StatefulSet's identity on a silent node, where the drill has one: it moves, once fenced.

    Not where fencing is `none`: then it stays with its node, as upstream, and nothing is to be measured.
    """
    if not scene.identity or scene.fencing == "none":
        return ()
    evicted_s = next(bound.upper_s for bound in silent_node(profile, scene) if bound.measure == "evicted_s")
    assert evicted_s is not None
    # Seen Unknown, its node is fenced; the set makes the pod anew, it starts, and the next record finds it.
    work_s = (FENCE_S + 2 * REACTION_S + START_S) * scene.slowness + request_s(scene)
    return (
        Bound(
            measure="identity_again_s",
            title="The StatefulSet's identity serves again elsewhere",
            upper_s=evicted_s + work_s + profile.proxy_min_sync_s,
            source="its pod is evicted, then fenced (labctl/kube/fencing.py), made anew, and started",
        ),
    )


def out_of_reach(profile: Profile, scene: Scene) -> tuple[Bound, ...]:
    """The contract for a node that falls silent while its pods run on: as `silent_node`, but the service goes on.

    Not where every replica is there: a node that is given up takes their endpoints with it, until others are Ready.
    """
    kept = [bound for bound in silent_node(profile, scene) if bound.measure != "error_window_s"]
    full = [
        msgspec.structs.replace(bound, measure="endpoints_full_s", title="Endpoints in full, on live nodes")
        if bound.measure == "serving_again_s"
        else bound
        for bound in kept
    ]
    if scene.on_victims < scene.replicas:
        return (*full, unbroken(scene))
    work_s = (REACTION_S + START_S) * scene.slowness
    away_s = profile.node_monitor_period_s + profile.toleration_s + work_s + profile.proxy_min_sync_s
    return (*full, unbroken(scene, away_s, "no endpoint from the node's being given up until replacements are Ready"))


def cut_off(profile: Profile, scene: Scene) -> tuple[Bound, ...]:
    """The contract for a node that is out of reach with its proxy: as `out_of_reach`, and one more race at the heal.

    The kubelet ends the condemned pods as soon as it hears of it, and each process finds the API server again at its
    own time: until the node's proxy has, it sends requests to pods that are gone.
    """
    caught_up_s = RECONNECT_S + REACTION_S * scene.slowness + profile.proxy_min_sync_s
    return tuple(
        msgspec.structs.replace(
            bound,
            upper_s=bound.upper_s + caught_up_s,
            source=f"{bound.source}; at the heal, until the node's proxy hears that its pods are condemned",
        )
        if bound.measure == "error_window_s" and bound.upper_s is not None
        else bound
        for bound in out_of_reach(profile, scene)
    )


def unbroken(scene: Scene, allowed_s: float = 0.0, why: str = "every endpoint lives") -> Bound:
    """Requests are answered all along, but for `allowed_s`."""
    return Bound(
        measure="error_window_s",
        title="From the first failed request to the last",
        upper_s=allowed_s + request_s(scene),
        source=f"{why}; a request's own timeout",
    )

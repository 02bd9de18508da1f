"""Drill 11: kube-proxy stops on one node, and the endpoints move."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import REACTION_S, START_S, Bound
from labctl.drills.expect import NODES_READY, OTHERS_SERVED
from labctl.drills.faults import Step
from labctl.drills.faults_api import DeletePods, of_workload
from labctl.drills.faults_process import StopUnit
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile


def faults(scene: Scene) -> tuple[Step, ...]:
    """Stop each victim's proxy, then delete a pod: its replacement has another address."""
    namespace, selector = of_workload(scene)
    stops = (StopUnit(node=name, component="proxy") for name in scene.victims)
    return (*stops, DeletePods(on=scene.nodes, namespace=namespace, selector=selector))


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:
    """By the victim, requests to the old address fail until its proxy is back: as long as the drill holds it down."""
    synced_s = profile.proxy_min_sync_s + (REACTION_S + START_S) * scene.slowness
    return (
        Bound(
            measure="fresh_again_s",
            title="From the heal until no request failed any more",
            upper_s=synced_s,
            source="the proxy's start, its lists, and one sync (minSyncPeriod)",
            awaited=False,
        ),
    )


DRILL = Drill(
    name="proxy-stop",
    title="kube-proxy stops on one node while the endpoints move",
    shows=(
        "Packet rules outlive the process that wrote them: a node without its proxy keeps serving, with what it knew "
        "last. Once an endpoint has moved, that node alone sends requests to nowhere, and nothing in the API tells. "
        "The drill measures for how long."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed by every node",
        "stop kube-proxy on the worker that runs most replicas; its rules stay",
        "delete a pod of the workload: its replacement has another address",
        "watch: by that node some requests fail, by the others all succeed",
        "start the proxy; judge how soon after that no request failed, and that no other node was affected",
    ),
    choose=busiest(1),
    faults=faults,
    bounds=bounds,
    holds_s=lambda profile: profile.node_monitor_grace_s,
    victims_answer=True,
    checkers={**CHECKERS, **NODES_READY, **OTHERS_SERVED},
)

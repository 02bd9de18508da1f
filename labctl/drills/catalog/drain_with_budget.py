"""Drill 12: nodes are drained, under a budget that can be kept and under one that cannot."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import REACTION_S, START_S, Bound, unbroken
from labctl.drills.expect import NODES_READY
from labctl.drills.expect_eviction import BUDGET_KEPT, BUDGET_NAMED, IMPOSSIBLE
from labctl.drills.faults import Lift, Step
from labctl.drills.faults_api import Budget, Drain, of_workload
from labctl.drills.model import Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile

_PATIENCE_S = 5.0


def faults(scene: Scene) -> tuple[Step, ...]:
    """Drain the victim under `all but one`; then, uncordoned, the next node under `all`."""
    namespace, selector = of_workload(scene)
    kept = Budget(
        name="labctl-drill-possible", namespace=namespace, selector=selector, min_available=scene.replicas - 1
    )
    impossible = Budget(name=IMPOSSIBLE, namespace=namespace, selector=selector, min_available=scene.replicas)
    first = Drain(node=scene.victims[0], namespace=namespace, selector=selector)
    second = Drain(
        node=scene.survivors[0], namespace=namespace, selector=selector, patience_s=_PATIENCE_S, blocked=True
    )
    return (kept, first, Lift(first), Lift(kept), impossible, second)


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:
    """Evicted pods end in order, and their replacements are Ready before the next one goes."""
    moved_s = scene.replicas * (REACTION_S + profile.proxy_min_sync_s) + START_S
    return (unbroken(scene, moved_s * scene.slowness, "an endpoint that ends is used until all have synced"),)


DRILL = Drill(
    name="drain-with-budget",
    title="A node is drained within a budget; another cannot be, and says why",
    shows=(
        "Evictions ask first: a PodDisruptionBudget lets as many pods go as the workload can spare, and the drain "
        "waits for replacements. A budget that spares none makes a drain wait for ever; a good one gives up and "
        "names the budget."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed",
        "set a budget of all pods but one, then cordon and drain the worker that runs most replicas",
        "watch: never fewer Ready pods than the budget asks for",
        "uncordon; set a budget of all pods, and try to drain another worker for a bounded time",
        "remove the budget, uncordon; judge: the budget was kept, and the refusal named the one in the way",
    ),
    choose=busiest(1),
    faults=faults,
    bounds=bounds,
    victims_answer=True,
    checkers={**CHECKERS, **BUDGET_KEPT, **BUDGET_NAMED, **NODES_READY},
)

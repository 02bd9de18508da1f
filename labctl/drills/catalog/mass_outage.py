"""Drill 17: every node falls silent, in larger labs all but one first."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import REACTION_S, START_S, Bound, silent_node
from labctl.drills.expect import ENDS_AFTER_HEAL
from labctl.drills.expect_eviction import EVICTIONS_FROZEN
from labctl.drills.faults import Pause, Step, Together
from labctl.drills.faults_process import Freeze
from labctl.drills.model import Drill, Facts
from labctl.drills.records import Scene
from labctl.kube.timing import Profile

_PARTIAL = 4  # from so many nodes on, all but one is a partial disruption: more than two, and more than 55%
_BETWEEN_S = 8.0


def choose(facts: Facts, asked: Sequence[str]) -> tuple[str, ...]:
    """All nodes."""
    return busiest(len(facts.nodes), spare=0)(facts, asked)


def faults(scene: Scene) -> tuple[Step, ...]:
    """SIGSTOP the kubelets: to the control plane that looks like a network that is gone; the pods live on."""
    frozen = [Freeze(node=name, component="kubelet") for name in scene.victims]
    if len(frozen) < _PARTIAL:
        return (Together(tuple(frozen)),)
    return (Together(tuple(frozen[:-1])), Pause(_BETWEEN_S), frozen[-1])


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:
    """All are seen to be silent, and then nothing more is done."""
    later_s = _BETWEEN_S if len(scene.victims) >= _PARTIAL else 0.0
    seen = next(bound for bound in silent_node(profile, scene) if bound.measure == "detected_s")
    hasty = next(bound for bound in silent_node(profile, scene) if bound.measure == "silent_s")
    assert seen.upper_s is not None
    detected = Bound(
        measure="detected_s",
        title="The last node seen to be not Ready",
        upper_s=seen.upper_s + later_s,
        source=seen.source,
    )
    served_s = profile.lease_renew_s + profile.proxy_min_sync_s + (REACTION_S + START_S) * scene.slowness
    fresh = Bound(
        measure="fresh_again_s",
        title="From the heal until no request failed any more",
        upper_s=served_s,
        source="one heartbeat, the pods' readiness, the slice, and one proxy sync",
        awaited=False,
    )
    return (detected, hasty, fresh)


DRILL = Drill(
    name="mass-outage",
    title="Every node falls silent at once; nothing is evicted for it",
    shows=(
        "When everything seems dead, the fault is most likely the observer's. Once a zone is disrupted as a whole, "
        "the cluster takes its NoExecute taints back and stops evicting, and when the nodes are heard again, the same "
        "pods go on. But their readiness was taken away with that of their nodes, so meanwhile the service has no "
        "endpoint, though every pod would answer: the drill counts what that costs."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available, requests succeed",
        "SIGSTOP all kubelets at once; with four nodes or more all but one, and the last one a little later",
        "watch for three times the grace: all Unknown, and no pod given up from then on",
        "SIGCONT; wait until spec equals status",
        "judge: evictions froze, the same pods serve again soon after the heal, failed requests are counted",
    ),
    choose=choose,
    faults=faults,
    bounds=bounds,
    holds_s=lambda profile: 3 * profile.node_monitor_grace_s,
    victims_answer=True,
    checkers={**CHECKERS, **ENDS_AFTER_HEAL, **EVICTIONS_FROZEN},
)

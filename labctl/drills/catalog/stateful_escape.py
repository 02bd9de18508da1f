"""Drill 20: the ways out of a dead node for a StatefulSet's identity: two that are safe, and one that is not."""

from __future__ import annotations

from labctl.drills.checkers import CHECKERS
from labctl.drills.choose import busiest
from labctl.drills.contract import Bound
from labctl.drills.expect import ENDS_AFTER_HEAL
from labctl.drills.expect_identity import ONLY_FORCE_DOUBLES
from labctl.drills.faults import Lift, Pause, PowerOff, Step
from labctl.drills.faults_identity import BringHome, DeleteNode, ForceDelete, OutOfService
from labctl.drills.faults_process import Freeze
from labctl.drills.model import Demand, Drill
from labctl.drills.records import Scene
from labctl.kube.timing import Profile

_LOOKED_S = 9.0  # so that both containers of the doubled identity are looked at, at least twice


def faults(scene: Scene) -> tuple[Step, ...]:
    """Power off, out-of-service; power off, delete the Node; freeze the kubelet, delete by force."""
    (node,), namespace = scene.victims, scene.namespace
    off, away = PowerOff(node=node), OutOfService(node=node, namespace=namespace)
    deleted, home = DeleteNode(node=node, namespace=namespace), BringHome(node=node, namespace=namespace)
    return (
        *(off, away, Lift(off), Lift(away), home),
        *(off, deleted, Lift(off), Lift(deleted), home),
        Freeze(node=node, component="kubelet"),
        ForceDelete(node=node, namespace=namespace),
        Pause(_LOOKED_S * scene.slowness),
    )


def bounds(profile: Profile, scene: Scene) -> tuple[Bound, ...]:  # noqa: ARG001 - a drill's signature
    """A person decides when; drill 1 measures what the cluster does by itself."""
    return ()


DRILL = Drill(
    name="stateful-escape",
    title="The ways out of a dead node for a StatefulSet's pod: two safe ones, and one that doubles it",
    shows=(
        "Without fencing a StatefulSet's pod stays on its dead node for ever, since nobody can tell whether it still "
        "runs. A person may say so: by the taint out-of-service or by deleting the Node, once the machine is known to "
        "be off. Deleting the pod by force says the same without knowing it, and where the pod lives it lives twice."
    ),
    steps=(
        "steady state: every node Ready, the Deployment available; a StatefulSet, not fenced, takes records",
        "cut its worker's power; once its pod is condemned, taint the node out-of-service: it moves",
        "power on, take the taint off, bring the pod home; cut the power again and delete the Node: it moves",
        "power on, bring the pod home; freeze the kubelet, so that the pod lives on, and delete it by force",
        "thaw; wait until the given-up containers have ended and spec equals status",
        "judge: never doubled until the forced deletion, and the doubled identity of that one is seen",
    ),
    choose=busiest(1),
    faults=faults,
    bounds=bounds,
    victims_answer=True,
    checkers={**CHECKERS, **ENDS_AFTER_HEAL, **ONLY_FORCE_DOUBLES},
    demand=Demand(stateful="none"),
)

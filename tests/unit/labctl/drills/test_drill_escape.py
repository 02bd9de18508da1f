"""The ways out of a silent node: each waits until the pod is condemned, acts once, and took when it is elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from labctl.drills.actions import OUT_OF_SERVICE, Rejoin, Untaint
from labctl.drills.expect_identity import only_force_doubles
from labctl.drills.faults import confirm
from labctl.drills.faults_identity import BringHome, DeleteNode, ForceDelete, OutOfService
from labctl.drills.findings import Case, Result
from labctl.drills.history import History
from labctl.drills.identity import POD
from labctl.drills.measures import measure
from labctl.drills.records import Counted, FaultBegan, Record, Sampled
from labctl.drills.target import Target
from labctl.kube.errors import Conflict, NotFound
from labctl.kube.resources import Resource
from labctl.kube.timing import FAST
from labctl.vm.provider import Power
from tests.unit.labctl.drills.drill_tales import SCENE, Tale, container
from tests.unit.labctl.drills.test_drill_faults_api import Ticking

NAMESPACE = "default"


@dataclass
class Cluster:
    """One pod on worker1, condemned after `condemned_s` looks; whatever removes it brings it up on worker2."""

    deleting_after: int = 3
    stuck: bool = False
    conflicts: int = 0
    done: list[str] = field(default_factory=list)
    taints: list[dict[str, str]] = field(default_factory=list)
    node: str = "worker1"
    looks: int = 0
    there: bool = True
    profile = FAST
    slowness = 1.0

    @property
    def client(self) -> Cluster:
        return self

    def get(self, resource: Resource, name: str, namespace: str = "") -> Any:
        if resource.plural == "nodes":
            if not self.there:
                raise NotFound(name)
            conditions = [{"type": "Ready", "status": "True"}]
            return {
                "metadata": {"name": name, "resourceVersion": "7"},
                "spec": {"taints": self.taints},
                "status": {"conditions": conditions},
            }
        assert name == POD
        self.looks += 1
        meta: dict[str, Any] = {"name": POD, "namespace": NAMESPACE, "uid": self.node}
        if self.node == "worker1" and self.looks > self.deleting_after:
            meta["deletionTimestamp"] = "2026-01-31T08:00:00Z"
        conditions = [{"type": "Ready", "status": "True"}]
        return {"metadata": meta, "spec": {"nodeName": self.node}, "status": {"conditions": conditions}}

    def patch(self, resource: Resource, name: str, body: Any, namespace: str = "") -> Any:
        if self.conflicts:
            self.conflicts -= 1
            raise Conflict("somebody else was first")
        assert body["metadata"]["resourceVersion"] == "7"
        self.taints = body["spec"]["taints"]
        self._move(f"taint {[taint['key'] for taint in self.taints]}")
        return body

    def delete(self, resource: Resource, name: str, namespace: str = "", *, grace_s: int | None = None) -> None:
        self._move(f"delete {resource.plural}/{name} grace {grace_s}")

    def power(self, name: str) -> Power:
        return Power.RUNNING

    def _move(self, what: str) -> None:
        self.done.append(what)
        if not self.stuck:
            self.node = "worker2" if self.node == "worker1" else "worker1"


def target(cluster: Cluster) -> Target:
    return cluster  # type: ignore[return-value]


CLOCK: Callable[[], Any] = Ticking
WAYS = {
    OutOfService: f"taint ['{OUT_OF_SERVICE}']",
    DeleteNode: "delete nodes/worker1 grace None",
    ForceDelete: f"delete pods/{POD} grace 0",
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_each_way_acts_once_the_pod_is_condemned_and_took_when_it_is_elsewhere(way: type[Any]) -> None:
    cluster = Cluster()
    fault = way(node="worker1", namespace=NAMESPACE)
    fault.inject(target(cluster))
    assert cluster.done == []
    assert fault.took(target(cluster), CLOCK()) == (True, f"{POD} is Ready on worker2")
    assert cluster.done == [WAYS[way]]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_pod_that_is_never_condemned_or_never_moves_did_not_take(way: type[Any]) -> None:
    calm, stuck = Cluster(deleting_after=10**9), Cluster(stuck=True)
    fault = way(node="worker1", namespace=NAMESPACE)
    took, why = confirm(fault, target(calm), CLOCK())
    assert (took, calm.done) == (False, [])
    assert "to be condemned" in why
    assert "to be Ready elsewhere" in confirm(fault, target(stuck), CLOCK())[1]


def test_a_taint_is_set_and_taken_off_whoever_else_changes_the_node() -> None:
    mine = {"key": "mine", "effect": "NoSchedule"}
    cluster = Cluster(conflicts=3, taints=[mine])
    assert OutOfService(node="worker1", namespace=NAMESPACE).took(target(cluster), CLOCK())[0]
    assert [taint["key"] for taint in cluster.taints] == ["mine", OUT_OF_SERVICE]
    cluster.conflicts = 2
    for _ in range(2):
        assert "in service" in Untaint(node="worker1").apply(target(cluster), CLOCK())
    assert cluster.taints == [mine]
    cluster.there = False
    assert "gone" in Untaint(node="worker1").apply(target(cluster), CLOCK())


def test_the_pod_is_brought_home_in_order_once_its_node_is_well() -> None:
    cluster = Cluster(node="worker2", deleting_after=10**9)
    assert BringHome(node="worker1", namespace=NAMESPACE).took(target(cluster), CLOCK())[0]
    assert cluster.done == [f"delete pods/{POD} grace None"]
    ill = Cluster(node="worker2", taints=[{"key": "mine", "effect": "NoSchedule"}])
    assert "free of taints" in confirm(BringHome(node="worker1", namespace=NAMESPACE), target(ill), CLOCK())[1]
    assert ill.done == []


def test_a_node_that_was_deleted_is_awaited() -> None:
    cluster = Cluster()
    assert "is a Node" in Rejoin(node="worker1").apply(target(cluster), CLOCK())


# -- the doubled identity that must be seen ---------------------------------------------------------------------------


def story(*more: tuple[float, Record]) -> History:
    tale = Tale(stateful=True)
    tale.more = list(more)
    return tale.tell()


def look(*seen: tuple[str, str]) -> Sampled:
    machines = (Counted(node=node, containers=(container("db-0", id=id),)) for node, id in seen)
    return Sampled(machines=tuple(machines))


FORCED = (8.0, FaultBegan(fault="delete db-0 by force", nodes=("worker1",)))
BOTH = look(("worker2", "new"), ("worker1", "zombie"))


def found(history: History) -> tuple[Result, str]:
    return only_force_doubles(Case(history, SCENE, measure(history, SCENE), {}))


def test_what_a_forced_deletion_doubles_is_flagged_and_that_is_the_lesson() -> None:
    result, words = found(story(FORCED, (9.0, BOTH)))
    assert result is Result.PASS, words
    assert "then flagged" in words
    assert "on worker2 and worker1" in words or "on worker1 and worker2" in words


def test_a_forced_deletion_that_nobody_flags_is_no_pass() -> None:
    assert found(story(FORCED))[0] is Result.FAIL


def test_what_is_doubled_before_anything_was_forced_is_a_violation() -> None:
    assert found(story((7.5, BOTH), FORCED, (9.0, BOTH)))[0] is Result.FAIL


def test_without_a_forced_deletion_nothing_is_shown() -> None:
    assert found(story())[0] is Result.UNKNOWN
    assert found(story((7.5, BOTH)))[0] is Result.FAIL

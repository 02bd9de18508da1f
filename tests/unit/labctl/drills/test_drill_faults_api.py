"""What a drill does through the API: drains that ask first, budgets, deletions; and how each is undone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from labctl.drills.actions import DeleteObject, Uncordon
from labctl.drills.faults import Together, confirm
from labctl.drills.faults_api import Budget, DeletePods, Drain
from labctl.drills.target import Target
from labctl.kube.client import ListMeta, RawList
from labctl.kube.errors import NotFound, TooManyRequests
from labctl.kube.resources import Resource

SELECTOR = {"app": "web"}
REFUSAL = {"causes": [{"reason": "DisruptionBudget", "message": "The disruption budget b needs 3 healthy pods"}]}


@dataclass
class Ticking:
    """A clock that moves when somebody sleeps."""

    now_s: float = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def sleep_s(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Cluster:
    """Pods by name on their nodes; an eviction or a deletion takes them away, unless a budget forbids."""

    pods: dict[str, str]
    allowed: int = 99
    slowness: float = 1.0
    patched: list[tuple[str, Any]] = field(default_factory=list)
    made: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def client(self) -> Cluster:
        return self

    def list(self, resource: Resource, namespace: str = "", **_: Any) -> RawList:
        found = [
            {
                "metadata": {"name": name, "namespace": "default", "uid": name, "labels": SELECTOR},
                "spec": {"nodeName": node},
            }
            for name, node in self.pods.items()
        ]
        return RawList(ListMeta(resource_version="1"), [msgspec.Raw(json.dumps(pod).encode()) for pod in found])

    def patch(self, resource: Resource, name: str, body: Any, namespace: str = "") -> Any:
        if name == "gone":
            raise NotFound("no such node")
        self.patched.append((name, body))
        return {}

    def post(self, resource: Resource, name: str, subresource: str, body: Any, namespace: str = "") -> Any:
        assert (subresource, body["kind"], body["metadata"]["name"]) == ("eviction", "Eviction", name)
        if not self.allowed:
            raise TooManyRequests("Cannot evict pod.", details=REFUSAL)
        self.allowed -= 1
        del self.pods[name]
        return {}

    def delete(self, resource: Resource, name: str, namespace: str = "") -> Any:
        del self.pods[name]

    def create(self, resource: Resource, body: Any, namespace: str = "") -> Any:
        self.made.append(body)

    def get(self, resource: Resource, name: str, namespace: str = "") -> Any:
        return {"status": {"expectedPods": 3, "observedGeneration": 1}} if self.made else {}


def target(cluster: Cluster) -> Target:
    return cluster  # type: ignore[return-value]


def cluster(**fields: Any) -> Cluster:
    return Cluster({"web-a": "worker1", "web-b": "worker1", "web-c": "worker2"}, **fields)


def drain(**fields: Any) -> Drain:
    return Drain(node="worker1", namespace="default", selector=SELECTOR, **fields)


def test_a_drain_cordons_and_evicts_what_is_on_the_node() -> None:
    seen = cluster()
    drain().inject(target(seen))
    assert seen.patched == [("worker1", {"spec": {"unschedulable": True}})]
    took, evidence = drain().took(target(seen), Ticking())  # type: ignore[arg-type]
    assert (took, evidence) == (True, "worker1 is drained: 2 pods evicted")
    assert list(seen.pods) == ["web-c"]


def test_a_drain_that_a_budget_forbids_ends_in_time_and_names_it() -> None:
    seen, clock = cluster(allowed=1), Ticking()
    took, evidence = drain(patience_s=5.0, blocked=True).took(target(seen), clock)  # type: ignore[arg-type]
    assert took
    assert "gave up on 1 pods of worker1" in evidence
    assert "The disruption budget b needs 3" in evidence
    assert 5.0 <= clock.now_s <= 6.0


def test_a_drain_that_goes_through_though_it_should_not_is_told() -> None:
    assert drain(blocked=True).took(target(cluster()), Ticking())[0] is False  # type: ignore[arg-type]


def test_a_drain_that_should_go_through_and_does_not_is_told() -> None:
    took, evidence = drain(patience_s=5.0).took(target(cluster(allowed=0)), Ticking())  # type: ignore[arg-type]
    assert not took
    assert "gave up on 2 pods" in evidence


def test_a_cordon_is_undone_even_of_a_node_that_is_gone() -> None:
    seen = cluster()
    [heal] = drain().heals(target(seen))
    assert heal == Uncordon(node="worker1")
    heal.apply(target(seen), Ticking())  # type: ignore[arg-type]
    assert seen.patched == [("worker1", {"spec": {"unschedulable": None}})]
    assert "gone" in Uncordon(node="gone").apply(target(seen), Ticking())  # type: ignore[arg-type]


def test_a_budget_took_once_its_controller_has_counted() -> None:
    budget = Budget(name="b", namespace="default", selector=SELECTOR, min_available=2)
    seen = cluster()
    assert not confirm(budget, target(seen), Ticking())[0]  # type: ignore[arg-type]
    took, why = Together((budget,)).took(target(seen), Ticking())  # type: ignore[arg-type]
    assert (took, "to be counted" in why) == (False, True)  # one of several that are late is a no, not an error
    budget.inject(target(seen))
    assert budget.took(target(seen), Ticking())[0]  # type: ignore[arg-type]
    assert seen.made[0]["spec"] == {"minAvailable": 2, "selector": {"matchLabels": SELECTOR}}
    [heal] = budget.heals(target(seen))
    assert heal == DeleteObject(plural="poddisruptionbudgets", group="policy", namespace="default", name="b")


def test_only_as_many_pods_as_asked_for_are_deleted_and_only_there() -> None:
    seen = cluster()
    DeletePods(on=("worker2",), namespace="default", selector=SELECTOR, number=2).inject(target(seen))
    assert list(seen.pods) == ["web-a", "web-b"]
    DeletePods(on=("worker1",), namespace="default", selector=SELECTOR).inject(target(seen))
    assert list(seen.pods) == ["web-b"]

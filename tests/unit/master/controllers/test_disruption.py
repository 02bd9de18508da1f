from __future__ import annotations

from typing import Any

import pytest

from labctl.kube.errors import Document, TooManyRequests
from labctl.kube.resources import JOBS, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS
from master.controllers.catalog.disruption import CONTROLLER
from master.controllers.catalog.replicaset import CONTROLLER as REPLICASET
from tests.unit.master.controllers.cluster import Cluster

LABELS = {"app": "web"}
TEMPLATE: Document = {
    "metadata": {"labels": LABELS},
    "spec": {"containers": [{"name": "c", "image": "lab.local/web:1"}]},
}


def serve(cluster: Cluster, replicas: int) -> None:
    spec = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": TEMPLATE}
    cluster.create(REPLICA_SETS, {"metadata": {"name": "web"}, "spec": spec})
    cluster.settle(REPLICASET)
    for name in cluster.names():
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}}
        cluster.client.post(PODS, name, "binding", {**body, "target": {"kind": "Node", "name": "w1"}}, "default")


def budget(cluster: Cluster, **spec: Any) -> None:
    body = {"selector": {"matchLabels": LABELS}, **spec}
    cluster.create(POD_DISRUPTION_BUDGETS, {"metadata": {"name": "web"}, "spec": body})
    cluster.run(CONTROLLER)


def status(cluster: Cluster) -> Document:
    found: Document = cluster.get(POD_DISRUPTION_BUDGETS, "web")["status"]
    return found


def counts(cluster: Cluster) -> tuple[int, ...]:
    keys = ("expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed")
    return tuple(status(cluster).get(key, 0) for key in keys)


def reason(cluster: Cluster) -> tuple[str, str]:
    (entry,) = status(cluster)["conditions"]
    assert entry["type"] == "DisruptionAllowed"
    return entry["status"], entry["reason"]


def evict(cluster: Cluster, name: str) -> bool:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}
    try:
        cluster.client.post(PODS, name, "eviction", body, "default")
    except TooManyRequests:
        return False
    return True


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": 3}, (5, 3, 5, 2)),
        ({"minAvailable": "50%"}, (5, 3, 5, 2)),
        ({"maxUnavailable": 1}, (5, 4, 5, 1)),
        ({"maxUnavailable": "50%"}, (5, 2, 5, 3)),
        ({"minAvailable": 9}, (5, 9, 5, 0)),
        ({"maxUnavailable": 0}, (5, 5, 5, 0)),
        ({"maxUnavailable": "100%"}, (5, 0, 5, 5)),
    ],
)
def test_numbers_and_percentages_allow_what_upstream_allows(
    cluster: Cluster, spec: Document, expected: tuple[int, ...]
) -> None:
    serve(cluster, 5)
    budget(cluster, **spec)
    assert counts(cluster) == expected
    assert reason(cluster) == (("True", "SufficientPods") if expected[-1] else ("False", "InsufficientPods"))
    assert status(cluster)["observedGeneration"] == 1
    assert cluster.run(CONTROLLER).steps == ()


def test_the_number_that_counts_is_what_the_owner_wants_not_what_runs(cluster: Cluster) -> None:
    serve(cluster, 4)
    budget(cluster, maxUnavailable=1)
    cluster.end(cluster.names()[0])
    cluster.run(CONTROLLER)
    assert counts(cluster) == (4, 3, 3, 0)


def test_evictions_never_go_below_the_budget_whatever_crashes(cluster: Cluster) -> None:
    serve(cluster, 5)
    budget(cluster, minAvailable=3)

    def enough(now: Cluster) -> None:
        staying = [pod for pod in now.all(PODS) if not pod["metadata"].get("deletionTimestamp") and is_ready(pod)]
        assert len(staying) >= 3

    cluster.invariants.append(enough)
    evicted = 0
    for turn in range(30):
        names = cluster.names()
        stale = cluster.observe(CONTROLLER)
        evicted += evict(cluster, names[turn % len(names)])
        enough(cluster)
        cluster.run(CONTROLLER, world=stale)
        evicted += evict(cluster, names[(turn + 1) % len(names)])
        enough(cluster)
        cluster.run(CONTROLLER, most=turn % 2)
        if turn % 4 == 0:
            cluster.kubelet()
            cluster.run(REPLICASET)
    assert evicted > 5


def is_ready(pod: Document) -> bool:
    entries = pod["status"].get("conditions", ())
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in entries)


def test_an_evicted_pod_stops_counting_before_its_deletion_is_seen(cluster: Cluster) -> None:
    serve(cluster, 3)
    budget(cluster, minAvailable=1)
    name = cluster.names()[0]
    noted = {"disruptedPods": {name: cluster.observe(CONTROLLER).stamp}, "disruptionsAllowed": 1}
    cluster.change(POD_DISRUPTION_BUDGETS, "web", {"status": noted}, subresource="status")
    plan = cluster.run(CONTROLLER)
    assert counts(cluster) == (3, 1, 2, 1)
    assert 110 < plan.wake_after_s <= 120
    cluster.skipped_s = 121
    cluster.run(CONTROLLER)
    assert counts(cluster) == (3, 1, 3, 2)
    assert not status(cluster).get("disruptedPods")
    assert "NotDeleted: Pod was expected by PDB default/web to be deleted but it wasn't" in cluster.ear.heard


@pytest.mark.parametrize("stamp", ["2001-01-01T00:00:00Z", "2101-01-01T00:00:00Z"])
def test_another_machines_clock_does_not_age_an_eviction(cluster: Cluster, stamp: str) -> None:
    serve(cluster, 3)
    budget(cluster, minAvailable=1)
    noted = {"disruptedPods": {cluster.names()[0]: stamp}, "disruptionsAllowed": 1}
    cluster.change(POD_DISRUPTION_BUDGETS, "web", {"status": noted}, subresource="status")
    plan = cluster.run(CONTROLLER)
    assert counts(cluster) == (3, 1, 2, 1)
    assert 110 < plan.wake_after_s <= 120


def test_a_budget_without_pods_allows_nothing_and_says_so_once(cluster: Cluster) -> None:
    budget(cluster, minAvailable=1)
    cluster.run(CONTROLLER)
    assert counts(cluster) == (0, 1, 0, 0)
    assert cluster.ear.heard == ["NoPods: No matching pods found"]


def test_pods_that_nobody_counts_forbid_a_percentage_but_not_a_number(cluster: Cluster) -> None:
    cluster.create(PODS, {"metadata": {"name": "alone", "labels": LABELS}, "spec": TEMPLATE["spec"]})
    cluster.report("alone", "Running", ready=True)
    budget(cluster, maxUnavailable="50%")
    assert reason(cluster) == ("False", "SyncFailed")
    said = 'Failed to calculate the number of expected pods: found no controller ref for pod "alone"'
    assert cluster.ear.heard == [f"CalculateExpectedPodCountFailed: {said}"]
    cluster.change(POD_DISRUPTION_BUDGETS, "web", {"spec": {"maxUnavailable": None, "minAvailable": 0}})
    cluster.run(CONTROLLER)
    assert (counts(cluster), reason(cluster)) == ((1, 0, 1, 1), ("True", "SufficientPods"))


def test_an_owner_without_a_scale_is_named(cluster: Cluster) -> None:
    spec = {"template": {"metadata": {"labels": LABELS}, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}
    made = cluster.create(JOBS, {"metadata": {"name": "sum"}, "spec": spec})
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "sum", "uid": made["metadata"]["uid"], "controller": True}
    meta = {"name": "sum-1", "labels": LABELS, "ownerReferences": [owner]}
    cluster.create(PODS, {"metadata": meta, "spec": TEMPLATE["spec"]})
    budget(cluster, maxUnavailable=1)
    (entry,) = status(cluster)["conditions"]
    assert entry["message"] == "jobs.batch does not implement the scale subresource"


def test_an_empty_selector_chooses_every_pod_of_the_namespace(cluster: Cluster) -> None:
    serve(cluster, 2)
    budget(cluster, minAvailable=1, selector={})
    assert counts(cluster) == (2, 1, 2, 1)

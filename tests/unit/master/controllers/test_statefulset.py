from __future__ import annotations

from typing import Any

import pytest

from labctl.kube.errors import Document
from labctl.kube.resources import CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from master.controllers.catalog.statefulset import CONTROLLER
from tests.unit.master.controllers.cluster import Cluster


def create(cluster: Cluster, replicas: int = 3, **spec: Any) -> None:
    labels = {"app": "db"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "lab.local/web:1"}]}}
    body = {"replicas": replicas, "selector": {"matchLabels": labels}, "serviceName": "db", "template": template}
    cluster.create(STATEFUL_SETS, {"metadata": {"name": "db"}, "spec": {**body, **spec}})


def change(cluster: Cluster, **spec: Any) -> None:
    cluster.change(STATEFUL_SETS, "db", {"spec": spec})


def next_template(cluster: Cluster, turn: str) -> None:
    change(cluster, template={"metadata": {"annotations": {"turn": turn}}})


def status(cluster: Cluster) -> Document:
    found: Document = cluster.get(STATEFUL_SETS, "db")["status"]
    return found


def turns(cluster: Cluster) -> dict[str, str]:
    """Which template each pod came from."""
    pods = cluster.all(PODS)
    return {pod["metadata"]["name"]: pod["metadata"].get("annotations", {}).get("turn", "") for pod in pods}


def one_uid_per_name(cluster: Cluster) -> Any:
    """An identity may pass to another pod only after the kubelet let go of the last one."""
    held: dict[str, str] = {}
    end = cluster.end

    def confirm(name: str) -> None:
        end(name)
        held.pop(name, None)

    cluster.end = confirm  # type: ignore[method-assign]

    def holds(now: Cluster) -> None:
        for pod in now.all(PODS):
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            assert held.setdefault(name, uid) == uid, f"two pods were {name}"

    return holds


def test_ordered_pods_come_one_by_one_each_once_the_last_is_ready(cluster: Cluster) -> None:
    create(cluster)
    seen = []
    for _ in range(8):
        cluster.run(CONTROLLER)
        seen.append(cluster.names())
        if len(seen) % 2 == 0:
            cluster.kubelet()
    assert seen == [
        [], ["db-0"], ["db-0", "db-1"], ["db-0", "db-1"], ["db-0", "db-1", "db-2"], *[["db-0", "db-1", "db-2"]] * 3,
    ]  # fmt: skip


def test_a_pod_carries_its_identity(cluster: Cluster) -> None:
    create(cluster, 2, ordinals={"start": 5})
    cluster.settle(CONTROLLER)
    assert cluster.names() == ["db-5", "db-6"]
    pod = cluster.get(PODS, "db-6")
    labels = pod["metadata"]["labels"]
    assert labels["statefulset.kubernetes.io/pod-name"] == "db-6"
    assert labels["apps.kubernetes.io/pod-index"] == "6"
    assert labels["controller-revision-hash"] == status(cluster)["updateRevision"]
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("db-6", "db")
    assert "SuccessfulCreate: create Pod db-5 in StatefulSet db successful" in cluster.ear.heard


def test_parallel_pods_come_at_once_and_go_at_once(cluster: Cluster) -> None:
    create(cluster, podManagementPolicy="Parallel")
    cluster.run(CONTROLLER)
    cluster.run(CONTROLLER)
    assert cluster.names() == ["db-0", "db-1", "db-2"]
    change(cluster, replicas=0)
    cluster.run(CONTROLLER)
    assert all(pod["metadata"].get("deletionTimestamp") for pod in cluster.all(PODS)) or not cluster.all(PODS)


def test_scaling_down_takes_the_highest_first_and_waits_for_each(cluster: Cluster) -> None:
    create(cluster)
    cluster.settle(CONTROLLER)
    place(cluster)
    change(cluster, replicas=1)
    cluster.run(CONTROLLER)
    cluster.run(CONTROLLER)
    assert leaving(cluster) == ["db-2"]
    cluster.end("db-2")
    cluster.run(CONTROLLER)
    assert leaving(cluster) == ["db-1"]
    cluster.settle(CONTROLLER)
    assert cluster.names() == ["db-0"]


def place(cluster: Cluster) -> None:
    """Bind every pod, so that a delete waits for the kubelet."""
    for name in cluster.names():
        pod = cluster.get(PODS, name)
        if not pod["spec"].get("nodeName"):
            target = {"target": {"kind": "Node", "name": "w1"}, "metadata": {"name": name}}
            cluster.client.post(PODS, name, "binding", {"apiVersion": "v1", "kind": "Binding", **target}, "default")


def leaving(cluster: Cluster) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in cluster.all(PODS) if pod["metadata"].get("deletionTimestamp"))


def test_a_pod_on_its_way_out_keeps_its_name_until_the_kubelet_confirms(cluster: Cluster) -> None:
    create(cluster)
    cluster.settle(CONTROLLER)
    place(cluster)
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in cluster.all(PODS)}
    cluster.client.delete(PODS, "db-1", "default")
    for _ in range(5):
        plan = cluster.run(CONTROLLER)
        assert not any(step.actions for step in plan.steps if "db-1" in str(step.actions))
    assert {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in cluster.all(PODS)} == before
    cluster.end("db-1")
    cluster.settle(CONTROLLER)
    assert cluster.get(PODS, "db-1")["metadata"]["uid"] != before["db-1"]


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
def test_a_crash_between_any_two_actions_never_doubles_an_identity(cluster: Cluster, policy: str) -> None:
    create(cluster, podManagementPolicy=policy)
    cluster.invariants.append(one_uid_per_name(cluster))
    for turn in cluster.died(CONTROLLER):
        if turn % 3 == 0:
            next_template(cluster, str(turn))
            change(cluster, replicas=1 + turn % 4)
        place(cluster)
        stale = cluster.observe(CONTROLLER)
        cluster.run(CONTROLLER)
        cluster.run(CONTROLLER, world=stale)
    cluster.settle(CONTROLLER)
    assert len(cluster.names()) == cluster.get(STATEFUL_SETS, "db")["spec"]["replicas"]
    assert set(turns(cluster).values()) == {"9"}


def test_a_rolling_update_goes_from_the_highest_down_and_stops_at_the_partition(cluster: Cluster) -> None:
    create(cluster, updateStrategy={"rollingUpdate": {"partition": 1}})
    cluster.settle(CONTROLLER)
    first = status(cluster)["currentRevision"]
    next_template(cluster, "two")
    orders = []
    for _ in range(12):
        cluster.run(CONTROLLER)
        cluster.kubelet()
        orders.append(tuple(name for name, turn in turns(cluster).items() if turn == "two"))
    assert list(dict.fromkeys(orders)) == [(), ("db-2",), ("db-1", "db-2")]
    assert status(cluster)["currentRevision"] == first != status(cluster)["updateRevision"]
    assert (status(cluster)["currentReplicas"], status(cluster)["updatedReplicas"]) == (1, 2)
    cluster.client.delete(PODS, "db-0", "default")
    cluster.settle(CONTROLLER)
    assert turns(cluster)["db-0"] == ""  # below the partition it comes back as it was
    change(cluster, updateStrategy={"rollingUpdate": {"partition": 0}})
    cluster.settle(CONTROLLER)
    assert set(turns(cluster).values()) == {"two"}
    assert status(cluster)["currentRevision"] == status(cluster)["updateRevision"]
    assert (status(cluster)["currentReplicas"], status(cluster)["updatedReplicas"]) == (3, 3)


def test_on_delete_waits_for_a_person(cluster: Cluster) -> None:
    create(cluster, updateStrategy={"type": "OnDelete"})
    cluster.settle(CONTROLLER)
    next_template(cluster, "two")
    cluster.settle(CONTROLLER)
    assert set(turns(cluster).values()) == {""}
    cluster.client.delete(PODS, "db-1", "default")
    cluster.settle(CONTROLLER)
    assert turns(cluster) == {"db-0": "", "db-1": "two", "db-2": ""}


def test_revisions_are_kept_for_undo_and_forgotten_beyond_the_limit(cluster: Cluster) -> None:
    create(cluster, revisionHistoryLimit=2)
    for turn in ("a", "b", "c", "d"):
        next_template(cluster, turn)
        cluster.settle(CONTROLLER)
    numbers = sorted(revision["revision"] for revision in cluster.all(CONTROLLER_REVISIONS))
    assert numbers == [2, 3, 4]
    oldest = min(cluster.all(CONTROLLER_REVISIONS), key=lambda one: one["revision"])
    assert oldest["data"]["spec"]["template"]["$patch"] == "replace"
    assert oldest["metadata"]["labels"]["app"] == "db"
    next_template(cluster, "b")
    cluster.settle(CONTROLLER)
    newest = max(cluster.all(CONTROLLER_REVISIONS), key=lambda one: one["revision"])
    assert newest["metadata"]["name"] == oldest["metadata"]["name"]
    assert newest["revision"] == 5


def test_claims_are_made_once_and_outlive_their_pods(cluster: Cluster) -> None:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    create(cluster, 2, volumeClaimTemplates=[claim])
    cluster.settle(CONTROLLER)
    assert cluster.names(PERSISTENT_VOLUME_CLAIMS) == ["data-db-0", "data-db-1"]
    assert cluster.get(PERSISTENT_VOLUME_CLAIMS, "data-db-0")["metadata"]["labels"] == {"app": "db"}
    volume = cluster.get(PODS, "db-1")["spec"]["volumes"][0]
    assert (volume["name"], volume["persistentVolumeClaim"]["claimName"]) == ("data", "data-db-1")
    change(cluster, replicas=0)
    cluster.settle(CONTROLLER)
    assert cluster.names() == []
    assert cluster.names(PERSISTENT_VOLUME_CLAIMS) == ["data-db-0", "data-db-1"]
    owned = [item["metadata"].get("ownerReferences") for item in cluster.all(PERSISTENT_VOLUME_CLAIMS)]
    assert owned == [None, None]


def test_a_retention_policy_gives_claims_to_their_pod_when_it_is_scaled_away(cluster: Cluster) -> None:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    create(cluster, 2, volumeClaimTemplates=[claim], persistentVolumeClaimRetentionPolicy=policy)
    cluster.settle(CONTROLLER)
    owners = {item["metadata"]["name"]: kinds_of(item) for item in cluster.all(PERSISTENT_VOLUME_CLAIMS)}
    assert owners == {"data-db-0": ["StatefulSet"], "data-db-1": ["StatefulSet"]}
    change(cluster, replicas=1)
    cluster.settle(CONTROLLER)
    assert kinds_of(cluster.get(PERSISTENT_VOLUME_CLAIMS, "data-db-1")) == ["Pod"]
    change(cluster, replicas=2)
    cluster.settle(CONTROLLER)
    assert cluster.names() == ["db-0"]  # until the garbage collector has taken the old claim
    cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data-db-1", "default")
    cluster.settle(CONTROLLER)
    assert cluster.names() == ["db-0", "db-1"]


def kinds_of(item: Document) -> list[str]:
    return [owner["kind"] for owner in item["metadata"].get("ownerReferences", ())]


def test_a_failed_pod_is_replaced_under_its_own_name(cluster: Cluster) -> None:
    create(cluster)
    cluster.settle(CONTROLLER)
    before = cluster.get(PODS, "db-1")["metadata"]["uid"]
    cluster.report("db-1", "Failed")
    cluster.settle(CONTROLLER)
    assert cluster.get(PODS, "db-1")["metadata"]["uid"] != before
    assert "RecreatingFailedPod: StatefulSet default/db is recreating failed Pod db-1" in cluster.ear.heard


def test_min_ready_seconds_hold_the_next_pod_back(cluster: Cluster) -> None:
    create(cluster, 2, minReadySeconds=30)
    cluster.run(CONTROLLER)
    cluster.run(CONTROLLER)
    cluster.kubelet()
    plan = cluster.run(CONTROLLER)
    assert cluster.names() == ["db-0"]
    assert 25 < plan.wake_after_s <= 30
    assert (status(cluster)["readyReplicas"], status(cluster)["availableReplicas"]) == (1, 0)
    cluster.skipped_s = 31
    cluster.run(CONTROLLER)
    assert cluster.names() == ["db-0", "db-1"]


def test_status_agrees_with_the_pods_and_is_then_left_alone(cluster: Cluster) -> None:
    create(cluster)
    cluster.settle(CONTROLLER)
    counts = {key: status(cluster)[key] for key in ("replicas", "readyReplicas", "availableReplicas")}
    assert counts == {"replicas": 3, "readyReplicas": 3, "availableReplicas": 3}
    assert status(cluster)["observedGeneration"] == 1
    assert cluster.run(CONTROLLER).steps == ()


def test_a_set_that_is_being_deleted_makes_nothing(cluster: Cluster) -> None:
    create(cluster)
    cluster.settle(CONTROLLER)
    cluster.client.delete(STATEFUL_SETS, "db", "default", propagation="Foreground")
    cluster.client.delete(PODS, "db-1", "default", grace_s=0)
    cluster.settle(CONTROLLER)
    assert cluster.names() == ["db-0", "db-2"]

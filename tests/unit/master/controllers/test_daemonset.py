from __future__ import annotations

from typing import Any

import pytest

from labctl.kube.errors import Document
from labctl.kube.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS
from master.controllers.catalog.daemonset import CONTROLLER
from tests.unit.master.controllers.cluster import Cluster


def create(cluster: Cluster, spec: Document | None = None, **more: Any) -> None:
    labels = {"app": "agent"}
    containers = [{"name": "c", "image": "lab.local/web:1"}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers, **(spec or {})}}
    body = {"selector": {"matchLabels": labels}, "template": template, **more}
    cluster.create(DAEMON_SETS, {"metadata": {"name": "agent"}, "spec": body})


def nodes(cluster: Cluster, *names: str) -> None:
    for name in names or ("w1", "w2", "w3"):
        cluster.node(name)


def schedule(cluster: Cluster) -> None:
    """Bind every pod to the node that its affinity names."""
    for pod in cluster.all(PODS):
        name = pod["metadata"]["name"]
        if not pod["spec"].get("nodeName"):
            body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}}
            target = {"target": {"kind": "Node", "name": wanted(pod)}}
            cluster.client.post(PODS, name, "binding", {**body, **target}, "default")


def wanted(pod: Document) -> str:
    required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = required["nodeSelectorTerms"]
    (field,) = term["matchFields"]
    assert (field["key"], field["operator"]) == ("metadata.name", "In")
    return str(field["values"][0])


def settle(cluster: Cluster, passes: int = 10) -> None:
    for _ in range(passes):
        cluster.run(CONTROLLER)
        schedule(cluster)
        cluster.kubelet()


def placed(cluster: Cluster) -> list[str]:
    return sorted(wanted(pod) for pod in cluster.all(PODS))


def status(cluster: Cluster) -> Document:
    found: Document = cluster.get(DAEMON_SETS, "agent")["status"]
    return found


def turns(cluster: Cluster) -> list[str]:
    return [pod["metadata"].get("annotations", {}).get("turn", "") for pod in cluster.all(PODS)]


def next_template(cluster: Cluster, turn: str) -> None:
    body = {"spec": {"template": {"metadata": {"annotations": {"turn": turn}}}}}
    cluster.change(DAEMON_SETS, "agent", body)


def test_every_node_gets_one_pod_and_a_new_node_too(cluster: Cluster) -> None:
    nodes(cluster)
    create(cluster)
    settle(cluster)
    assert placed(cluster) == ["w1", "w2", "w3"]
    counts = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "numberAvailable")
    assert [status(cluster)[key] for key in counts] == [3, 3, 3, 3]
    assert status(cluster)["updatedNumberScheduled"] == 3
    nodes(cluster, "w4")
    settle(cluster)
    assert placed(cluster) == ["w1", "w2", "w3", "w4"]
    assert cluster.run(CONTROLLER).steps == ()


def test_its_pods_tolerate_a_node_in_trouble_and_keep_their_own_tolerations(cluster: Cluster) -> None:
    nodes(cluster, "w1")
    own = {"key": "dedicated", "operator": "Exists"}
    create(cluster, {"tolerations": [own], "hostNetwork": True})
    settle(cluster)
    (pod,) = cluster.all(PODS)
    keys = {(entry["key"].rpartition("/")[2], entry.get("effect")) for entry in pod["spec"]["tolerations"]}
    assert keys == {
        ("dedicated", None),
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
        ("network-unavailable", "NoSchedule"),
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, ["w2"]),
        ({"nodeName": "w3"}, ["w3"]),
        ({}, ["w2", "w3"]),
        ({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, ["w1", "w2", "w3"]),
        ({"hostNetwork": True}, ["w2", "w3", "w4"]),  # which needs no pod network
    ],
)
def test_only_nodes_that_fit_get_a_pod(cluster: Cluster, spec: Document, expected: list[str]) -> None:
    cluster.node("w1", spec={"taints": [{"key": "gpu", "effect": "NoSchedule"}]})
    cluster.node("w2", labels={"disk": "ssd"})
    cluster.node("w3")
    cluster.node("w4", spec={"taints": [{"key": "node.kubernetes.io/network-unavailable", "effect": "NoSchedule"}]})
    create(cluster, spec)
    settle(cluster)
    assert placed(cluster) == expected


def test_a_pod_leaves_a_node_that_no_longer_fits_but_not_for_a_cordon(cluster: Cluster) -> None:
    nodes(cluster)
    create(cluster, {"nodeSelector": {"kubernetes.io/hostname": "w1"}})
    settle(cluster)
    cordon = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
    cluster.change(NODES, "w1", {"spec": {"unschedulable": True, "taints": cordon}})
    settle(cluster)
    assert placed(cluster) == ["w1"]
    cluster.change(NODES, "w1", {"spec": {"taints": [*cordon, {"key": "out", "effect": "NoSchedule"}]}})
    settle(cluster)
    assert placed(cluster) == ["w1"]  # a new one would not come, the old one may stay
    assert status(cluster)["numberMisscheduled"] == 1
    cluster.change(NODES, "w1", {"spec": {"taints": [{"key": "out", "effect": "NoExecute"}]}})
    settle(cluster)
    assert placed(cluster) == []


def test_a_rolling_update_takes_no_more_nodes_at_once_than_allowed(cluster: Cluster) -> None:
    nodes(cluster, "w1", "w2", "w3", "w4")
    create(cluster, updateStrategy={"rollingUpdate": {"maxUnavailable": "50%"}})
    settle(cluster)

    def enough(now: Cluster) -> None:
        serving = [pod for pod in now.all(PODS) if is_ready(pod) and not pod["metadata"].get("deletionTimestamp")]
        assert len(serving) >= 2

    cluster.invariants.append(enough)
    next_template(cluster, "two")
    for _ in cluster.died(CONTROLLER):
        schedule(cluster)
        enough(cluster)
    settle(cluster)
    assert turns(cluster) == ["two"] * 4
    assert status(cluster)["updatedNumberScheduled"] == 4
    assert len(cluster.all(CONTROLLER_REVISIONS)) == 2


def is_ready(pod: Document) -> bool:
    entries = pod["status"].get("conditions", ())
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in entries)


def test_a_surging_update_has_the_new_pod_ready_before_the_old_one_goes(cluster: Cluster) -> None:
    nodes(cluster)
    create(cluster, updateStrategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    settle(cluster)
    next_template(cluster, "two")
    most = 0
    for _ in range(20):
        cluster.run(CONTROLLER)
        schedule(cluster)
        ready_on = {wanted(pod) for pod in cluster.all(PODS) if is_ready(pod)}
        assert ready_on == {"w1", "w2", "w3"}
        most = max(most, len(cluster.all(PODS)))
        cluster.kubelet()
    assert most == 4
    assert turns(cluster) == ["two"] * 3


def test_on_delete_waits_for_a_person(cluster: Cluster) -> None:
    nodes(cluster)
    create(cluster, updateStrategy={"type": "OnDelete"})
    settle(cluster)
    next_template(cluster, "two")
    settle(cluster)
    assert turns(cluster) == ["", "", ""]
    assert status(cluster)["updatedNumberScheduled"] == 0
    cluster.client.delete(PODS, cluster.names()[0], "default", grace_s=0)
    settle(cluster)
    assert sorted(turns(cluster)) == ["", "", "two"]


def test_a_crash_between_any_two_actions_never_puts_two_pods_on_a_node(cluster: Cluster) -> None:
    nodes(cluster)
    create(cluster)

    def one_each(now: Cluster) -> None:
        on = [wanted(pod) for pod in now.all(PODS)]
        assert len(on) == len(set(on)), on

    cluster.invariants.append(one_each)
    for turn in cluster.died(CONTROLLER):
        schedule(cluster)
        stale = cluster.observe(CONTROLLER)
        if turn == 4:
            next_template(cluster, "two")
        cluster.run(CONTROLLER)
        cluster.run(CONTROLLER, world=stale)
    settle(cluster)
    assert placed(cluster) == ["w1", "w2", "w3"]
    assert turns(cluster) == ["two"] * 3


def test_a_failing_pod_is_replaced_ever_more_slowly(cluster: Cluster) -> None:
    nodes(cluster, "w1")
    create(cluster)
    settle(cluster)
    waits = []
    for _ in range(4):
        cluster.report(cluster.names()[0], "Failed")
        wait_s = cluster.run(CONTROLLER).wake_after_s
        while not gone(cluster):
            waits.append(round(wait_s))
            cluster.skipped_s += wait_s
            wait_s = cluster.run(CONTROLLER).wake_after_s
        settle(cluster)
    assert waits == [1, 2, 4]
    assert any(
        heard.startswith("FailedDaemonPod: Found failed daemon pod default/agent-") for heard in cluster.ear.heard
    )


def gone(cluster: Cluster) -> bool:
    return all(pod["metadata"].get("deletionTimestamp") for pod in cluster.all(PODS))


def test_a_pod_waiting_for_a_deleted_node_goes(cluster: Cluster) -> None:
    nodes(cluster)
    create(cluster)
    cluster.run(CONTROLLER)
    cluster.run(CONTROLLER)
    cluster.client.delete(NODES, "w2")
    cluster.run(CONTROLLER)
    assert placed(cluster) == ["w1", "w3"]

"""Scheduler and every controller together, against the real API server, with fake nodes."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import pytest

from labctl.kube.errors import Document
from labctl.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from tests.e2e.controlplane.plane import CLOCK, FakeNode, Plane, deployment


def pods(plane: Plane, app: str = "web") -> list[Document]:
    """Pods that are not on their way out."""
    found = plane.all(PODS, label_selector=f"app={app}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def running(plane: Plane, app: str = "web") -> list[Document]:
    return [pod for pod in pods(plane, app) if condition(pod, "Ready").get("status") == "True"]


def condition(item: Document, kind: str) -> Document:
    entries = item.get("status", {}).get("conditions", ())
    return next((entry for entry in entries if entry["type"] == kind), {})


def scheduled(pod: Document) -> Document:
    return condition(pod, "PodScheduled")


def endpoints(plane: Plane, service: str = "web") -> list[Document]:
    slices = plane.all(ENDPOINT_SLICES, label_selector=f"kubernetes.io/service-name={service}")
    return [entry for item in slices for entry in item.get("endpoints") or ()]


def serve(plane: Plane, name: str = "web", replicas: int = 3, **spec: Any) -> None:
    plane.client.create(DEPLOYMENTS, deployment(name, replicas, **spec), "default")
    ports = [{"port": 80, "targetPort": 8080}]
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}}
    plane.client.create(SERVICES, {**body, "spec": {"selector": {"app": name}, "ports": ports}}, "default")
    rolled_out(plane, name, replicas)


def rolled_out(plane: Plane, name: str, replicas: int, deadline_s: float = 20.0) -> None:
    def done() -> bool:
        item = plane.client.get(DEPLOYMENTS, name, "default")
        status = item.get("status", {})
        counts = [status.get(field, 0) for field in ("replicas", "updatedReplicas", "availableReplicas")]
        current = status.get("observedGeneration") == item["metadata"]["generation"]
        return current and counts == [replicas] * 3

    plane.until(f"{name} to be rolled out", done, deadline_s)


def two_nodes(plane: Plane) -> tuple[FakeNode, FakeNode]:
    nodes = plane.node("worker1"), plane.node("worker2")
    plane.until("both nodes without taints", lambda: all(not taints(plane, node.name) for node in nodes))
    return nodes


def taints(plane: Plane, node: str) -> list[str]:
    found = plane.client.get(NODES, node)["spec"].get("taints") or []
    return sorted(f"{taint['key'].rpartition('/')[2]}:{taint['effect']}" for taint in found)


def events(plane: Plane, reason: str) -> list[str]:
    return [event["message"] for event in plane.all(EVENTS) if event["reason"] == reason]


def test_a_deployment_is_spread_served_and_reported(plane: Plane) -> None:
    two_nodes(plane)
    serve(plane)
    assert {pod["spec"]["nodeName"] for pod in pods(plane)} == {"worker1", "worker2"}
    plane.until("three endpoints", lambda: len(endpoints(plane)) == 3)
    assert {entry["targetRef"]["uid"] for entry in endpoints(plane)} == {pod["metadata"]["uid"] for pod in pods(plane)}
    item = plane.client.get(DEPLOYMENTS, "web", "default")
    assert condition(item, "Available")["status"] == "True"
    assert condition(item, "Progressing")["reason"] == "NewReplicaSetAvailable"
    assert item["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    cidrs = {plane.client.get(NODES, node)["spec"]["podCIDR"] for node in plane.nodes}
    assert cidrs == {"10.244.0.0/24", "10.244.1.0/24"}
    plane.until("Scheduled events", lambda: len(events(plane, "Scheduled")) == 3)
    assert any("Successfully assigned default/web-" in message for message in events(plane, "Scheduled"))
    plane.until("a default ServiceAccount", lambda: plane.client.get(SERVICE_ACCOUNTS, "default", "default"))
    plane.until("the root certificate", lambda: plane.client.get(CONFIG_MAPS, "kube-root-ca.crt", "default"))


def test_a_powered_off_node_is_detected_drained_and_its_pods_serve_elsewhere(plane: Plane) -> None:
    lost, _ = two_nodes(plane)
    serve(plane)
    plane.until("three endpoints", lambda: len(endpoints(plane)) == 3)
    before = {pod["metadata"]["uid"] for pod in pods(plane) if pod["spec"]["nodeName"] == "worker1"}
    assert before
    lost.power_off()
    cut_s = CLOCK.monotonic_s()
    node = plane.until(
        "Unknown",
        lambda: (
            (found := plane.client.get(NODES, "worker1")) and condition(found, "Ready")["status"] == "Unknown" and found
        ),
    )
    detected_s = CLOCK.monotonic_s() - cut_s
    plane.until("no ready endpoint on it", lambda: not ready_on(plane, "worker1"))
    removed_s = CLOCK.monotonic_s() - cut_s
    plane.until("three pods elsewhere", lambda: [pod["spec"]["nodeName"] for pod in running(plane)] == ["worker2"] * 3)
    plane.until("three endpoints elsewhere", lambda: len(ready_on(plane, "worker2")) == 3)
    serving_s = CLOCK.monotonic_s() - cut_s
    assert condition(node, "Ready")["reason"] == "NodeStatusUnknown"
    assert detected_s < 5.0
    assert removed_s - detected_s < 0.5
    assert serving_s < 8.0
    print(f"detected {detected_s:.2f} s, endpoints removed {removed_s:.2f} s, serving again {serving_s:.2f} s")
    assert taints(plane, "worker1") == ["unreachable:NoExecute", "unreachable:NoSchedule"]
    condemned = [pod for pod in plane.all(PODS) if pod["metadata"]["uid"] in before]
    assert {condition(pod, "DisruptionTarget").get("reason") for pod in condemned} == {"DeletionByTaintManager"}
    lost.power_on()
    plane.until("clean taints", lambda: not taints(plane, "worker1"))
    plane.until("the condemned to be gone", lambda: len(plane.all(PODS)) == 3)


def ready_on(plane: Plane, node: str) -> list[Document]:
    return [entry for entry in endpoints(plane) if entry["nodeName"] == node and entry["conditions"]["ready"]]


def test_a_pause_shorter_than_the_grace_moves_nothing(plane: Plane) -> None:
    paused, _ = two_nodes(plane)
    serve(plane)
    before = {pod["metadata"]["uid"] for pod in pods(plane)}
    paused.power_off()
    CLOCK.sleep_s(2.0)  # the fault itself: half the grace
    paused.power_on()
    CLOCK.sleep_s(3.0)  # past the moment at which the old heartbeat would have expired
    assert {pod["metadata"]["uid"] for pod in running(plane)} == before
    assert taints(plane, "worker1") == []


def test_when_every_node_falls_silent_nothing_is_evicted(plane: Plane) -> None:
    nodes = two_nodes(plane)
    serve(plane)
    before = {pod["metadata"]["uid"] for pod in pods(plane)}
    for node in nodes:
        node.power_off()
    plane.until(
        "both Unknown",
        lambda: all(condition(plane.client.get(NODES, name), "Ready")["status"] == "Unknown" for name in plane.nodes),
    )
    CLOCK.sleep_s(3.0)  # longer than the tolerations
    assert {pod["metadata"]["uid"] for pod in pods(plane)} == before
    for node in nodes:
        node.power_on()
    plane.until("all serve again", lambda: {pod["metadata"]["uid"] for pod in running(plane)} == before)


def test_an_api_server_that_froze_longer_than_the_grace_condemns_nobody(plane: Plane) -> None:
    two_nodes(plane)
    serve(plane)
    before = {pod["metadata"]["uid"] for pod in pods(plane)}
    plane.processes["apiserver"].send_signal(signal.SIGSTOP)
    CLOCK.sleep_s(6.0)
    plane.processes["apiserver"].send_signal(signal.SIGCONT)
    end_s = CLOCK.monotonic_s() + 5.0
    plane.until("the API server", lambda: plane.client.request("GET", "/readyz"))
    while CLOCK.monotonic_s() < end_s:
        found = [condition(plane.client.get(NODES, name), "Ready")["status"] for name in plane.nodes]
        assert found == ["True", "True"]
        CLOCK.sleep_s(0.2)
    assert {pod["metadata"]["uid"] for pod in running(plane)} == before


def test_a_rollout_replaces_every_pod_keeps_enough_and_can_be_undone(plane: Plane) -> None:
    two_nodes(plane)
    serve(plane, replicas=4)
    first = plane.client.get(DEPLOYMENTS, "web", "default")["spec"]["template"]
    change = {"spec": {"template": {"metadata": {"annotations": {"turn": "two"}}}}}
    plane.client.patch(DEPLOYMENTS, "web", change, "default")
    least = 4

    def done() -> bool:
        nonlocal least
        least = min(least, len(running(plane)))
        item = plane.client.get(DEPLOYMENTS, "web", "default")
        status = item["status"]
        return status.get("observedGeneration") == item["metadata"]["generation"] and [
            status.get(field, 0) for field in ("replicas", "updatedReplicas", "availableReplicas")
        ] == [4, 4, 4]

    plane.until("the rollout", done, 30)
    assert least >= 3
    sets = {
        item["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: item for item in plane.all(REPLICA_SETS)
    }
    assert {revision: item["spec"]["replicas"] for revision, item in sets.items()} == {"1": 0, "2": 4}
    back = {"spec": {"template": {"metadata": {"annotations": None}}}}
    plane.client.patch(DEPLOYMENTS, "web", back, "default")
    rolled_out(plane, "web", 4, 30)
    assert plane.client.get(DEPLOYMENTS, "web", "default")["spec"]["template"] == first
    again = {
        item["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: item for item in plane.all(REPLICA_SETS)
    }
    assert again.keys() == {"2", "3"}
    assert again["3"]["metadata"]["name"] == sets["1"]["metadata"]["name"]
    assert again["3"]["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"


def test_recreate_never_runs_old_and_new_together(plane: Plane) -> None:
    two_nodes(plane)
    serve(plane, strategy={"type": "Recreate"})
    change = {"spec": {"template": {"metadata": {"annotations": {"turn": "two"}}}}}
    plane.client.patch(DEPLOYMENTS, "web", change, "default")

    def done() -> bool:
        hashes = {pod["metadata"]["labels"]["pod-template-hash"] for pod in plane.all(PODS)}
        assert len(hashes) <= 1
        item = plane.client.get(DEPLOYMENTS, "web", "default")
        status = item["status"]
        return [status.get(field, 0) for field in ("updatedReplicas", "availableReplicas")] == [3, 3]

    plane.until("the rollout", done, 30)


def test_a_pod_that_fits_nowhere_says_why_and_runs_once_there_is_room(plane: Plane) -> None:
    two_nodes(plane)
    body = deployment("big", 1)
    body["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "8"}
    plane.client.create(DEPLOYMENTS, body, "default")
    why = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: "
    why += "2 Preemption is not helpful for scheduling."
    told = {"status": "False", "reason": "Unschedulable", "message": why}
    plane.until("the reason", lambda: any(told.items() <= scheduled(pod).items() for pod in pods(plane, "big")))
    plane.until("the event", lambda: why in events(plane, "FailedScheduling"))
    plane.node("worker3", cpu="16")
    plane.until(
        "it to run there", lambda: [pod["spec"].get("nodeName") for pod in running(plane, "big")] == ["worker3"]
    )


def test_a_cordoned_node_gets_no_pods(plane: Plane) -> None:
    two_nodes(plane)
    plane.client.patch(NODES, "worker1", {"spec": {"unschedulable": True}})
    plane.until("its taint", lambda: taints(plane, "worker1") == ["unschedulable:NoSchedule"])
    serve(plane)
    assert {pod["spec"]["nodeName"] for pod in pods(plane)} == {"worker2"}


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
def test_deleting_a_deployment_takes_everything_below_it(plane: Plane, propagation: str) -> None:
    two_nodes(plane)
    serve(plane)
    plane.client.delete(DEPLOYMENTS, "web", "default", propagation=propagation)
    plane.until("nothing left", lambda: not plane.all(PODS) and not plane.all(REPLICA_SETS))
    plane.until("the deployment gone", lambda: plane.gone(DEPLOYMENTS, "web"))


def test_orphaned_pods_live_on_and_are_adopted_again(plane: Plane) -> None:
    two_nodes(plane)
    serve(plane)
    before = {pod["metadata"]["uid"] for pod in pods(plane)}
    plane.client.delete(DEPLOYMENTS, "web", "default", propagation="Orphan")
    plane.until("the deployment gone", lambda: plane.gone(DEPLOYMENTS, "web"))
    assert [item["metadata"].get("ownerReferences") or [] for item in plane.all(REPLICA_SETS)] == [[]]
    plane.client.create(DEPLOYMENTS, deployment("web", 3), "default")
    rolled_out(plane, "web", 3)
    assert {pod["metadata"]["uid"] for pod in pods(plane)} == before


def test_a_deleted_namespace_empties_and_goes(plane: Plane) -> None:
    two_nodes(plane)
    plane.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "brief"}})
    body = deployment("web", 2)
    body["metadata"]["namespace"] = "brief"
    plane.client.create(DEPLOYMENTS, body, "brief")
    plane.until("two pods", lambda: len(plane.all(PODS, "brief")) == 2)
    plane.client.delete(NAMESPACES, "brief")
    plane.until("it to be gone", lambda: plane.gone(NAMESPACES, "brief", ""), 30)
    assert plane.all(PODS, "brief") == []


def test_pods_of_a_deleted_node_are_removed(plane: Plane) -> None:
    lost, _ = two_nodes(plane)
    serve(plane)
    lost.power_off()
    plane.client.delete(NODES, "worker1")
    plane.until(
        "only pods of worker2",
        lambda: [pod["spec"].get("nodeName") for pod in plane.all(PODS)] == ["worker2"] * 3,
        30,
    )


@pytest.mark.parametrize("victims", [("controllers",), ("scheduler",), ("controllers", "scheduler")])
def test_kill_nine_at_any_moment_doubles_no_pod_and_loses_none(plane: Plane, victims: tuple[str, ...]) -> None:
    two_nodes(plane)
    serve(plane, replicas=2)
    sizes = itertools.cycle([14, 5, 20, 8])
    for turn in range(6):
        size = next(sizes)
        plane.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": size}}, "default")
        CLOCK.sleep_s(0.03 * turn)  # the moment of the crash
        for victim in victims:
            plane.kill(victim)
        most = len(pods(plane))
        plane.start(*victims)

        def settled(size: int = size) -> bool:
            nonlocal most
            most = max(most, len(pods(plane)))
            return len(running(plane)) == size == len(pods(plane))

        plane.until(f"{size} pods", settled, 20)
        assert most <= 20
        sets = plane.all(REPLICA_SETS)
        assert len(sets) == 1


def test_a_frozen_leader_is_replaced_and_stops_when_it_thaws(plane: Plane) -> None:
    two_nodes(plane)
    serve(plane, replicas=2)
    leaders = {name: plane.processes[name] for name in ("controllers", "scheduler")}
    plane.start(*leaders)  # the standbys
    try:
        for leader in leaders.values():
            leader.send_signal(signal.SIGSTOP)
        plane.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 6}}, "default")
        rolled_out(plane, "web", 6)
    finally:
        for leader in leaders.values():
            leader.send_signal(signal.SIGCONT)
    assert [leader.wait(10) for leader in leaders.values()] == [1, 1]
    assert len(pods(plane)) == 6


def test_an_api_server_that_comes_back_finds_the_same_leaders_at_work(plane: Plane) -> None:
    two_nodes(plane)
    serve(plane, replicas=2)
    plane.processes["apiserver"].send_signal(signal.SIGSTOP)
    CLOCK.sleep_s(6.0)  # longer than the leases
    plane.processes["apiserver"].send_signal(signal.SIGCONT)
    plane.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 5}}, "default")
    rolled_out(plane, "web", 5)
    assert [plane.processes[name].poll() for name in ("controllers", "scheduler")] == [None, None]


def test_a_lost_write_conflict_is_planned_again(plane: Plane) -> None:
    """Many writers on one Deployment: every change lands, none is stuck."""
    two_nodes(plane)
    serve(plane)
    for number in range(20):
        body = {"metadata": {"annotations": {"number": str(number)}}, "spec": {"replicas": 1 + number % 4}}
        plane.client.patch(DEPLOYMENTS, "web", body, "default")
    rolled_out(plane, "web", 4)

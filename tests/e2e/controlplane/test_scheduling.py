"""The scheduler as a process, with the real API server over a real etcd and fake nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from labctl.kube.errors import Document
from labctl.kube.resources import EVENTS, NODES, PODS, SERVICE_ACCOUNTS, builtin
from tests.e2e.controlplane.plane import MERGE_PATCH, Plane
from tests.etcd import Etcd

PRIORITY_CLASSES = builtin("priorityclasses", "scheduling.k8s.io")

pytestmark = pytest.mark.etcd


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    """API server over etcd, scheduler and controllers, running."""
    etcd = Etcd(tmp_path / "etcd")
    etcd.start()
    try:
        with Plane(tmp_path, etcd_servers=[etcd.url]) as running:
            yield running
    finally:
        etcd.kill()


def pod(name: str, cpu: str, **spec: Any) -> Document:
    container = {"name": "c", "image": "lab.local/web:1", "resources": {"requests": {"cpu": cpu}}}
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container], **spec}}


def create(plane: Plane, *items: Document) -> None:
    plane.until("the service account", lambda: plane.client.get(SERVICE_ACCOUNTS, "default", "default"))
    for item in items:
        plane.client.create(PODS, item, "default")


def scheduled(plane: Plane, name: str) -> Document:
    entries = plane.client.get(PODS, name, "default").get("status", {}).get("conditions", ())
    return next((entry for entry in entries if entry["type"] == "PodScheduled"), {})


def on(plane: Plane, name: str) -> str:
    return str(plane.client.get(PODS, name, "default")["spec"].get("nodeName", ""))


def told(plane: Plane, name: str, reason: str) -> list[str]:
    events = plane.all(EVENTS)
    return [item["message"] for item in events if (item["involvedObject"]["name"], item["reason"]) == (name, reason)]


def test_a_pod_that_fits_nowhere_says_why_and_is_placed_when_a_node_comes(plane: Plane) -> None:
    plane.node("small", cpu="1")
    create(plane, pod("p", "2"))
    message = (
        "0/1 nodes are available: 1 Insufficient cpu. "
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )
    plane.until("the reason", lambda: scheduled(plane, "p").get("message") == message)
    assert scheduled(plane, "p")["reason"] == "Unschedulable"
    plane.until("its Event", lambda: message in told(plane, "p", "FailedScheduling"))
    plane.node("large", cpu="4")
    plane.until("p on the new node", lambda: on(plane, "p") == "large")
    plane.until("its Event", lambda: told(plane, "p", "Scheduled") == ["Successfully assigned default/p to large"])


def test_a_gated_pod_is_left_alone_until_its_gates_are_gone(plane: Plane) -> None:
    plane.node("n")
    create(plane, pod("gated", "1", schedulingGates=[{"name": "lab.local/wait"}]), pod("free", "1"))
    plane.until("the other on the node", lambda: on(plane, "free") == "n")
    assert (on(plane, "gated"), scheduled(plane, "gated")["reason"]) == ("", "SchedulingGated")
    plane.client.patch(PODS, "gated", {"spec": {"schedulingGates": None}}, "default", kind=MERGE_PATCH)
    plane.until("the gated one on the node", lambda: on(plane, "gated") == "n")


def test_a_more_important_pod_takes_the_place_of_another(plane: Plane) -> None:
    item = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1000}
    plane.client.create(PRIORITY_CLASSES, item)
    plane.node("n", cpu="2")
    create(plane, pod("victim", "2", terminationGracePeriodSeconds=1))
    plane.until("the first on the node", lambda: on(plane, "victim") == "n")
    revision = plane.client.list(PODS, "default").metadata.resource_version
    create(plane, pod("important", "2", priorityClassName="high"))
    plane.until("the important one on the node", lambda: on(plane, "important") == "n", deadline_s=30)
    assert plane.gone(PODS, "victim")
    watched = _history(plane, revision)
    entries = [entry for item in watched for entry in item["status"].get("conditions", ())]
    gone = next(entry for entry in entries if entry["type"] == "DisruptionTarget")
    assert (gone["status"], gone["reason"]) == ("True", "PreemptionByScheduler")
    assert gone["message"] == "default-scheduler: preempting to accommodate a higher priority pod"
    assert "n" in [item["status"].get("nominatedNodeName") for item in watched]
    uid = plane.client.get(PODS, "important", "default")["metadata"]["uid"]
    plane.until("the Event", lambda: told(plane, "victim", "Preempted") == [f"Preempted by pod {uid} on node n"])


def _history(plane: Plane, revision: str) -> list[Document]:
    """Every state of the pods since, as a watch tells it."""
    seen: list[Document] = []
    with plane.client.watch(PODS, "default", resource_version=revision, timeout_s=2) as events:
        for event in events:
            if event.type != "BOOKMARK":
                seen.append(msgspec.json.decode(event.object))
    return seen


def test_a_cordon_that_ends_lets_the_waiting_pod_in(plane: Plane) -> None:
    plane.node("n")
    plane.until("the node's room", lambda: plane.client.get(NODES, "n").get("status", {}).get("allocatable"))
    plane.client.patch(NODES, "n", {"spec": {"unschedulable": True}}, kind=MERGE_PATCH)
    create(plane, pod("p", "1"))
    plane.until("the reason", lambda: "1 node(s) were unschedulable" in scheduled(plane, "p").get("message", ""))
    plane.client.patch(NODES, "n", {"spec": {"unschedulable": False}}, kind=MERGE_PATCH)
    plane.until("p on the node", lambda: on(plane, "p") == "n")

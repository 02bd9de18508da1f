"""The kubelet against the real control plane, over a container runtime in memory: threads, TLS, watches and all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.kubelet.config import Config
from agents.kubelet.fake import FakeRuntime
from agents.kubelet.process import Kubelet
from agents.kubelet.process import World as Surroundings
from agents.kubelet.stats import Machine as Measured
from labctl.kube.client import Client
from labctl.kube.errors import Document
from labctl.kube.resources import DEPLOYMENTS, EVENTS, LEASES, NODES, PODS
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import Stop
from tests.e2e.controlplane.plane import Plane
from tests.unit.agents.kubelet.world import FakeVolumes

GIB = 2**30
FIGURES = Measured(
    cpus=4, memory_bytes=8 * GIB, memory_available_bytes=6 * GIB, disk_bytes=50 * GIB, disk_available_bytes=40 * GIB,
    inodes=1000, inodes_available=900, pids=100, pids_max=30_000, boot_id="boot", machine_id="machine",
    system_uuid="uuid", kernel_version="6.1", os_image="Debian GNU/Linux 13 (trixie)", architecture="amd64",
)  # fmt: skip


class Machine:
    """A worker whose kubelet can be stopped and started; its containers live on in the fake runtime."""

    def __init__(self, plane: Plane, folder: Path, name: str) -> None:
        self.plane, self.folder, self.name = plane, folder, name
        self.runtime = FakeRuntime(SystemClock(), images=["web:1"])
        self.volumes = FakeVolumes(folder / name)
        self.stop: Stop | None = None
        path = plane.authority.kubeconfig(name, plane.server, f"system:node:{name}", "system:nodes")
        self.config = Config(kubeconfig=path, node_name=name, node_ip="127.0.0.1", root_dir=str(folder / name / "root"))

    def start(self) -> None:
        self.stop = Stop()
        world = Surroundings(
            self.runtime, self.volumes, lambda: FIGURES, SystemClock(), log_dir=str(self.folder / self.name / "logs")
        )
        client, heartbeat = (Client.from_kubeconfig(self.config.kubeconfig, timeout_s=2) for _ in range(2))
        kubelet = Kubelet(self.config, client, heartbeat, world)
        self.thread = threading.Thread(target=kubelet.run, args=(self.stop,), daemon=True)
        self.thread.start()
        self.kubelet = kubelet

    def halt(self) -> None:
        assert self.stop is not None
        self.stop.set()
        self.kubelet.sync.wake.ring()
        self.thread.join(10)


@pytest.fixture
def worker(plane: Plane, tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(plane, tmp_path, "worker1")
    machine.start()
    yield machine
    machine.halt()


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with Plane(tmp_path) as running:
        yield running


def condition(document: Document, kind: str) -> dict[str, Any]:
    return next((c for c in document.get("status", {}).get("conditions") or () if c["type"] == kind), {})


def is_ready(plane: Plane, name: str) -> bool:
    return condition(plane.client.get(NODES, name), "Ready").get("status") == "True"


def pods(plane: Plane) -> list[Document]:
    return plane.all(PODS)


def ready_pods(plane: Plane) -> list[Document]:
    staying = (entry for entry in pods(plane) if "deletionTimestamp" not in entry["metadata"])
    return [entry for entry in staying if condition(entry, "Ready").get("status") == "True"]


def restarts(entry: Document) -> int:
    return int(entry["status"]["containerStatuses"][0]["restartCount"])


def deployment(replicas: int) -> Document:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "app", "image": "web:1"}],
                },
            },
        },
    }


def test_a_deployment_runs_scales_and_goes(plane: Plane, worker: Machine) -> None:
    plane.until("the node", lambda: is_ready(plane, "worker1"))
    node = plane.client.get(NODES, "worker1")
    assert node["status"]["capacity"]["cpu"] == "4"
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"] == "fake://1"
    assert plane.client.get(LEASES, "worker1", "kube-node-lease")["spec"]["holderIdentity"] == "worker1"

    plane.client.create(DEPLOYMENTS, deployment(3), "default")
    plane.until("three pods", lambda: len(ready_pods(plane)) == 3)
    assert len(worker.runtime.running()) == 3
    assert {p["status"]["podIP"] for p in ready_pods(plane)} == {s.address for s in worker.runtime.sandboxes()}

    plane.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 1}}, "default")
    plane.until("one pod", lambda: len(pods(plane)) == 1 and len(worker.runtime.running()) == 1)
    assert len(worker.runtime.sandboxes()) == 1

    plane.client.delete(DEPLOYMENTS, "web", "default", propagation="Background")
    plane.until("nothing left", lambda: not pods(plane) and not worker.runtime.containers())
    plane.until("no volume left", lambda: not worker.volumes.kept and not worker.runtime.sandboxes())
    reasons = {event["reason"] for event in plane.all(EVENTS)}
    assert {"Started", "Killing"} <= reasons


def test_a_dead_container_comes_back_and_is_counted(plane: Plane, worker: Machine) -> None:
    plane.client.create(DEPLOYMENTS, deployment(1), "default")
    plane.until("the pod", lambda: ready_pods(plane))
    worker.runtime.kill(worker.runtime.running()[0].id)
    plane.until("its restart", lambda: [entry for entry in ready_pods(plane) if restarts(entry) == 1])


def test_the_kubelet_comes_and_goes_without_a_trace(plane: Plane, worker: Machine) -> None:
    plane.client.create(DEPLOYMENTS, deployment(2), "default")
    plane.until("the pods", lambda: len(ready_pods(plane)) == 2)
    before = {p["metadata"]["name"]: p["metadata"]["resourceVersion"] for p in pods(plane)}
    containers = {entry.id for entry in worker.runtime.running()}
    worker.halt()
    worker.start()
    plane.until("its return", lambda: len(worker.kubelet.sync.pods()) == 2)
    assert {entry.id for entry in worker.runtime.running()} == containers
    assert {p["metadata"]["name"]: p["metadata"]["resourceVersion"] for p in pods(plane)} == before

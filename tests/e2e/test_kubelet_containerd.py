"""The kubelet's own process over real containerd and the real control plane: pods live, it is killed, power fails."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from agents.kubelet.runtime import ContainerStatus
from labctl.kube.errors import Document
from labctl.kube.resources import CONFIG_MAPS, DEPLOYMENTS, NODES, PODS
from labctl.runtime.clock import SystemClock
from tests.contract.runtime.node import IMAGE, Node
from tests.e2e.controlplane.plane import Plane

_SCRIPT = "echo started; cat /config/text > /shared/copy; trap 'exit 0' TERM; while true; do sleep 1; done"
FOREVER = ["sh", "-c", _SCRIPT]


class Worker:
    """A node whose kubelet is `python -m agents.kubelet`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, SystemClock()
        (folder / "containerd").mkdir()
        self.node, self.plane = Node(folder / "containerd"), Plane(folder)
        self.process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        self.node.start()
        self.node.load()
        self.plane.start("apiserver")
        self.plane.start("scheduler", "controllers")
        identity = ("worker1", self.plane.server, "system:node:worker1", "system:nodes")
        self._write("kubelet.json", {
            "kubeconfig": self.plane.authority.kubeconfig(*identity),
            "node_name": "worker1",
            "node_ip": "127.0.0.1",
            "root_dir": str(self.folder / "root"),
        })  # fmt: skip
        self._write("places.json", {
            "runtime": self.node.settings,
            "network": self.node.network,
            "memory_dir": str(self.folder / "memory"),
            "log_dir": str(self.folder / "logs"),
        })  # fmt: skip
        self.start()

    def start(self) -> None:
        argv = [sys.executable, "-m", "agents.kubelet", "--config", str(self.folder / "kubelet.json")]
        with (self.folder / "kubelet.log").open("ab") as log:
            places = ["--places", str(self.folder / "places.json")]
            self.process = subprocess.Popen([*argv, *places], stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def down(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.plane.stop()
        self.node.destroy()

    def running(self) -> list[ContainerStatus]:
        return [entry for entry in self.node.runtime().containers() if entry.phase == "running"]

    def pods(self) -> list[Document]:
        return self.plane.all(PODS)

    def ready(self) -> list[Document]:
        return [p for p in self.pods() if condition(p, "Ready") == "True" and "deletionTimestamp" not in p["metadata"]]

    def agrees(self, count: int) -> bool:
        """Whether API and containerd both have exactly `count` pods, the same ones, each once."""
        ready = sorted(entry["metadata"]["uid"] for entry in self.ready())
        alive = sorted(entry.pod.uid for entry in self.running())
        return len(self.pods()) == len(alive) == count and ready == alive

    def _write(self, name: str, document: Any) -> None:
        (self.folder / name).write_bytes(msgspec.json.encode(document))


def condition(document: Document, kind: str) -> str:
    found = document.get("status", {}).get("conditions") or ()
    return str(next((c["status"] for c in found if c["type"] == kind), ""))


def deployment(replicas: int) -> Document:
    labels = {"app": "web"}
    mounts = [{"name": "config", "mountPath": "/config"}, {"name": "shared", "mountPath": "/shared"}]
    container = {
        "name": "app",
        "image": IMAGE,
        "command": FOREVER,
        "volumeMounts": mounts,
        "readinessProbe": {"exec": {"command": ["cat", "/config/text"]}, "periodSeconds": 5},
    }
    volumes = [{"name": "config", "configMap": {"name": "words"}}, {"name": "shared", "emptyDir": {}}]
    spec = {"terminationGracePeriodSeconds": 2, "containers": [container], "volumes": volumes}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    found = Worker(tmp_path_factory.mktemp("worker"))
    try:
        found.up()
        found.plane.until("the node", lambda: condition(found.plane.client.get(NODES, "worker1"), "Ready") == "True")
        words = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words"}, "data": {"text": "hello"}}
        found.plane.client.create(CONFIG_MAPS, words, "default")
        yield found
    finally:
        found.down()


@pytest.fixture
def web(worker: Worker) -> Iterator[Worker]:
    """Three pods; afterwards nothing of them is left anywhere."""
    worker.plane.client.create(DEPLOYMENTS, deployment(3), "default")
    worker.plane.until("three pods", lambda: worker.agrees(3), deadline_s=60, every_s=0.3)
    yield worker
    worker.plane.client.delete(DEPLOYMENTS, "web", "default", propagation="Background")
    worker.plane.until("the end of the pods", lambda: not worker.pods(), deadline_s=60, every_s=0.3)
    worker.plane.until("nothing left", lambda: not worker.node.leftovers(), deadline_s=30, every_s=0.3)
    for folder in ("root/pods", "memory", "logs"):
        path = worker.folder / folder
        assert not path.exists() or list(path.iterdir()) == []


def test_pods_run_with_their_volumes_and_logs(web: Worker) -> None:
    entry = web.running()[0]
    runtime = web.node.runtime()
    runtime.containers()
    assert runtime.exec(entry.id, ["cat", "/shared/copy"], timeout_s=10).output == "hello"
    assert f"\t{entry.pod.name}" in runtime.exec(entry.id, ["cat", "/etc/hosts"], timeout_s=10).output
    assert '"log":"started\\n"' in Path(entry.log_path).read_text()


def test_an_idle_kubelet_costs_next_to_nothing(web: Worker) -> None:
    assert web.process is not None
    process = psutil.Process(web.process.pid)
    before = process.cpu_times()
    web.clock.sleep_s(10)
    after = process.cpu_times()
    share = (after.user + after.system - before.user - before.system) / 10
    assert share < 0.02, f"{share:.1%} of a core"
    assert process.memory_info().rss < 60 * 2**20


def test_a_kubelet_killed_again_and_again_doubles_and_loses_nothing(web: Worker) -> None:
    rng = random.Random(2)
    for _ in range(8):
        web.plane.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": rng.choice([1, 2, 4, 5])}}, "default")
        web.clock.sleep_s(rng.random())
        web.kill()
        names = [(entry.pod.uid, entry.name) for entry in web.running()]
        assert len(names) == len(set(names))
        web.start()
    web.plane.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 3}}, "default")
    web.plane.until("agreement", lambda: web.agrees(3), deadline_s=60, every_s=0.3)
    assert all(p["status"]["containerStatuses"][0]["restartCount"] == 0 for p in web.pods())


def test_after_a_power_cut_the_same_pods_run_again_in_place(web: Worker) -> None:
    before = {p["metadata"]["uid"] for p in web.pods()}
    web.kill()
    web.node.lose_power()
    web.node.start()
    web.start()

    def back() -> bool:
        counts = [p["status"]["containerStatuses"][0]["restartCount"] for p in web.ready()]
        return web.agrees(3) and counts == [1, 1, 1]

    web.plane.until("the pods' return", back, deadline_s=60, every_s=0.3)
    assert {p["metadata"]["uid"] for p in web.pods()} == before

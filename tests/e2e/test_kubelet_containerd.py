"""The kubelet's own process over real containerd and the real control plane: pods live, it is killed, power fails."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from labctl.kube.errors import Document
from labctl.kube.resources import CONFIG_MAPS, DEPLOYMENTS, NODES
from labctl.runtime.errors import DeadlineExceeded
from tests.contract.runtime.node import IMAGE
from tests.e2e.worker import Worker, condition

_SCRIPT = "echo started; cat /config/text > /shared/copy; trap 'exit 0' TERM; while true; do sleep 1; done"
FOREVER = ["sh", "-c", _SCRIPT]


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
    with contextlib.suppress(DeadlineExceeded):  # what is left says more
        worker.plane.until("nothing left", lambda: not worker.node.leftovers(), deadline_s=30, every_s=0.3)
    assert worker.node.leftovers() == []
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

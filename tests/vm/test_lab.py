"""A lab of real virtual machines, as a user lives it. The tests build on each other, in order."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labs import LabUser, eventually, is_ready, pod_key

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]

# Beside the power cut: what only a machine of its own can show (its clock, its whole being suspended), and its own
# kernel's packet rules and queues. All drills run in system containers, with the same code.
_DRILLS = ("slow-network", "partition-workers", "clock-step", "vm-suspend")


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUser]:
    someone = LabUser(tmp_path_factory.mktemp("lab"), "t-vm", "vagrant")
    try:
        someone.up()
        someone.deploy_web()
        yield someone
    finally:
        someone.labctl("destroy", "--if-exists")


def test_the_nodes_are_machines_of_their_own(user: LabUser) -> None:
    kernels = {node: user.labctl("ssh", node, "--", "cat /proc/sys/kernel/random/boot_id").stdout for node in (
        "master1", "worker1", "worker2")}  # fmt: skip
    assert len(set(kernels.values())) == 3
    nodes = user.json("get", "nodes")["items"]
    assert [node["metadata"]["name"] for node in nodes] == ["worker1", "worker2"]
    assert "nerdctl" in user.labctl("ssh", "worker1", "--", "nerdctl --version").stdout


def test_a_snapshot_brings_the_whole_lab_back(user: LabUser) -> None:
    eventually(lambda: len([pod for pod in user.pods() if is_ready(pod)]) == 3, "three ready pods", 120)
    before = {pod_key(pod) for pod in user.pods()}
    user.labctl("snapshot", "save", "before")
    user.kubectl("delete", "deployment/web")
    user.labctl("snapshot", "restore", "before")
    assert {pod_key(pod) for pod in user.pods()} == before
    assert eventually(lambda: user.fetch("worker1"), "the NodePort")
    assert user.labctl("snapshot", "list").stdout.split() == ["before"]
    user.labctl("snapshot", "delete", "before")


def test_a_worker_loses_its_power_and_the_drill_passes(user: LabUser, tmp_path: Path) -> None:
    _passes(user, "worker-power-loss", tmp_path)


def test_the_power_cut_left_the_loaded_image_whole(user: LabUser) -> None:
    for node in ("worker1", "worker2"):
        snapshots = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
        found = user.labctl("ssh", node, "--", f"find {snapshots} -path '*/bin/serve' -printf '%s\\n'").stdout.split()
        assert found
        assert "0" not in found  # bytes: never written out, they are the first thing a power cut takes


@pytest.mark.parametrize("name", _DRILLS)
def test_the_drill_passes_on_machines(user: LabUser, name: str, tmp_path: Path) -> None:
    _passes(user, name, tmp_path)


def test_halt_and_up_bring_back_the_same_pods_at_the_same_addresses(user: LabUser) -> None:
    before = {pod_key(pod) for pod in user.pods()}
    user.labctl("halt")
    user.up()
    eventually(lambda: len([pod for pod in user.pods() if is_ready(pod)]) == 3, "three ready pods", 240)
    assert {pod_key(pod) for pod in user.pods()} == before
    assert eventually(lambda: user.fetch("worker2"), "the NodePort")


def test_destroy_leaves_nothing(user: LabUser) -> None:
    user.labctl("destroy")
    assert not (user.home / ".labctl").exists()
    virsh = ["virsh", "-q", "-c", "qemu:///system"]
    for listing in (["list", "--all", "--name"], ["net-list", "--all", "--name"], ["vol-list", "default"]):
        listed = subprocess.run([*virsh, *listing], capture_output=True, text=True, timeout=60, check=False).stdout
        assert "t-vm" not in listed
    assert "lab-t-vm" not in subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout


def _passes(user: LabUser, drill: str, folder: Path) -> None:
    done = user.labctl("drill", "run", drill, "--report-dir", str(folder), code=None)
    assert done.code == 0, done.stdout + done.stderr
    report = json.loads(next(folder.rglob("report.json")).read_text())
    assert (report["drill"], report["verdict"], report["provider"]) == (drill, "pass", "vagrant")

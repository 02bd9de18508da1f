"""What a node says of itself, when it says it again, and that its heartbeat goes on."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from agents.kubelet import node
from agents.kubelet.config import Config
from agents.kubelet.eviction import crossed
from agents.kubelet.fake import FakeRuntime
from agents.kubelet.lease import Heartbeat
from agents.kubelet.node import Health
from agents.kubelet.reporter import Reporter
from agents.kubelet.runtime import RuntimeFailure
from agents.kubelet.stats import Machine
from labctl.kube.component import load
from labctl.kube.errors import Document
from labctl.kube.resources import LEASES, NODES
from labctl.kube.timing import FAST, KUBERNETES
from labctl.runtime.clock import FakeClock
from labctl.runtime.errors import UsageError
from tests.unit.agents.kubelet.world import FakeApi

GIB = 2**30
MACHINE = Machine(
    cpus=4, memory_bytes=8 * GIB, memory_available_bytes=6 * GIB, disk_bytes=50 * GIB, disk_available_bytes=40 * GIB,
    inodes=1000, inodes_available=900, pids=100, pids_max=30_000, boot_id="boot", machine_id="machine",
    system_uuid="uuid", kernel_version="6.12", os_image="Debian GNU/Linux 13 (trixie)", architecture="amd64",
)  # fmt: skip
CONFIG = Config(kubeconfig="", node_name="worker1", node_ip="10.0.0.11", labels={"disk": "ssd"})
WELL = Health("containerd://1.7", "")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def condition(status: Document, kind: str) -> Document:
    return next((c for c in status["conditions"] if c["type"] == kind), {})


def test_a_healthy_node_is_ready_and_says_what_it_has() -> None:
    status = node.status(CONFIG, MACHINE, WELL, {}, NOON)
    assert condition(status, "Ready")["reason"] == "KubeletReady"
    assert status["capacity"] == {"cpu": "4", "memory": "8388608Ki", "ephemeral-storage": str(50 * GIB), "pods": "110"}
    assert status["allocatable"]["memory"] == f"{8388608 - 100 * 1024}Ki"
    assert {"type": "InternalIP", "address": "10.0.0.11"} in status["addresses"]


def test_the_labs_figures_come_before_the_measured_ones() -> None:
    small = msgspec.structs.replace(CONFIG, cpus=1, memory_bytes=GIB, disk_bytes=6 * GIB)
    capacity = node.status(small, MACHINE, WELL, {}, NOON)["capacity"]
    assert (capacity["cpu"], capacity["memory"], capacity["ephemeral-storage"]) == ("1", "1048576Ki", str(6 * GIB))


def test_the_same_status_in_other_words_is_no_change() -> None:
    status = node.status(CONFIG, MACHINE, WELL, {}, NOON)
    base = {**status, "capacity": {**status["capacity"], "memory": "8Gi"}}
    later = node.status(CONFIG, MACHINE, WELL, base, NOON.replace(hour=13))
    assert not node.changed(base, later)
    assert condition(later, "Ready")["lastTransitionTime"] == condition(status, "Ready")["lastTransitionTime"]
    assert condition(later, "Ready")["lastHeartbeatTime"] != condition(status, "Ready")["lastHeartbeatTime"]


def test_conditions_of_others_stay() -> None:
    base = {"conditions": [{"type": "NetworkUnavailable", "status": "False"}]}
    assert condition(node.status(CONFIG, MACHINE, WELL, base, NOON), "NetworkUnavailable")["status"] == "False"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"memory_available_bytes": 50 * 2**20}, "MemoryPressure"),
        ({"disk_available_bytes": GIB}, "DiskPressure"),
        ({"inodes_available": 10}, "DiskPressure"),
        ({"pids": 29_999}, "PIDPressure"),
    ],
)
def test_a_crossed_threshold_is_a_pressure(change: dict[str, Any], kind: str) -> None:
    changed = dataclasses.replace(MACHINE, **change)
    assert node.under_pressure(changed, crossed(changed)) == {kind}
    told = node.status(CONFIG, MACHINE, Health("v", "", frozenset({kind})), {}, NOON)
    assert condition(told, kind)["status"] == "True"


def test_a_pressure_holds_for_five_minutes() -> None:
    holds_s = KUBERNETES.pressure_holds_s
    seen = node.held(1_000.0, {"DiskPressure"}, {}, holds_s)
    assert node.held(1_299.0, set(), seen, holds_s) == seen
    assert node.held(1_300.0, set(), seen, holds_s) == {}


class World:
    """A reporter beside an API in memory."""

    def __init__(self) -> None:
        self.clock, self.api = FakeClock(), FakeApi()
        self.runtime = FakeRuntime(self.clock)
        self.api.put(NODES, {"metadata": {"name": "worker1", "uid": "n1"}, "spec": {"podCIDR": "10.244.1.0/24"}})
        self.reporter = Reporter(self.api, CONFIG, self.runtime, lambda: MACHINE, self.clock)
        self.reporter.nodes = self
        self.cidrs: list[str] = []
        self.reporter.on_pod_cidr = self.cidrs.append

    def get(self, key: str) -> msgspec.Raw | None:
        found = self.api.objects.get(("nodes", "", key))
        return None if found is None else msgspec.Raw(msgspec.json.encode(found))

    def status(self) -> Document:
        found: Document = self.api.objects["nodes", "", "worker1"]["status"]
        return found


def test_a_status_is_posted_on_change_and_else_seldom() -> None:
    world = World()
    for _ in range(20):
        world.clock.advance(world.reporter.step())
    posts = len(world.api.patches)
    assert posts == 1 + int(40 / FAST.node_status_report_s)
    assert world.cidrs[-1] == "10.244.1.0/24"


def test_what_the_node_controller_wrote_in_our_silence_is_put_right_at_once() -> None:
    world = World()
    world.reporter.step()
    condition(world.status(), "Ready")["status"] = "Unknown"
    world.api.put(NODES, world.api.objects["nodes", "", "worker1"])
    world.reporter.step()
    assert condition(world.status(), "Ready")["status"] == "True"


AWAY = RuntimeFailure("connection refused", reason="ContainerRuntimeNotReady")


def test_a_containerd_that_is_started_anew_is_no_reason_to_give_the_node_up() -> None:
    world = World()
    world.reporter.step()
    world.clock.advance(FAST.runtime_grace_s - 0.1)
    world.runtime.fail("version", AWAY)
    world.reporter.step()
    assert condition(world.status(), "Ready")["status"] == "True"
    assert world.status()["nodeInfo"]["containerRuntimeVersion"] == "fake://1"


def test_a_node_whose_containerd_was_never_seen_is_not_ready() -> None:
    world = World()
    world.runtime.fail("version", AWAY)
    world.reporter.step()
    assert condition(world.status(), "Ready")["status"] == "False"


def test_a_node_is_not_ready_once_containerd_has_not_answered_for_its_grace() -> None:
    world = World()
    world.reporter.step()
    world.clock.advance(FAST.runtime_grace_s)
    world.runtime.fail("version", AWAY)
    world.reporter.step()
    ready = condition(world.status(), "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "KubeletNotReady")
    assert "connection refused" in ready["message"]
    assert world.status()["nodeInfo"]["containerRuntimeVersion"] == "fake://1"
    world.reporter.step()
    assert condition(world.status(), "Ready")["status"] == "True"


def test_a_node_that_shuts_down_says_so_without_asking_its_runtime() -> None:
    world = World()
    world.reporter.step()
    assert not world.reporter.close(0)
    world.runtime.fail("version", RuntimeFailure("containerd is slow", reason="RuntimeDown"))
    world.reporter.step()
    ready = condition(world.status(), "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "KubeletNotReady", "node is shutting down")
    assert world.reporter.facts().shutting_down
    assert world.reporter.close(0)


def test_a_node_that_is_short_says_so_and_lets_the_pod_loop_know() -> None:
    world = World()
    rung: list[int] = []
    short = dataclasses.replace(MACHINE, memory_available_bytes=50 * 2**20)
    world.reporter = Reporter(world.api, CONFIG, world.runtime, lambda: short, world.clock)
    world.reporter.nodes, world.reporter.on_change = world, lambda: rung.append(1)
    world.reporter.step()
    facts = world.reporter.facts()
    assert facts.pressures == {"MemoryPressure"}
    assert ([one.resource for one in facts.short], facts.looks) == (["memory"], 1)
    assert rung


def test_a_node_without_a_pod_network_is_not_ready() -> None:
    world = World()
    world.api.put(NODES, {"metadata": {"name": "worker1", "uid": "n1"}})
    world.reporter.step()
    assert "network not ready" in condition(world.status(), "Ready")["message"]
    assert not world.reporter.facts().network_ready


def test_the_lease_is_renewed_with_little_jitter_and_sooner_after_a_failure() -> None:
    clock, api = FakeClock(), FakeApi()
    api.put(LEASES, {"metadata": {"name": "worker1", "namespace": "kube-node-lease"}, "spec": {}})
    heartbeat = Heartbeat(api, "worker1", FAST, clock)
    assert FAST.lease_renew_s <= heartbeat.beat() <= FAST.lease_renew_s * 1.04
    first = api.patches[-1]["spec"]["renewTime"]
    clock.advance(1)
    heartbeat.beat()
    assert api.patches[-1]["spec"]["renewTime"] > first
    api.down = True
    assert heartbeat.beat() <= FAST.lease_renew_s / 2


def test_a_renewal_that_a_slow_server_did_not_answer_is_given_longer_the_next_time() -> None:
    api = FakeApi()
    api.put(LEASES, {"metadata": {"name": "worker1", "namespace": "kube-node-lease"}, "spec": {}})
    heartbeat = Heartbeat(api, "worker1", FAST, FakeClock())
    api.down, waited = True, []
    for _ in range(4):
        heartbeat.beat()
        waited.append(api.patience_s)
    assert waited == [1.0, 2.0, 4.0, 4.0]
    api.down = False
    heartbeat.beat()
    heartbeat.beat()
    assert api.patience_s == 1.0


def test_a_bad_configuration_names_file_and_field(tmp_path: Any) -> None:
    path = tmp_path / "kubelet.json"
    path.write_text('{"kubeconfig": "k", "node_name": "n", "node_ip": "i", "profile": "slow"}')
    with pytest.raises(UsageError, match=r"kubelet\.json.*profile"):
        load(str(path), Config)
    path.write_text('{"kubeconfig": "k", "node_name": "n", "node_ip": "i", "colour": 1}')
    with pytest.raises(UsageError, match="colour"):
        load(str(path), Config)

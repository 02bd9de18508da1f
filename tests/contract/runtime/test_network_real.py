"""The pod network with Debian's real CNI plugins, on a node that is a network namespace."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.kubelet.network import NetworkSettings, PodNetwork
from agents.kubelet.runtime import PodRef, Sandbox
from labctl.runtime.clock import SystemClock
from labctl.runtime.shell import LocalShell
from tests.contract.runtime.netlab import Place, serve

NODE_IP = "10.219.9.9"


class CniNode(Place):
    """A node in a namespace; `network` works inside it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"ln{uuid.uuid4().hex[:6]}")
        self.ip("address", "add", f"{NODE_IP}/32", "dev", "lo")
        self.folder, self.servers = folder, list[subprocess.Popen[str]]()
        self.network = PodNetwork(LocalShell(), SystemClock(), NetworkSettings(state_dir=str(folder / "pods")))
        self.network.use("10.219.1.0/24")

    def make(self, *ports: tuple[int, int, str]) -> Sandbox:
        """A pod of its own."""
        pod = PodRef(str(uuid.uuid4()), "default", "web")
        return self.call(lambda: self.network.make(pod, host_network=False, host_ports=ports))

    def remove(self, sandbox: Sandbox) -> None:
        self.call(lambda: self.network.remove(sandbox.pod))

    def serve(self, sandbox: Sandbox, name: str) -> None:
        self.servers.append(serve(Path(sandbox.netns_path).name, name, 8080))

    def close(self) -> None:
        for server in self.servers:
            server.kill()
            server.wait(10)
            if server.stdout:
                server.stdout.close()
        for sandbox in self.network.sandboxes():
            self.remove(sandbox)
        self.shell.run(["ip", "netns", "delete", self.name])


class Inside(Place):
    """An existing namespace, to ask from."""

    def __init__(self, name: str) -> None:
        self.name, self.shell = name, LocalShell()


@pytest.fixture
def cni(tmp_path: Path) -> Iterator[CniNode]:
    found = CniNode(tmp_path)
    yield found
    found.close()


def test_pods_of_a_node_reach_each_other_and_are_reached_by_their_node(cni: CniNode) -> None:
    one, two = cni.make(), cni.make()
    cni.serve(one, "one")
    assert one.address != two.address
    assert Inside(Path(two.netns_path).name).ask(one.address, 8080) == ("one", two.address)
    assert cni.ask(one.address, 8080)[0] == "one"


def test_a_host_port_leads_to_its_pod_until_the_pod_is_gone(cni: CniNode) -> None:
    one, two = cni.make((18080, 8080, "TCP")), cni.make()
    cni.serve(one, "one")
    asker = Inside(Path(two.netns_path).name)
    assert asker.ask(NODE_IP, 18080)[0] == "one"
    assert cni.ask(NODE_IP, 18080)[0] == "one"
    cni.remove(one)
    with pytest.raises(ConnectionRefusedError):
        asker.ask(NODE_IP, 18080)


def test_bridged_answers_pass_the_rules_and_a_pod_may_answer_itself(cni: CniNode) -> None:
    cni.make()
    knob = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    assert cni.call(lambda: knob.read_text().strip()) == "1"
    assert "hairpin on" in cni.ip("-d", "link", "show", "type", "veth")


def test_addresses_come_back(cni: CniNode) -> None:
    made = [cni.make() for _ in range(3)]
    assert len({sandbox.address for sandbox in made}) == 3
    for sandbox in made:
        cni.remove(sandbox)
    assert not list((cni.folder / "pods").glob("*.json"))
    assert not list((cni.folder / "pods/addresses").glob("*/10.*"))
    assert not [sandbox for sandbox in made if Path(sandbox.netns_path).exists()]


def test_a_node_that_got_another_range_still_serves_its_old_pods_and_makes_new_ones(cni: CniNode) -> None:
    old = cni.make()
    cni.network.use("10.219.2.0/24")
    new = cni.make()
    assert (old.address.split(".")[2], new.address.split(".")[2]) == ("1", "2")
    cni.remove(old)
    cni.remove(new)
    assert not list((cni.folder / "pods/addresses").glob("*/10.*"))

"""The pod network over a shell that plays the plugins: nothing is made twice, nothing leaks, whatever fails when."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.kubelet.network import NetworkSettings, PodNetwork
from agents.kubelet.runtime import PodRef, RuntimeFailure
from labctl.runtime.clock import FakeClock
from labctl.runtime.shell import CommandError, Output

POD = PodRef("u1", "default", "web")


class Died(BaseException):
    """Our own process was killed at this point."""


class Kernel:
    """`ip` and the CNI plugins: namespaces are files, addresses a set. Dies or fails before a chosen call."""

    def __init__(self, netns_dir: Path) -> None:
        self.netns_dir = netns_dir
        self.attached: dict[str, str] = {}  # container id -> address
        self.ports: dict[str, list[int]] = {}
        self.calls: list[str] = []
        self.configs: list[dict[str, Any]] = []
        self.die_at = self.fail_at = -1

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        check: bool = True,
        stdin: str | bytes = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Output:
        if len(self.calls) == self.die_at:
            raise Died
        failing = len(self.calls) == self.fail_at
        environment = env or {}
        self.calls.append(
            " ".join([*(word.rpartition("/")[2] for word in argv), environment.get("CNI_COMMAND", "")]).strip()
        )
        if failing:
            if check:
                raise CommandError("it failed", code=1)
            return Output(1, '{"code": 7, "msg": "it failed", "details": "so there"}', "")
        if argv[0] == "ip":
            return self._ip(argv)
        return self._plugin(argv[0].rpartition("/")[2], environment, json.loads(stdin))

    def _ip(self, argv: Sequence[str]) -> Output:
        if argv[1:3] == ["netns", "add"]:
            assert not (self.netns_dir / argv[3]).exists()
            (self.netns_dir / argv[3]).touch()
        elif argv[1:3] == ["netns", "delete"]:
            (self.netns_dir / argv[3]).unlink()
        return Output(0, "", "")

    def _plugin(self, name: str, env: Mapping[str, str], config: dict[str, Any]) -> Output:
        self.configs.append(config)
        identity = env["CNI_CONTAINERID"]
        if name == "portmap":
            wanted = [entry["hostPort"] for entry in config["runtimeConfig"]["portMappings"]]
            if env["CNI_COMMAND"] == "ADD":
                self.ports[identity] = wanted
            else:
                self.ports.pop(identity, None)
            return Output(0, "{}", "")
        if env["CNI_COMMAND"] == "DEL":
            self.attached.pop(identity, None)
            return Output(0, "", "")
        assert identity not in self.attached, "an address leaked"
        assert Path(env["CNI_NETNS"]).exists()
        self.attached[identity] = "10.1.0.2"
        return Output(0, json.dumps({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}), "")


@pytest.fixture(autouse=True)
def _mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands for a namespace's mount."""
    monkeypatch.setattr("agents.kubelet.network.os.path.ismount", lambda path: Path(path).exists())


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    (tmp_path / "netns").mkdir()
    for knob in ("bridge/bridge-nf-call-iptables", "ipv4/ip_forward"):
        path = tmp_path / "sys/net" / knob
        path.parent.mkdir(parents=True)
        path.write_text("0\n")
    return Kernel(tmp_path / "netns")


def network(kernel: Kernel, cidr: str = "10.1.0.0/24") -> PodNetwork:
    """A kubelet's view of the node, as after a start of it."""
    folder = kernel.netns_dir.parent
    places = {"state_dir": "state", "netns_dir": "netns", "sysctl_dir": "sys"}
    settings = NetworkSettings(**{name: str(folder / place) for name, place in places.items()})
    found = PodNetwork(kernel, FakeClock(), settings)
    if cidr:
        found.use(cidr)
    return found


def make(found: PodNetwork, *, ports: Sequence[tuple[int, int, str]] = ()) -> str:
    return found.make(POD, host_network=False, host_ports=ports).address


def nothing_left(kernel: Kernel) -> bool:
    records = list((kernel.netns_dir.parent / "state").glob("*"))
    return not (kernel.attached or kernel.ports or list(kernel.netns_dir.iterdir()) or records)


def test_a_pod_gets_namespace_loopback_and_address(kernel: Kernel) -> None:
    found = network(kernel)
    assert make(found) == "10.1.0.2"
    assert kernel.calls == ["ip netns add pod-u1", "ip -n pod-u1 link set lo up", "bridge ADD"]
    bridge = kernel.configs[0]
    assert (bridge["hairpinMode"], bridge["isGateway"], bridge["ipMasq"]) == (True, True, False)
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.1.0.0/24"}]]


def test_a_sandbox_is_made_once_also_across_restarts(kernel: Kernel) -> None:
    made = network(kernel).make(POD, host_network=False, host_ports=())
    calls = len(kernel.calls)
    fresh = network(kernel, cidr="")
    assert list(fresh.sandboxes()) == [made]
    assert fresh.make(POD, host_network=False, host_ports=()) == made
    assert len(kernel.calls) == calls


def test_everything_is_given_back(kernel: Kernel) -> None:
    found = network(kernel)
    make(found, ports=[(8080, 80, "TCP")])
    assert kernel.ports == {"u1": [8080]}
    network(kernel, cidr="").remove(POD)
    assert nothing_left(kernel)
    found = network(kernel)
    found.remove(POD)


def test_host_ports_are_mapped_from_the_bridges_result(kernel: Kernel) -> None:
    make(network(kernel), ports=[(53, 5353, "UDP")])
    portmap = kernel.configs[-1]
    assert portmap["runtimeConfig"]["portMappings"] == [{"hostPort": 53, "containerPort": 5353, "protocol": "udp"}]
    assert portmap["prevResult"]["ips"] == [{"address": "10.1.0.2/24"}]


@pytest.mark.parametrize("at", range(5))
def test_a_kubelet_killed_at_any_point_leaves_nothing_that_the_next_does_not_mend(kernel: Kernel, at: int) -> None:
    kernel.die_at = at
    with contextlib.suppress(Died):
        make(network(kernel), ports=[(8080, 80, "TCP")])
    kernel.die_at = -1
    again = network(kernel)
    assert make(again, ports=[(8080, 80, "TCP")]) == "10.1.0.2"
    again.remove(POD)
    assert nothing_left(kernel)


@pytest.mark.parametrize("at", range(5))
def test_a_pod_that_is_gone_after_a_kill_at_any_point_leaves_nothing(kernel: Kernel, at: int) -> None:
    kernel.die_at = at
    with contextlib.suppress(Died):
        make(network(kernel), ports=[(8080, 80, "TCP")])
    kernel.die_at = -1
    again = network(kernel)
    for sandbox in again.sandboxes():
        again.remove(sandbox.pod)
    assert nothing_left(kernel)


@pytest.mark.parametrize("at", range(4))
def test_a_call_that_fails_is_told_and_cleaned_up_after(kernel: Kernel, at: int) -> None:
    kernel.fail_at = at
    found = network(kernel)
    with pytest.raises(RuntimeFailure, match="it failed") as failure:
        make(found, ports=[(8080, 80, "TCP")])
    assert failure.value.reason == "FailedCreatePodSandBox"
    assert found.sandboxes() == []
    assert nothing_left(kernel)
    assert make(found, ports=[(8080, 80, "TCP")]) == "10.1.0.2"


def test_the_kernel_is_told_to_forward_and_to_show_bridged_packets(kernel: Kernel) -> None:
    make(network(kernel))
    knobs = kernel.netns_dir.parent / "sys/net"
    assert (knobs / "ipv4/ip_forward").read_text() == "1"
    assert (knobs / "bridge/bridge-nf-call-iptables").read_text() == "1"


def test_a_removal_that_fails_is_told_and_tried_again(kernel: Kernel) -> None:
    found = network(kernel)
    make(found)
    kernel.fail_at = len(kernel.calls)
    with pytest.raises(RuntimeFailure, match="bridge DEL: it failed: so there"):
        found.remove(POD)
    found.remove(POD)
    assert nothing_left(kernel)


def test_a_namespace_that_somebody_deleted_is_made_anew(kernel: Kernel) -> None:
    make(network(kernel))
    (kernel.netns_dir / "pod-u1").unlink()
    found = network(kernel)
    assert found.sandboxes() == []
    assert make(found) == "10.1.0.2"


def test_without_a_range_pods_wait_unless_they_need_none(kernel: Kernel) -> None:
    found = network(kernel, cidr="")
    with pytest.raises(RuntimeFailure, match="no podCIDR") as failure:
        make(found)
    assert failure.value.reason == "NetworkNotReady"
    on_host = found.make(PodRef("u2", "default", "agent"), host_network=True, host_ports=[(1, 1, "TCP")])
    assert (on_host.address, on_host.netns_path) == ("", "")
    found.remove(on_host.pod)
    assert nothing_left(kernel)


def test_a_record_cut_short_by_a_crash_is_put_aside(kernel: Kernel) -> None:
    state = kernel.netns_dir.parent / "state"
    state.mkdir()
    (state / "u9.json").write_text('{"uid": "u9", "na')
    assert network(kernel).sandboxes() == []
    assert nothing_left(kernel)

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from labctl.runtime.clock import FakeClock
from labctl.runtime.errors import LabError, UsageError
from labctl.runtime.shell import Output
from labctl.vm.lxc import disks
from labctl.vm.lxc.cgroups import ControlGroups
from labctl.vm.lxc.config import Node, lab_control_group, render
from labctl.vm.lxc.network import Bridge
from labctl.vm.lxc.snapshots import Snapshots
from labctl.vm.topology import Machine, Topology, bridge_of, mac_of

WORKER = Machine(
    name="worker1", role="worker", address="10.9.0.20", mac=mac_of("10.9.0.20"), cpus=1, memory_mib=1024, disk_gib=4
)
TOPOLOGY = Topology(
    lab="demo",
    provider="lxc",
    profile="fast",
    box="",
    network_cidr="10.9.0.0/24",
    host_address="10.9.0.1",
    bridge=bridge_of("demo"),
    cluster_cidr="10.244.0.0/16",
    service_cidr="10.96.0.0/16",
    machines=(WORKER,),
)


def node(home: Path = Path("/labs/demo/lxc")) -> Node:
    return Node(TOPOLOGY, WORKER, home)


def rootfs(path: Path) -> Path:
    for folder in ("sbin", "etc", "root", "var/lib/etcd"):
        (path / folder).mkdir(parents=True)
    (path / "root").chmod(0o700)
    (path / "var/lib/etcd").chmod(0o750)
    (path / "sbin/init").touch()
    return path


class ScriptedShell:
    """Answers `ip -json link show` with `links` and `ip -json addr` with `addresses`; keeps everything it was asked."""

    def __init__(self, links: object = (), addresses: object = ()) -> None:
        self.links, self.addresses = links, addresses
        self.asked: list[str] = []

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
        self.asked.append(" ".join(argv))
        if "-json" in argv:
            return Output(0, json.dumps(self.links if "link" in argv else self.addresses), "")
        return Output(0, "", "")


def settings(*, unified: bool) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in render(node(), Path("/tree"), unified=unified).splitlines():
        key, _, value = line.partition(" = ")
        found.setdefault(key, []).append(value)
    return found


def test_a_node_is_an_overlay_with_its_address_its_memory_and_its_own_control_group() -> None:
    has = settings(unified=True)
    assert has["lxc.rootfs.path"] == ["overlay:/tree:/labs/demo/lxc/demo-worker1/disk/upper"]
    assert has["lxc.net.0.ipv4.address"] == ["10.9.0.20/24"]
    assert has["lxc.net.0.hwaddr"] == [WORKER.mac]
    assert has["lxc.cgroup2.memory.max"] == [str(2**30)]
    assert has["lxc.cgroup.dir.container"][0].startswith("labctl-demo-")
    assert "lxc.init.cmd" not in has


def test_on_a_cgroup_v1_host_systemd_is_told_to_accept_it() -> None:
    has = settings(unified=False)
    assert "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1" in has["lxc.init.cmd"][0]
    assert has["lxc.cgroup.memory.limit_in_bytes"] == [str(2**30)]
    assert not any(key.startswith("lxc.cgroup2") for key in has)


def test_the_clock_and_the_kernels_modules_stay_the_hosts() -> None:
    dropped = settings(unified=True)["lxc.cap.drop"][0].split()
    assert {"sys_time", "sys_module", "sys_rawio"} <= set(dropped)
    assert settings(unified=True)["lxc.mount.auto"] == ["proc:mixed sys:mixed cgroup:rw:force"]


def test_labs_of_one_name_in_two_folders_share_nothing_on_the_host() -> None:
    here, there = node(Path("/a/lxc")), node(Path("/b/lxc"))
    assert here.veth != there.veth
    assert len(here.veth) <= 15
    assert lab_control_group("demo", here.home) != lab_control_group("demo", there.home)


def test_a_prepared_node_has_its_name_key_and_real_directories(tmp_path: Path) -> None:
    one = node(tmp_path / "lxc")
    disks.prepare(one, rootfs(tmp_path / "tree"), "ssh-ed25519 AAAA me", unified=True)
    assert disks.exists(one)
    assert (one.upper / "etc/hostname").read_text() == "worker1\n"
    assert (one.upper / "root/.ssh/authorized_keys").read_text() == "ssh-ed25519 AAAA me\n"
    assert (one.upper / "root").stat().st_mode & 0o777 == 0o700
    assert (one.folder / "disk/var/lib/etcd").stat().st_mode & 0o777 == 0o750
    address, kind, _ = disks.host_key_line(one).split()
    assert (address, kind) == ("10.9.0.20", "ssh-ed25519")


def test_preparing_again_keeps_the_host_key_and_the_tree_the_node_was_made_over(tmp_path: Path) -> None:
    one, first = node(tmp_path / "lxc"), rootfs(tmp_path / "first")
    disks.prepare(one, first, "key", unified=True)
    before = disks.host_key_line(one)
    disks.prepare(one, rootfs(tmp_path / "newer"), "key", unified=True)
    assert disks.host_key_line(one) == before
    assert f"overlay:{first}:" in (one.folder / "config").read_text()


def test_a_node_whose_tree_is_gone_is_refused(tmp_path: Path) -> None:
    one = node(tmp_path / "lxc")
    disks.prepare(one, rootfs(tmp_path / "tree"), "key", unified=True)
    (tmp_path / "tree/sbin/init").unlink()
    with pytest.raises(LabError, match="is gone"):
        disks.prepare(one, tmp_path / "tree", "key", unified=True)


def test_snapshots_are_listed_by_age_and_half_written_ones_are_not_listed(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    for name, moment in (("zebra", "2026-01-01T00:00:00"), ("ape", "2026-01-02T00:00:00")):
        snapshots.begin(name)
        snapshots.finish(name, moment)
    snapshots.begin("torn")
    assert snapshots.names() == ["zebra", "ape"]
    with pytest.raises(UsageError, match="exists"):
        snapshots.begin("ape")
    snapshots.delete("ape")
    assert snapshots.names() == ["zebra"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 64])
def test_a_snapshots_name_cannot_lead_out_of_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        Snapshots(tmp_path).path(name)


def test_a_bridge_is_made_with_the_hosts_address_and_marked_as_ours() -> None:
    shell = ScriptedShell()
    Bridge(TOPOLOGY, "/labs/demo", shell).make()
    assert "ip link add lab-demo type bridge stp_state 0 forward_delay 0" in shell.asked
    assert "ip link set lab-demo alias labctl /labs/demo" in shell.asked
    assert "ip addr replace 10.9.0.1/24 dev lab-demo" in shell.asked


def test_a_bridge_of_somebody_else_is_neither_used_nor_removed() -> None:
    shell = ScriptedShell(links=[{"ifname": "lab-demo", "ifalias": "labctl /labs/other"}])
    bridge = Bridge(TOPOLOGY, "/labs/demo", shell)
    with pytest.raises(LabError, match="belongs to labctl /labs/other"):
        bridge.make()
    bridge.remove()
    assert not any("link del" in command for command in shell.asked)


def test_a_network_in_use_is_refused_before_anything_is_made() -> None:
    taken = [{"ifname": "eth0", "addr_info": [{"local": "10.9.0.7", "prefixlen": 16}]}]
    shell = ScriptedShell(addresses=taken)
    with pytest.raises(LabError, match=r"10\.9\.0\.0/24 overlaps 10\.9\.0\.7/16 on eth0"):
        Bridge(TOPOLOGY, "/labs/demo", shell).make()
    assert not any("link add" in command for command in shell.asked)


@pytest.mark.parametrize(
    ("mounts", "unified"),
    [
        ("cgroup2 {0} cgroup2 rw 0 0\n", True),
        ("cgroup {0} cgroup rw,pids 0 0\ncgroup2 {0}/unified cgroup2 rw 0 0\n", False),
    ],
)
def test_the_hosts_kind_of_control_groups_is_read_from_its_mounts(tmp_path: Path, mounts: str, unified: bool) -> None:
    (tmp_path / "mounts").write_text("proc /proc proc rw 0 0\n" + mounts.format(tmp_path))
    groups = ControlGroups(FakeClock(), tmp_path / "mounts")
    assert groups.unified() is unified
    assert groups.hierarchies()[0] == tmp_path


def test_removing_a_control_group_removes_those_below_it(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(f"cgroup2 {tmp_path} cgroup2 rw 0 0\n")
    (tmp_path / "labctl-demo/worker1/init.scope").mkdir(parents=True)
    groups = ControlGroups(FakeClock(), tmp_path / "mounts")
    assert groups.exist("labctl-demo")
    groups.remove("labctl-demo", deadline_s=1.0)
    assert not groups.exist("labctl-demo")

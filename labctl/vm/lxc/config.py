"""The LXC configuration of one node. Pure: the same node gives the same text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from labctl.vm.topology import Machine, Topology

# On a host with cgroup v1 controllers (also beside v2, "hybrid"), systemd must be told to accept them.
_LEGACY_INIT = "/sbin/init systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"

# Directories that must lie on a real file system: containerd stacks overlays of its own, etcd syncs for its life.
REAL_DIRECTORIES = ("var/lib/containerd", "var/lib/etcd", "var/lib/labctl")


@dataclass(frozen=True, slots=True)
class Node:
    """One system container: which machine it is and where its parts lie on this host."""

    topology: Topology
    machine: Machine
    home: Path  # <state_dir>/lxc

    @property
    def container(self) -> str:
        """LXC's name for it."""
        return f"{self.topology.lab}-{self.machine.name}"

    @property
    def folder(self) -> Path:
        """Everything the node has on this host."""
        return self.home / self.container

    @property
    def upper(self) -> Path:
        """What the node wrote over the shared root file system."""
        return self.folder / "disk" / "upper"

    @property
    def veth(self) -> str:
        """This host's end of the node's cable; unique on the host, 12 characters."""
        return "lx" + hashlib.sha256(str(self.folder).encode()).hexdigest()[:10]

    @property
    def control_group(self) -> str:
        """The node's control group, below that of its lab, in every hierarchy."""
        return f"{lab_control_group(self.topology.lab, self.home)}/{self.machine.name}"

    @property
    def monitor_control_group(self) -> str:
        """That of LXC's own process, which watches over the node."""
        return f"{self.control_group}.monitor"


def lab_control_group(lab: str, home: Path) -> str:
    """One control group for all of a lab; labs of one name in two folders stay apart."""
    return f"labctl-{lab}-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"


def render(node: Node, lower: Path, *, unified: bool) -> str:
    """The configuration of `node` over the root file system `lower`; `unified` where the host has cgroup v2 alone."""
    topology, machine = node.topology, node.machine
    prefix_length = topology.network_cidr.rpartition("/")[2]
    memory_bytes = machine.memory_mib * 2**20
    settings: list[tuple[str, str]] = [
        ("uts.name", machine.name),
        ("rootfs.path", f"overlay:{lower}:{node.upper}"),  # mounted by LXC in the container's namespace alone
        *(("mount.entry", f"{node.folder}/disk/{path} {path} none bind,create=dir 0 0") for path in REAL_DIRECTORIES),
        ("mount.auto", "proc:mixed sys:mixed cgroup:rw:force"),  # mixed: /proc/sys (net aside) and sysrq are the host's
        ("autodev", "1"),
        ("tty.max", "0"),
        ("pty.max", "1024"),
        ("signal.halt", "SIGRTMIN+4"),  # systemd: power off
        ("apparmor.profile", "unconfined"),  # runc must mount inside
        # Whoever keeps sys_time sets the clock of the whole host, all labs included.
        ("cap.drop", "sys_time sys_module sys_rawio mac_admin mac_override"),
        ("cgroup.dir.container", node.control_group),
        ("cgroup.dir.monitor", node.monitor_control_group),
        ("net.0.type", "veth"),
        ("net.0.link", topology.bridge),
        ("net.0.flags", "up"),
        ("net.0.name", "eth0"),
        ("net.0.veth.pair", node.veth),
        ("net.0.hwaddr", machine.mac),
        ("net.0.ipv4.address", f"{machine.address}/{prefix_length}"),
        ("net.0.ipv4.gateway", topology.host_address),
        ("cgroup2.memory.max" if unified else "cgroup.memory.limit_in_bytes", str(memory_bytes)),
        ("cgroup2.devices.allow" if unified else "cgroup.devices.allow", "a"),
    ]
    if not unified:
        settings.append(("init.cmd", _LEGACY_INIT))
    return "".join(f"lxc.{key} = {value}\n" for key, value in settings)

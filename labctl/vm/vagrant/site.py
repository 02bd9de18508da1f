"""Names that belong to one lab under libvirt, and the facts that the Vagrantfile reads. Pure.

A lab's name and a machine's hold no dot, so `labctl.LAB.` is the prefix of this lab's domains and of no other's.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from labctl.vm.box.disk import DISK_GIB, KERNEL_ARGUMENTS
from labctl.vm.provider import Site
from labctl.vm.sshkey import ssh_key
from labctl.vm.topology import Machine

BOOT_S = 300  # until sshd answers; 9 to 25 s under emulation, much more on a host that is busy otherwise


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """How machines run on this host."""

    kvm: bool
    why: str  # one line for people

    @property
    def driver(self) -> str:
        """libvirt's domain type."""
        return "kvm" if self.kvm else "qemu"


@dataclass(frozen=True, slots=True)
class Image:
    """A box in the storage pool: its base volume, and the kernel and initial RAM disk beside it."""

    pool: str
    key: str
    folder: Path  # of the pool

    @property
    def box(self) -> str:
        """The box's name for Vagrant."""
        return f"labctl/{self.key}"

    @property
    def volume(self) -> str:
        """The base volume's name, as vagrant-libvirt derives it from box name and version."""
        return f"labctl-VAGRANTSLASH-{self.key}_vagrant_box_image_{self.version}_box.img"

    @property
    def version(self) -> str:
        """The box's version; the key in its name says which one it is."""
        return "1.0.0"

    def file(self, suffix: str) -> Path:
        """A file that goes with the volume: `vmlinuz`, `initrd`, `json`."""
        return self.folder / f"{self.key}.{suffix}"


def prefix(lab: str) -> str:
    """What the names of this lab's domains, and their volumes, start with."""
    return f"labctl.{lab}."


def domain(lab: str, machine: str) -> str:
    """The name of a machine's domain."""
    return f"{prefix(lab)}{machine}"


def network(lab: str) -> str:
    """The name of the lab's network."""
    return f"labctl.{lab}"


def owner(site: Site) -> str:
    """What marks libvirt's objects as this very lab's: two labs of one name may lie in two folders."""
    return f"labctl lab {site.topology.lab} in {site.state_dir.resolve()}"


def dotfile(site: Site) -> Path:
    """Where Vagrant keeps what it knows of the lab's machines."""
    return site.state_dir.resolve() / "vagrant"


def console(site: Site, machine: str) -> Path:
    """What a machine's serial console printed."""
    return site.state_dir.resolve() / "logs" / f"{machine}.console"


def device(machine: Machine) -> str:
    """The host's end of a machine's cable: unique by address, so that a person can tell which is whose."""
    return "lab" + "".join(f"{int(part):02x}" for part in machine.address.split("."))


def facts(site: Site, image: Image, hypervisor: Hypervisor) -> dict[str, Any]:
    """The content of vagrant.json, beside topology.json."""
    topology = site.topology
    net = IPv4Network(topology.network_cidr)
    return {
        "box": image.box,
        "box_url": image.file("json").as_uri(),
        "boot_timeout_s": BOOT_S,
        "pool": image.pool,
        "kernel": str(image.file("vmlinuz")),
        "initrd": str(image.file("initrd")),
        "driver": hypervisor.driver,
        "cpu_mode": "host-passthrough" if hypervisor.kvm else "custom",
        # `max` costs a quarter more CPU under emulation for the same boot; Nehalem has all that Debian 13 asks for.
        "cpu_model": None if hypervisor.kvm else "Nehalem",
        "prefix": prefix(topology.lab),
        "description": owner(site),
        "network": network(topology.lab),
        "netmask": str(net.netmask),
        "private_key": str(ssh_key(site.state_dir.resolve())),
        "command_lines": {machine.name: command_line(site, machine) for machine in topology.machines},
        # Null where the box's own size will do; a disk is never smaller than that.
        "disks_gib": {m.name: m.disk_gib if m.disk_gib > DISK_GIB else None for m in topology.machines},
        "consoles": {machine.name: str(console(site, machine.name)) for machine in topology.machines},
        "devices": {machine.name: device(machine) for machine in topology.machines},
    }


def command_line(site: Site, machine: Machine) -> str:
    """The kernel's command line: what makes a machine of the common box this very one.

    `systemd.set_credential_binary` is systemd's own way in for the key (systemd.system-credentials(7)).
    """
    length = IPv4Network(site.topology.network_cidr).prefixlen
    key = base64.b64encode(f"{site.ssh_public_key.strip()}\n".encode()).decode()
    words = [
        KERNEL_ARGUMENTS,
        f"labctl.ip={machine.address}/{length}",
        f"labctl.gateway={site.topology.host_address}",
        f"systemd.hostname={machine.name}",
        f"systemd.set_credential_binary=ssh.authorized_keys.root:{key}",
    ]
    return " ".join([*words, "labctl.grow"] if machine.disk_gib > DISK_GIB else words)


def network_xml(site: Site) -> str:
    """The lab's network for libvirt: a bridge with this host on it, closed to the outside.

    Only the lab's own machines are given leases, each always its own address; Vagrant learns it from there.
    STP is off: a cable that is plugged in again works at once.
    """
    topology = site.topology
    net = IPv4Network(topology.network_cidr)
    hosts = "".join(
        f'<host mac="{machine.mac}" name="{machine.name}" ip="{machine.address}"/>' for machine in topology.machines
    )
    return (
        f"<network><name>{network(topology.lab)}</name><uuid>{_uuid(owner(site))}</uuid>"
        f'<metadata><lab xmlns="https://labctl.dev/lab" owner="{owner(site)}"/></metadata>'
        f'<bridge name="{topology.bridge}" stp="off" delay="0"/><dns enable="no"/>'
        f'<ip address="{topology.host_address}" netmask="{net.netmask}"><dhcp>{hosts}</dhcp></ip></network>'
    )


def _uuid(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))

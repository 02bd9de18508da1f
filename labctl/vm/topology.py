"""The lab's machines and addresses, laid out from its configuration. Pure: same input, same addresses, always."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Literal

import msgspec

from labctl.kube.fencing import DEFAULT as DEFAULT_FENCING
from labctl.kube.fencing import Mode

Role = Literal["master", "worker"]

_FIRST_MASTER = 10  # .10 to .19: masters; .1 is this host, .2 to .9 are kept for virtual addresses
_FIRST_WORKER = 20
_VIRTUAL = 2  # the address that moves between the masters, where there are several


class Taint(msgspec.Struct, frozen=True, omit_defaults=True):
    """As in a Node's `spec.taints`."""

    key: str
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    value: str = ""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One node: what it is called, where it is reached, how big it is."""

    name: str
    role: Role
    address: str  # on the lab network; the node's only address
    mac: str
    cpus: int
    memory_mib: int
    disk_gib: int
    labels: Mapping[str, str] = {}
    taints: tuple[Taint, ...] = ()


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """What `.labctl/<lab>/topology.json` holds; the Vagrantfile and the playbooks read it."""

    lab: str
    provider: str
    profile: str
    box: str  # path of a box, or "" for the one `labctl box build` makes
    network_cidr: str
    host_address: str  # this host, on the lab network
    bridge: str  # network device of this host that carries the lab network, at most 15 characters
    cluster_cidr: str  # pods
    service_cidr: str  # ClusterIPs
    machines: tuple[Machine, ...]
    fencing: Mode = DEFAULT_FENCING  # of StatefulSets' pods on a silent node
    fencing_command: str = ""  # run on this host instead of the provider's power-off

    def machine(self, name: str) -> Machine | None:
        """The machine called `name`."""
        return next((machine for machine in self.machines if machine.name == name), None)

    @property
    def masters(self) -> tuple[Machine, ...]:
        """The machines that run the control plane."""
        return tuple(machine for machine in self.machines if machine.role == "master")

    @property
    def virtual_address(self) -> str:
        """The address that one of several masters holds at a time; "" in a lab with one master, which needs none."""
        return str(IPv4Network(self.network_cidr)[_VIRTUAL]) if len(self.masters) > 1 else ""

    @property
    def api_servers(self) -> tuple[str, ...]:
        """Where the API is, as URLs: what works whichever master lives comes first, then each master by itself."""
        addresses = (self.virtual_address, *(master.address for master in self.masters))
        return tuple(f"https://{address}:6443" for address in addresses if address)

    @property
    def workers(self) -> tuple[Machine, ...]:
        """The machines that run pods."""
        return tuple(machine for machine in self.machines if machine.role == "worker")


def address_of(network_cidr: str, role: Role, number: int) -> str:
    """The lab-network address of the `number`-th (from 1) machine of a role."""
    first = _FIRST_MASTER if role == "master" else _FIRST_WORKER
    return str(IPv4Network(network_cidr)[first + number - 1])


def mac_of(address: str) -> str:
    """A locally administered MAC that follows the address, so that a lab comes back with the same ones."""
    return "52:54:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def bridge_of(lab: str) -> str:
    """A device name for the lab's network: readable where short, unique always (IFNAMSIZ leaves 15 characters)."""
    return "lab-" + (lab if len(lab) <= 11 else lab[:6] + hashlib.sha256(lab.encode()).hexdigest()[:5])

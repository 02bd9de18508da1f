"""A lab as Vagrant and libvirt have it, for the tests of the provider and of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labctl.runtime.clock import FakeClock
from labctl.vm.provider import Site
from labctl.vm.providers.vagrant import VagrantProvider
from labctl.vm.topology import Machine, Role, Topology, bridge_of, mac_of
from labctl.vm.vagrant.site import Hypervisor, Image, domain, network_xml, owner
from tests.unit.labctl.vm.fake_virsh import Domain, FakeVirsh

KEY = "ssh-ed25519 AAAAC3Nza labctl-demo"
IMAGE = Image("labctl", "0123456789abcdef", Path("/var/cache/labctl/pool"))
EMULATED = Hypervisor(False, "emulation")


def machine(name: str, role: Role, address: str, disk_gib: int = 6) -> Machine:
    mac = mac_of(address)
    return Machine(name=name, role=role, address=address, mac=mac, cpus=1, memory_mib=1024, disk_gib=disk_gib)


MASTER = machine("master1", "master", "10.9.0.10")
WORKER = machine("worker1", "worker", "10.9.0.20")


def site(state_dir: Path, lab: str = "demo", machines: Sequence[Machine] = (MASTER, WORKER)) -> Site:
    topology = Topology(
        lab=lab,
        provider="vagrant",
        profile="fast",
        box="",
        network_cidr="10.9.0.0/24",
        host_address="10.9.0.1",
        bridge=bridge_of(lab),
        cluster_cidr="10.244.0.0/16",
        service_cidr="10.96.0.0/16",
        machines=tuple(machines),
    )
    return Site(topology=topology, state_dir=state_dir, ssh_public_key=KEY, cache_dir=state_dir / "cache")


def running(lab: Site, **states: str) -> FakeVirsh:
    """libvirt with this lab as it is after `up`, its machines running or in the given states."""
    domains = {
        domain(lab.topology.lab, m.name): Domain(states.get(m.name, "running"), m.mac, owner(lab))
        for m in lab.topology.machines
    }
    return FakeVirsh(domains, {f"labctl.{lab.topology.lab}": network_xml(lab)})


def provider(virsh: FakeVirsh) -> VagrantProvider:
    return VagrantProvider(virsh, FakeClock())

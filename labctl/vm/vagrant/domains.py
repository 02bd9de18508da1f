"""The lab's domains under libvirt: whose they are, what state they are in, and how nothing of one is left."""

from __future__ import annotations

from pathlib import Path

from labctl.vm.libvirt import Libvirt
from labctl.vm.provider import Power, Site
from labctl.vm.topology import Machine
from labctl.vm.vagrant import network
from labctl.vm.vagrant.site import domain, owner, prefix

_QEMU_LOGS = Path("/var/log/libvirt/qemu")


def states(libvirt: Libvirt, site: Site) -> dict[str, Power]:
    """Each machine's state, by the machine's name."""
    found = libvirt.domains(prefix(site.topology.lab))
    return {
        machine.name: _seen(libvirt, site, machine, found.get(domain(site.topology.lab, machine.name), Power.ABSENT))
        for machine in site.topology.machines
    }


def owned(libvirt: Libvirt, site: Site) -> list[str]:
    """The domains of this very lab, those that its topology no longer knows included."""
    network.check_owner(libvirt, site)
    mark = owner(site)
    names = libvirt.domains(prefix(site.topology.lab))
    return [name for name in names if (libvirt.xml(name).findtext("description") or mark) == mark]


def remove(libvirt: Libvirt, name: str) -> None:
    """Remove a domain, its disk and its log; no error where any is missing."""
    if name in libvirt.domains(name):
        libvirt.virsh("destroy", name, check=False)
        libvirt.virsh("undefine", name, "--snapshots-metadata", "--managed-save", "--nvram")
    for line in libvirt.virsh("pool-list").stdout.splitlines():
        pool = line.split()[0] if line.split() else ""
        if pool.startswith("labctl"):
            libvirt.virsh("vol-delete", f"{name}.img", "--pool", pool, check=False)
    (_QEMU_LOGS / f"{name}.log").unlink(missing_ok=True)


def _seen(libvirt: Libvirt, site: Site, machine: Machine, state: Power) -> Power:
    """What an interrupted Vagrant left, a domain without its network device, was never made."""
    if state is not Power.OFF:
        return state
    description = libvirt.xml(domain(site.topology.lab, machine.name))
    macs = {mac.get("address") for mac in description.iterfind("devices/interface/mac")}
    return Power.OFF if machine.mac in macs else Power.ABSENT

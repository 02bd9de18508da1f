"""The lab's network under libvirt. It is made first and removed last, so it also says whose lab this is."""

from __future__ import annotations

from labctl.runtime.errors import LabError
from labctl.runtime.shell import CommandError
from labctl.vm.libvirt import Libvirt
from labctl.vm.provider import Site
from labctl.vm.topology import Machine
from labctl.vm.vagrant.site import network, network_xml, owner

_MARK = "metadata/{https://labctl.dev/lab}lab"


def check_owner(libvirt: Libvirt, site: Site) -> bool:
    """Whether the lab's network is there; LabError where another lab of this name has it."""
    name = network(site.topology.lab)
    if name not in libvirt.networks():
        return False
    mark = libvirt.network_xml(name).find(_MARK)
    whose = mark.get("owner", "") if mark is not None else "somebody else"
    if whose != owner(site):
        raise LabError(
            f"there is already a lab named {site.topology.lab!r} on this host: {whose}",
            hint="give this one another name (--name), or destroy that one in its own folder",
        )
    return True


def make(libvirt: Libvirt, site: Site) -> None:
    """Define and start the lab's network where needed, and reserve each machine's address."""
    name = network(site.topology.lab)
    if not check_owner(libvirt, site):
        libvirt.virsh("net-define", "/dev/stdin", stdin=network_xml(site))
    if not libvirt.networks().get(name):
        try:
            libvirt.virsh("net-start", name)
        except CommandError as error:
            raise LabError(
                f"libvirt cannot start the network {site.topology.network_cidr}: {error}",
                hint="is the range in use on this host? Set `network` in lab.yaml to another one",
            ) from error
    reserved = {host.get("mac") for host in libvirt.network_xml(name).iter("host")}
    for machine in site.topology.machines:
        if machine.mac not in reserved:
            _reserve(libvirt, name, machine)


def remove(libvirt: Libvirt, site: Site) -> None:
    """Remove the lab's network; no error where it does not exist."""
    if check_owner(libvirt, site):
        name = network(site.topology.lab)
        libvirt.virsh("net-destroy", name, check=False)
        libvirt.virsh("net-undefine", name)


def _reserve(libvirt: Libvirt, name: str, machine: Machine) -> None:
    entry = f"<host mac='{machine.mac}' name='{machine.name}' ip='{machine.address}'/>"
    libvirt.virsh("net-update", name, "add-last", "ip-dhcp-host", entry, "--live", "--config")

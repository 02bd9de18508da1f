"""Makes nodes of machines: writes Ansible's inventory from the topology and runs playbooks/site.yml."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from labctl.runtime.shell import LocalShell
from labctl.vm import fence, playbook, sshkey, wheel
from labctl.vm.provider import Progress, Site
from labctl.vm.state import write_atomically
from labctl.vm.topology import Machine, Topology

_DEADLINE_S = 300.0
_DEADLINE_PER_MACHINE_S = 90.0  # of emulated machines, which share this host's cores


def fingerprint(site: Site, project_root: Path) -> str:
    """Changes whenever `run` would write something else onto a node, the topology aside."""
    digest = hashlib.sha256(wheel.fingerprint(project_root).encode())
    files = [*sorted((project_root / "playbooks").rglob("*")), *sorted((site.state_dir / "pki").rglob("*.crt"))]
    for path in (path for path in files if path.is_file() and "__pycache__" not in path.parts):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def inventory(site: Site, archives: Mapping[str, Path], made: Collection[str] = ()) -> dict[str, Any]:
    """Ansible's inventory: a document with all variables of the roles. `archives` by role, `made` by name. Pure."""
    topology = site.topology
    variables = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(sshkey.ssh_key(site.state_dir)),
        "ansible_python_interpreter": "/usr/bin/python3",
        "lab": topology.lab,
        "profile": topology.profile,
        "pki": str(site.state_dir.resolve() / "pki"),
        "machines": [{"name": machine.name, "address": machine.address} for machine in topology.machines],
        "masters": [{"name": machine.name, "address": machine.address} for machine in topology.masters],
        "virtual_address": topology.virtual_address,
        "cluster_cidr": topology.cluster_cidr,
        "service_cidr": topology.service_cidr,
        "fencing": topology.fencing,
        "fence_url": f"https://{topology.host_address}:{fence.PORT}",
        "watchdog_module": "softdog" if topology.provider == "vagrant" else "",  # others share or bring their own
        # Emulated machines stall for longer than etcd's default election timeout of a second.
        "etcd_heartbeat_ms": 250 if topology.provider == "vagrant" else 100,
        # A little longer than an election takes (ten heartbeats): by then another member has a leader to write through.
        "etcd_attempt_s": 3.0 if topology.provider == "vagrant" else 1.2,
        # One: threads that look for work cost an emulated processor a third more. 0: as many as there are processors.
        "etcd_threads": 1 if topology.provider == "vagrant" else 0,
        # After 3.6 of these without a word another master takes the virtual address.
        "vrrp_advert_s": 1.0 if topology.provider == "vagrant" or topology.profile == "kubernetes" else 0.25,
        "vrrp_check_s": 5 if topology.provider == "vagrant" else 1,  # starting curl costs an emulated processor 0.3 s
    }
    hosts = {
        machine.name: {**_host(site, machine, archives[machine.role]), "fresh": machine.name in made}
        for machine in topology.machines
    }
    return {"all": {"vars": variables, "hosts": hosts}}


def _host(site: Site, machine: Machine, archive: Path) -> dict[str, Any]:
    # A system container would measure its host.
    shared = site.topology.provider == "lxc"
    return {
        "ansible_host": machine.address,
        "address": machine.address,
        "role": machine.role,
        "app_archive": str(archive.resolve()),
        "app_version": archive.parent.name,
        "api_servers": _api_servers(site.topology, machine),
        "labels": dict(machine.labels),
        "taints": [msgspec.to_builtins(taint) for taint in machine.taints],
        "cpus": machine.cpus if shared else 0,
        "memory_bytes": machine.memory_mib * 2**20 if shared else 0,
        "disk_bytes": machine.disk_gib * 2**30 if shared else 0,
    }


def _api_servers(topology: Topology, machine: Machine) -> list[str]:
    """A master's own API server comes first: it dies with those who use it. Workers begin at the virtual address."""
    if machine.role == "worker":
        return list(topology.api_servers)
    others = [master for master in topology.masters if master != machine]
    return [f"https://{master.address}:6443" for master in (machine, *others)]


def run(
    site: Site, project_root: Path, progress: Progress, *, names: Sequence[str] = (), made: Collection[str] = ()
) -> playbook.Outcome:
    """Provision `names` (none: every machine); LabError quotes the first failure: machine, role and message.

    Those that were only just `made` get everything at once, without being asked what they have.
    """
    trees = sorted(site.cache_dir.glob("rootfs-*"), key=lambda tree: tree.stat().st_mtime)  # of any box built here
    archives = wheel.build(project_root, site.cache_dir, LocalShell(), trees[-1] if trees else None)
    hosts = site.state_dir / "ansible" / "inventory.json"
    write_atomically(hosts, msgspec.json.format(msgspec.json.encode(inventory(site, archives, made)), indent=2))
    deadline_s = _DEADLINE_S + _DEADLINE_PER_MACHINE_S * len(site.topology.machines)
    return playbook.run(site, project_root / "playbooks", hosts, progress, deadline_s=deadline_s, names=names)

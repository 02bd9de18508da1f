"""A small lab under each provider, and how a test looks at its machines from outside."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from labctl.runtime.shell import LocalShell
from labctl.vm import ssh, sshkey
from labctl.vm.provider import Provider, Site
from labctl.vm.providers.fake import FakeProvider
from labctl.vm.state import write_atomically
from labctl.vm.topology import Machine, Role, Topology, address_of, bridge_of, mac_of

T = TypeVar("T")
NETWORKS = {"fake": "10.78.8.0/24", "lxc": "10.78.9.0/24", "vagrant": "10.78.10.0/24"}


def machine(role: Role, number: int, network: str, *, memory_mib: int = 768) -> Machine:
    address = address_of(network, role, number)
    name = f"{role}{number}"
    return Machine(
        name=name, role=role, address=address, mac=mac_of(address), cpus=1, memory_mib=memory_mib, disk_gib=4
    )


def topology(provider: str, lab: str = "t-contract", network: str = "") -> Topology:
    network = network or NETWORKS[provider]
    return Topology(
        lab=lab,
        provider=provider,
        profile="fast",
        box="",
        network_cidr=network,
        host_address=network.replace("0/24", "1"),
        bridge=bridge_of(lab),
        cluster_cidr="10.244.0.0/16",
        service_cidr="10.96.0.0/16",
        machines=(machine("master", 1, network), machine("worker", 1, network)),
    )


class World:
    """A lab that tests of one module share. `machines` are its names."""

    def __init__(self, provider_name: str, state_dir: Path, lab: str = "t-contract", network: str = "") -> None:
        self.provider: Provider = importlib.import_module(f"labctl.vm.providers.{provider_name}").PROVIDER
        self.site = Site(
            topology=topology(provider_name, lab, network),
            state_dir=state_dir,
            ssh_public_key=sshkey.ensure_ssh_key(state_dir),
        )
        # The Vagrantfile reads it; a lab's own `up` writes it before it asks for machines.
        write_atomically(state_dir / "topology.json", msgspec.json.encode(self.site.topology))
        self.machines = tuple(machine.name for machine in self.site.topology.machines)
        self.told: list[tuple[str, str]] = []

    def progress(self, name: str, what: str) -> None:
        self.told.append((name, what))

    def up(self, *names: str) -> None:
        self.provider.up(self.site, names, self.progress)

    def destroy(self) -> None:
        self.provider.destroy(self.site, self.progress)

    def reaches(self, name: str) -> bool:
        """Whether the machine answers over the lab's network."""
        if isinstance(self.provider, FakeProvider):
            return self.provider.reaches(self.site, name)
        found = self.site.topology.machine(name)
        assert found is not None
        return ssh.answers(found.address)

    def boot(self, name: str) -> str:
        """Differs from one start of the machine to the next."""
        if isinstance(self.provider, FakeProvider):
            return str(self.provider.boots(self.site, name))
        return self.run(name, "cat /proc/sys/kernel/random/boot_id")

    def run(self, name: str, command: str) -> str:
        found = self.site.topology.machine(name)
        assert found is not None
        with ssh.connect(self.site, found, deadline_s=120.0) as connection:
            return connection.run(command, timeout_s=60.0).stdout.strip()

    def leftovers(self) -> list[str]:
        """What there still is of the lab on this host."""
        links = LocalShell().run(["ip", "-o", "link"]).stdout
        found = [line for line in links.splitlines() if f" {self.site.topology.bridge}" in line]
        mounts = Path("/proc/mounts").read_text().splitlines()
        found += [line for line in mounts if str(self.site.state_dir) in line]
        found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/labctl-{self.site.topology.lab}-*")]
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(self.site.state_dir) in words or f"{self.site.topology.lab}-" in words:
                    found.append(words)
        return found


def eventually(probe: Callable[[], T | None], what: str, deadline_s: float = 150.0) -> T:
    return wait_for(probe, what=what, deadline_s=deadline_s, clock=SystemClock())


def worlds(provider_name: str, state_dir: Path) -> Iterator[World]:
    """A lab that runs; nothing of it is left when the tests are done."""
    world = World(provider_name, state_dir)
    try:
        yield world
    finally:
        world.destroy()
        assert world.leftovers() == []

"""A lab that labctl made, as the target of drills."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from labctl.config import settings
from labctl.drills.target import Machine, Reopen
from labctl.kube.client import Client
from labctl.kube.timing import Profile
from labctl.runtime.shell import Output
from labctl.vm import health, images, ssh
from labctl.vm.lab import Lab
from labctl.vm.provider import Link, Power

_DEBIANS = ("containerd", "etcd")  # Debian's own units


class LabTarget:
    """See `Target`."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    @property
    def lab(self) -> str:
        """See `Target`."""
        return self._lab.topology.lab

    @property
    def provider(self) -> str:
        """See `Target`."""
        return self._lab.topology.provider

    @property
    def profile(self) -> Profile:
        """See `Target`."""
        return self._lab.profile

    @property
    def slowness(self) -> float:
        """See `Target`."""
        return self._lab.provider.slowness()

    @property
    def drills_dir(self) -> Path:
        """See `Target`."""
        path = self._lab.state.dir / "drills"
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    @property
    def reopen(self) -> Reopen:
        """See `Target`."""
        args = {"state_root": str(self._lab.settings.state_root), "name": self.lab}
        return Reopen(factory=f"{__name__}:reopened", args=args)

    @property
    def client(self) -> Client:
        """See `Target`."""
        return self._lab.client

    @property
    def shared(self) -> bool:
        """See `Target`; its state lies on one host."""
        return False

    @property
    def virtual_address(self) -> str:
        """See `Target`."""
        return self._lab.topology.virtual_address

    def machines(self) -> Sequence[Machine]:
        """See `Target`."""
        return [Machine(name=m.name, role=m.role, address=m.address) for m in self._lab.topology.machines]

    def power(self, name: str) -> Power:
        """See `Target`."""
        return self._lab.provider.power(self._lab.site).get(name, Power.ABSENT)

    def power_off(self, name: str) -> None:
        """See `Target`."""
        self._lab.provider.power_off(self._lab.site, name)

    def power_on(self, name: str) -> None:
        """See `Target`."""
        self._lab.provider.power_on(self._lab.site, name)

    def reset(self, name: str) -> None:
        """See `Target`."""
        self._lab.provider.reset(self._lab.site, name)

    def suspend(self, name: str) -> None:
        """See `Target`."""
        if self.power(name) is Power.RUNNING:
            self._lab.provider.suspend(self._lab.site, name)

    def resume(self, name: str) -> None:
        """See `Target`."""
        if self.power(name) is Power.SUSPENDED:
            self._lab.provider.resume(self._lab.site, name)

    def set_link(self, name: str, link: Link) -> None:
        """See `Target`."""
        self._lab.provider.set_link(self._lab.site, name, link)

    def unit(self, component: str) -> str:
        """See `Target`; the names that the playbooks give."""
        return f"{component}.service" if component in _DEBIANS else f"labctl-{component}.service"

    def answers(self, name: str, *, timeout_s: float = 1.0) -> bool:
        """See `Target`."""
        return ssh.answers(
            self._lab.machine(name).address, timeout_s=timeout_s
        )  # a suspended machine's kernel connects

    def within_reach(self, names: Sequence[str]) -> Sequence[str]:
        """See `Target`; we made every one of them."""
        return names

    def supply(self, image: str) -> Sequence[str]:
        """See `Target`."""
        if image not in images.NAMES:
            return ()
        having = health.nodes_with(self.client, image)
        lacking = [machine for machine in self._lab.running("worker") if machine.name not in having]
        if not lacking:
            return ()
        self._lab.load_image(images.build(image, self._lab.settings.cache_dir), lacking, lambda *_: None)
        return [machine.name for machine in lacking]

    def run(self, name: str, argv: Sequence[str], *, timeout_s: float = 30.0) -> Output:
        """See `Target`."""
        with self._lab.ssh(name) as connection:
            return connection.run(shlex.join(argv), timeout_s=timeout_s, check=False)


def reopened(state_root: str, name: str) -> LabTarget:
    """The same lab in another process; see `Reopen`."""
    return LabTarget(Lab.open(settings({"LABCTL_STATE_DIR": state_root}), name))

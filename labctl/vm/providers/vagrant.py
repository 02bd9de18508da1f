"""Provider `vagrant`: real virtual machines. Vagrant makes them, libvirt runs them, with KVM or QEMU emulation."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from labctl.config import settings
from labctl.runtime.clock import Clock, SystemClock
from labctl.runtime.errors import DeadlineExceeded, LabError, UsageError
from labctl.runtime.loop import wait_for
from labctl.runtime.shell import LocalShell, Shell
from labctl.vm import box, hostkeys, ssh
from labctl.vm.libvirt import Libvirt
from labctl.vm.parallel import each
from labctl.vm.provider import Link, Power, Problem, Progress, Site
from labctl.vm.state import write_atomically
from labctl.vm.topology import Machine
from labctl.vm.vagrant import domains, host, kvm, network
from labctl.vm.vagrant.pool import Pool
from labctl.vm.vagrant.runner import Runner
from labctl.vm.vagrant.site import BOOT_S, console, domain, dotfile, facts, prefix
from labctl.vm.vagrant.snapshots import Snapshots

_MAKE_S = 900.0
_REMOVE_S = 180.0
_HALT_S = 60.0
_ORDER_S = 15.0
_LIVE = (Power.RUNNING, Power.SUSPENDED)


class VagrantProvider:
    """See `Provider`."""

    name = "vagrant"

    def __init__(self, shell: Shell | None = None, clock: Clock | None = None) -> None:
        self._shell = shell or LocalShell()
        self._clock = clock or SystemClock()
        self._libvirt = Libvirt(self._shell)

    # -- the host ---------------------------------------------------------------------------------------------------

    def problems(self) -> Sequence[Problem]:
        """See `Provider`."""
        return host.problems(self._shell)

    def describe(self) -> str:
        """See `Provider`."""
        return host.describe()

    def slowness(self) -> float:
        """See `Provider`."""
        return kvm.slowness(settings().cache_dir)

    # -- the lab ----------------------------------------------------------------------------------------------------

    def up(self, site: Site, names: Sequence[str], progress: Progress) -> None:
        """See `Provider`."""
        for problem in self.problems():
            raise LabError(problem.what, hint=problem.mend)
        self._libvirt.start(self._clock)
        machines = self._machines(site, names)
        network.make(self._libvirt, site)
        states = self.power(site)
        off = [machine for machine in machines if states[machine.name] is Power.OFF]
        each([m for m in machines if states[m.name] is Power.SUSPENDED], lambda m: self._resume(site, m.name))
        absent = [machine for machine in machines if states[machine.name] is Power.ABSENT]
        each(off, lambda machine: self._start(site, machine, progress))
        if absent:
            self._make(site, absent, progress)
        each(machines, lambda machine: self._wait_for_ssh(site, machine, progress))
        self._remember_host_keys(site, machines, made=absent)

    def halt(self, site: Site, names: Sequence[str], progress: Progress) -> None:
        """See `Provider`."""
        states = self.power(site)

        def one(machine: Machine) -> None:
            if states[machine.name] is Power.SUSPENDED:
                self._resume(site, machine.name)
            if states[machine.name] in _LIVE:
                self._halt(site, machine)
                progress(machine.name, "halted")

        each(self._machines(site, names), one)

    def destroy(self, site: Site, progress: Progress) -> None:
        """See `Provider`. What libvirt has is removed first, so that a broken Vagrant cannot keep it."""
        if self._nothing_was_made(site):
            return
        self._libvirt.start(self._clock)
        owned = domains.owned(self._libvirt, site)
        each(owned, lambda name: domains.remove(self._libvirt, name))
        for name in owned:
            progress(name.removeprefix(prefix(site.topology.lab)), "destroyed")
        if dotfile(site).exists():
            with contextlib.suppress(LabError):  # Vagrant's own notes on machines that are gone
                Runner(site, settings().project_root, _REMOVE_S).remove()
            shutil.rmtree(dotfile(site), ignore_errors=True)
        network.remove(self._libvirt, site)
        (site.state_dir / "vagrant.json").unlink(missing_ok=True)
        Pool(self._libvirt, site.cache_dir).sweep()

    # -- one machine ------------------------------------------------------------------------------------------------

    def power(self, site: Site) -> dict[str, Power]:
        """See `Provider`."""
        if self._nothing_was_made(site):
            return {machine.name: Power.ABSENT for machine in site.topology.machines}
        self._libvirt.start(self._clock)
        return domains.states(self._libvirt, site)

    def power_off(self, site: Site, name: str) -> None:
        """See `Provider`."""
        if self._state(site, name) in _LIVE:
            self._libvirt.virsh("destroy", domain(site.topology.lab, name))

    def power_on(self, site: Site, name: str) -> None:
        """See `Provider`."""
        if self._state(site, name) is Power.OFF:
            network.make(self._libvirt, site)
            self._libvirt.virsh("start", domain(site.topology.lab, name))

    def reset(self, site: Site, name: str) -> None:
        """See `Provider`."""
        if self._live(site, name) is Power.SUSPENDED:
            self._resume(site, name)
        self._libvirt.virsh("reset", domain(site.topology.lab, name))

    def suspend(self, site: Site, name: str) -> None:
        """See `Provider`."""
        if self._live(site, name) is Power.RUNNING:
            self._libvirt.virsh("suspend", domain(site.topology.lab, name))

    def resume(self, site: Site, name: str) -> None:
        """See `Provider`."""
        if self._live(site, name) is Power.SUSPENDED:
            self._resume(site, name)

    def set_link(self, site: Site, name: str, link: Link) -> None:
        """See `Provider`. The cable stays as it is put, over resets and power cuts."""
        state = self._state(site, name)
        mac = self._machines(site, [name])[0].mac
        arguments = ["domif-setlink", domain(site.topology.lab, name), mac, link.value]
        self._libvirt.virsh(*arguments, "--config")
        if state in _LIVE:
            self._libvirt.virsh(*arguments)

    # -- snapshots --------------------------------------------------------------------------------------------------

    def snapshot_save(self, site: Site, snapshot: str) -> None:
        """See `Provider`."""
        self._all_made(site)
        Snapshots(self._libvirt, site, self._clock).save(snapshot)

    def snapshot_restore(self, site: Site, snapshot: str) -> None:
        """See `Provider`."""
        self._all_made(site)
        network.make(self._libvirt, site)
        Snapshots(self._libvirt, site, self._clock).restore(snapshot)

    def snapshot_list(self, site: Site) -> Sequence[str]:
        """See `Provider`."""
        if self._nothing_was_made(site):
            return ()
        self._libvirt.start(self._clock)
        return Snapshots(self._libvirt, site, self._clock).names()

    def snapshot_delete(self, site: Site, snapshot: str) -> None:
        """See `Provider`."""
        if not self._nothing_was_made(site):
            self._libvirt.start(self._clock)
            Snapshots(self._libvirt, site, self._clock).delete(snapshot)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _make(self, site: Site, machines: Sequence[Machine], progress: Progress) -> None:
        image_file = Path(site.topology.box) if site.topology.box else box.box(site.cache_dir, progress)
        pool = Pool(self._libvirt, site.cache_dir)
        image = pool.add(image_file)
        hypervisor = kvm.hypervisor(site.cache_dir, image, self._clock)
        for problem in () if hypervisor.kvm else host.too_old(self._shell):
            raise LabError(problem.what, hint=problem.mend)
        progress("", hypervisor.why)
        content = msgspec.json.format(msgspec.json.encode(facts(site, image, hypervisor)), indent=2)
        write_atomically(site.state_dir / "vagrant.json", content)
        for machine in machines:  # what an interrupted `up` left half made
            domains.remove(self._libvirt, domain(site.topology.lab, machine.name))
            shutil.rmtree(dotfile(site) / "machines" / machine.name, ignore_errors=True)
            console(site, machine.name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        Runner(site, settings().project_root, _MAKE_S).make([machine.name for machine in machines], progress)
        pool.sweep(keep=image)

    def _start(self, site: Site, machine: Machine, progress: Progress) -> None:
        self._libvirt.virsh("start", domain(site.topology.lab, machine.name))
        progress(machine.name, "starting")

    def _resume(self, site: Site, name: str) -> None:
        self._libvirt.virsh("resume", domain(site.topology.lab, name))

    def _halt(self, site: Site, machine: Machine) -> None:
        """Ask inside, as the machine listens to no power button; cut the power where that does not help."""
        with contextlib.suppress(LabError):
            with ssh.connect(site, machine, deadline_s=_ORDER_S, clock=self._clock) as connection:
                connection.run("systemctl --no-block poweroff", timeout_s=_ORDER_S, check=False)
            wait_for(
                lambda: domains.states(self._libvirt, site)[machine.name] is Power.OFF,
                what=f"{machine.name} to shut down",
                deadline_s=_HALT_S,
                clock=self._clock,
            )
        self.power_off(site, machine.name)

    def _wait_for_ssh(self, site: Site, machine: Machine, progress: Progress) -> None:
        tries = itertools.count(1)

        def up() -> bool:
            if ssh.answers(machine.address):
                return True
            # Asked now and then: an emulated machine needs the CPU more than we do.
            if next(tries) % 20 == 0 and domains.states(self._libvirt, site)[machine.name] not in _LIVE:
                raise LabError(f"{machine.name} went off while it started", hint=self._look_at(site, machine))
            return False

        try:
            wait_for(up, what="sshd", deadline_s=BOOT_S, clock=self._clock, every_s=0.1)
        except DeadlineExceeded as error:
            raise LabError(
                f"{machine.name} runs, but no sshd answered at {machine.address} within {BOOT_S} s",
                hint=self._look_at(site, machine),
            ) from error
        progress(machine.name, "running")

    def _look_at(self, site: Site, machine: Machine) -> str:
        return f"its console is in {console(site, machine.name)}"

    def _remember_host_keys(self, site: Site, machines: Sequence[Machine], made: Sequence[Machine]) -> None:
        known = hostkeys.known_hosts(site.state_dir)
        addresses = {line.split()[0] for line in known.read_text().splitlines()} if known.exists() else set()
        new = [machine for machine in machines if machine in made or machine.address not in addresses]
        if new:
            hostkeys.remember(site.state_dir, each(new, lambda machine: ssh.host_key_line(machine.address)))

    def _nothing_was_made(self, site: Site) -> bool:
        """Whether we never came as far as libvirt; then it need not even run."""
        return not (site.state_dir / "vagrant.json").exists() and not self._libvirt.answers()

    def _machines(self, site: Site, names: Sequence[str]) -> list[Machine]:
        machines = {machine.name: machine for machine in site.topology.machines}
        for name in names:
            if name not in machines:
                raise UsageError(f"lab {site.topology.lab!r} has no machine {name!r}")
        return [machines[name] for name in names or machines]

    def _state(self, site: Site, name: str) -> Power:
        self._machines(site, [name])
        state = self.power(site)[name]
        if state is Power.ABSENT:
            raise LabError(f"{name} was never made", hint="`labctl up` makes it")
        return state

    def _live(self, site: Site, name: str) -> Power:
        state = self._state(site, name)
        if state not in _LIVE:
            raise LabError(f"{name} is off", hint="power it on first")
        return state

    def _all_made(self, site: Site) -> None:
        for machine in site.topology.machines:
            self._state(site, machine.name)


PROVIDER = VagrantProvider()

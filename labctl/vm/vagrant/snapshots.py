"""Snapshots of a whole lab, memory included, as of one instant: every machine is frozen while any is saved or loaded.

Because all machines stop at once, connections between them live on after a restore. Connections to the host do
not: the host has gone on. They are dropped, and the clocks set, before anybody waits for them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError, UsageError
from labctl.vm import ssh
from labctl.vm.libvirt import Libvirt
from labctl.vm.parallel import each
from labctl.vm.provider import Power, Site
from labctl.vm.topology import Machine
from labctl.vm.vagrant.site import domain

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SAVE_S = 180.0
_LOAD_S = 120.0
_START_S = 120.0
_SSH_S = 60.0


class Snapshots:
    """The snapshots of one lab. A snapshot exists where every machine has it."""

    def __init__(self, libvirt: Libvirt, site: Site, clock: Clock) -> None:
        self._libvirt, self._site, self._clock = libvirt, site, clock
        self._domains = [domain(site.topology.lab, machine.name) for machine in site.topology.machines]

    def save(self, name: str) -> None:
        """Keep the lab as it is now; UsageError where the name is taken or not a name."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} is no name for a snapshot", hint="use lower-case letters, digits and dashes, at most 63"
            )
        if name in self.names():
            raise UsageError(f"there is already a snapshot {name!r}", hint=f"`labctl snapshot delete {name}` first")
        self.delete(name)  # what an interrupted save may have left on some machines
        states = self._libvirt.domains()
        running = [each_ for each_ in self._domains if states.get(each_) is Power.RUNNING]
        try:
            each(running, self._freeze)
            each(self._domains, lambda one: self._libvirt.virsh("snapshot-create-as", one, name, timeout_s=_SAVE_S))
        except BaseException:
            self.delete(name)
            raise
        finally:
            each(running, self._thaw)

    def restore(self, name: str) -> None:
        """Bring every machine back to the snapshot, running, with the right time."""
        if name not in self.names():
            raise UsageError(f"there is no snapshot {name!r} of this lab", hint="`labctl snapshot list` shows them")
        states = self._libvirt.domains()
        frozen = [one for one in self._domains if states.get(one) is Power.RUNNING]
        each(frozen, self._freeze)
        each(self._domains, lambda one: self._load(one, name, states.get(one, Power.OFF)))
        each(self._domains, self._thaw)
        each(self._site.topology.machines, self._wake)

    def names(self) -> Sequence[str]:
        """Oldest first."""
        moments: dict[str, str] = {}
        counts: dict[str, int] = {}
        for one in self._domains:
            listed = self._libvirt.virsh("snapshot-list", one, check=False).stdout
            for line in listed.splitlines():
                words = line.split(None, 1)  # name, then the time of its making as text that sorts, then the state
                if len(words) == 2:
                    moments[words[0]] = max(moments.get(words[0], ""), words[1])
                    counts[words[0]] = counts.get(words[0], 0) + 1
        complete = [name for name, count in counts.items() if count == len(self._domains)]
        return sorted(complete, key=lambda name: (moments[name], name))

    def delete(self, name: str) -> None:
        """Forget it on every machine that has it."""

        def one(each_: str) -> None:
            if self._libvirt.virsh("snapshot-info", each_, name, check=False).code == 0:
                self._libvirt.virsh("snapshot-delete", each_, name, timeout_s=_SAVE_S)

        each(self._domains, one)

    def _freeze(self, one: str) -> None:
        self._libvirt.virsh("suspend", one)

    def _thaw(self, one: str) -> None:
        if self._libvirt.domains(one).get(one) is Power.SUSPENDED:
            self._libvirt.virsh("resume", one)

    def _load(self, one: str, name: str, state: Power) -> None:
        """A machine that runs is loaded in place, which takes a fifth of the time that libvirt's own way does."""
        if state is Power.OFF:
            self._libvirt.virsh("snapshot-revert", one, name, "--paused", timeout_s=_START_S)
            return
        self._plug_in(one)
        self._libvirt.monitor(one, f"loadvm {name}", timeout_s=_LOAD_S)

    def _plug_in(self, one: str) -> None:
        for link in self._libvirt.xml(one).iterfind("devices/interface"):
            mac, state = link.find("mac"), link.find("link")
            if mac is not None and state is not None and state.get("state") == "down":
                self._libvirt.virsh("domif-setlink", one, mac.get("address", ""), "up")

    def _wake(self, machine: Machine) -> None:
        """Set the machine's clock and drop what it believes to be connections to this host."""
        host = self._site.topology.host_address
        with ssh.connect(self._site, machine, deadline_s=_SSH_S, clock=self._clock) as connection:
            # ours is told apart by its port; `ss -K` needs nothing but the kernel
            now = f"{self._clock.now().timestamp():.3f}"
            drop = f"set -- $SSH_CONNECTION; ss -HKt dst {host} and dport != :$2 >/dev/null"
            done = connection.run(f"date -u -s @{now} >/dev/null && {{ {drop}; }}", timeout_s=_SSH_S, check=False)
        if done.code != 0:
            raise LabError(f"{machine.name} is restored, but its clock could not be set: {done.stderr.strip()}")

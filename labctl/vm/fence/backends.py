"""How a machine is powered off and seen off: by the lab's provider, or by a command that the user gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from labctl.runtime.errors import LabError
from labctl.runtime.shell import Shell
from labctl.vm.provider import Power, Provider, Site
from labctl.vm.topology import Machine

_COMMAND_S = 60.0
_EVIDENCE_CHARACTERS = 400
_OFF = (Power.OFF, Power.ABSENT)


class Backend(Protocol):
    """Powers machines off."""

    def power_off(self, machine: Machine) -> str:
        """Return only once the machine is confirmed off, with the evidence in words; LabError otherwise. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class ByProvider:
    """The lab's own machines."""

    provider: Provider
    site: Site

    def power_off(self, machine: Machine) -> str:
        """See `Backend`. A machine that is off already is switched off again: it might be about to start."""
        before = self._power(machine)
        if before is not Power.ABSENT:
            self.provider.power_off(self.site, machine.name)
        after = self._power(machine)
        if after not in _OFF:
            raise LabError(f"{machine.name} is {after.value} after its power was cut by {self.provider.name}")
        return f"{self.provider.name} says {machine.name} was {before.value} and is {after.value}"

    def _power(self, machine: Machine) -> Power:
        return self.provider.power(self.site).get(machine.name, Power.ABSENT)


@dataclass(frozen=True, slots=True)
class ByCommand:
    """Machines that something else has power over: `fencing: {command: ...}` in lab.yaml."""

    command: str
    shell: Shell

    def power_off(self, machine: Machine) -> str:
        """See `Backend`. The command's exit code 0 is the confirmation, its output the evidence."""
        told = {"LABCTL_NODE": machine.name, "LABCTL_ADDRESS": machine.address}
        done = self.shell.run(["sh", "-c", self.command], timeout_s=_COMMAND_S, env=told)
        words = " ".join(done.stdout.split())[:_EVIDENCE_CHARACTERS]
        return f"the fencing command of {machine.name} ended with 0" + (f": {words}" if words else "")

"""What a provider of machines must do. One file in `providers/` implements it and exports `PROVIDER`.

Every operation is idempotent and has a deadline; it raises LabError (CommandError where a program
failed) with a hint. A provider touches only what belongs to the topology's lab.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from labctl.vm.topology import Topology


class Power(StrEnum):
    """What a machine is doing."""

    ABSENT = "absent"  # never made, or destroyed
    OFF = "off"
    RUNNING = "running"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something the host lacks; `mend` is a command or sentence, `packages` what `doctor --fix` may install."""

    what: str
    mend: str
    packages: tuple[str, ...] = ()


class Link(StrEnum):
    """The machine's cable."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a lab lives: its topology and its folders."""

    topology: Topology
    state_dir: Path  # .labctl/<lab>, mode 0700
    ssh_public_key: str  # one line, to be accepted for root on every machine
    cache_dir: Path = Path("/var/cache/labctl")  # built boxes and root file systems, shared by all labs


Progress = Callable[[str, str], None]  # (machine name or "", what happened)


@runtime_checkable
class Provider(Protocol):
    """Machines on demand. `names` below are machine names of the topology; empty means all."""

    name: str

    def problems(self) -> Sequence[Problem]:
        """What this host lacks to use this provider; empty when ready."""
        ...

    def describe(self) -> str:
        """One line for people: what will run the machines here and why, e.g. QEMU emulation because KVM is unusable."""
        ...

    def slowness(self) -> float:
        """How much longer a machine's work takes here than on this host's own processor; 1 but for emulation."""
        ...

    def up(self, site: Site, names: Sequence[str], progress: Progress) -> None:
        """Make what is absent and start what is off, in parallel; return when each machine's sshd answers."""
        ...

    def halt(self, site: Site, names: Sequence[str], progress: Progress) -> None:
        """Orderly shutdown, forced after a deadline; disks stay."""
        ...

    def destroy(self, site: Site, progress: Progress) -> None:
        """Leave nothing of the lab: no machine, disk, network, mount, process, namespace. Safe on half-made labs."""
        ...

    def power(self, site: Site) -> dict[str, Power]:
        """Each machine's state, by name."""
        ...

    def power_off(self, site: Site, name: str) -> None:
        """Cut the power, as pulling the plug."""
        ...

    def power_on(self, site: Site, name: str) -> None:
        """Start a machine that is off; returns at once, without waiting for sshd."""
        ...

    def reset(self, site: Site, name: str) -> None:
        """Hard reset; returns at once."""
        ...

    def suspend(self, site: Site, name: str) -> None:
        """Freeze the machine as a whole."""
        ...

    def resume(self, site: Site, name: str) -> None:
        """Thaw it."""
        ...

    def set_link(self, site: Site, name: str, link: Link) -> None:
        """Plug the machine's cable in or out."""
        ...

    def snapshot_save(self, site: Site, snapshot: str) -> None:
        """Keep the whole lab, memory included where the provider can."""
        ...

    def snapshot_restore(self, site: Site, snapshot: str) -> None:
        """Bring the whole lab back to `snapshot`; running afterwards, clocks right."""
        ...

    def snapshot_list(self, site: Site) -> Sequence[str]:
        """Names, oldest first."""
        ...

    def snapshot_delete(self, site: Site, snapshot: str) -> None:
        """Forget `snapshot`; no error where it does not exist."""
        ...

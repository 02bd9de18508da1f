"""Self-fencing's means on a simulated machine: the files under /run, the control groups, the kernel's watchdog."""

from __future__ import annotations

from agents.kubelet.cgroups import Cgroups
from agents.kubelet.enforcer import Enforcer
from agents.kubelet.fence_folder import FenceFolder
from agents.kubelet.watchdog import Watchdog
from labctl.kube.fencing import Bounds
from labctl.kube.timing import FAST
from labctl.sim.machine import Machine

_KILLED, _TERMINATED = 137, 143
_SIGTERM_TAKES_S = 0.3  # at most


def enforcer(machine: Machine) -> Enforcer:
    """Each process has one of its own, over the same files."""
    return Enforcer(SimFolder(machine), SimCgroups(machine), Bounds.of(FAST), machine.clock.monotonic_s)


class SimFolder(FenceFolder):
    """The files are the machine's, and gone with its power."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def confirm(self, sent_s: float) -> None:
        """See `FenceFolder`."""
        self._machine.run.confirmed_s = sent_s

    def confirmed_s(self) -> float | None:
        """See `FenceFolder`."""
        return self._machine.run.confirmed_s

    def watch(self, now_s: float) -> None:
        """See `FenceFolder`."""
        self._machine.run.watched_s = now_s

    def watched_s(self) -> float | None:
        """See `FenceFolder`."""
        return self._machine.run.watched_s

    def pods(self) -> frozenset[str]:
        """See `FenceFolder`."""
        return frozenset(self._machine.run.fenced)

    def relied(self) -> frozenset[str]:
        """See `FenceFolder`."""
        return frozenset(self._machine.run.relied)

    def sealed(self) -> frozenset[str]:
        """See `FenceFolder`."""
        return frozenset(self._machine.run.sealed)

    def register(self, uid: str) -> None:
        """See `FenceFolder`."""
        self._machine.run.fenced.add(uid)

    def rely(self, uid: str) -> None:
        """See `FenceFolder`."""
        self._machine.run.relied.add(uid)

    def seal(self, uid: str) -> None:
        """See `FenceFolder`."""
        self._machine.run.sealed.add(uid)

    def unseal(self, uid: str) -> None:
        """See `FenceFolder`."""
        self._machine.run.sealed.discard(uid)

    def forget(self, uid: str) -> None:
        """See `FenceFolder`."""
        for uids in (self._machine.run.sealed, self._machine.run.relied, self._machine.run.fenced):
            uids.discard(uid)


class SimCgroups(Cgroups):
    """A pod's control group holds a process for each container of it that runs."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def members(self, path: str) -> list[int]:
        """See `Cgroups`."""
        return [status.pid for status in self._machine.runtime.live(_uid(path))]

    def terminate(self, path: str) -> None:
        """See `Cgroups`."""
        machine = self._machine
        for status in machine.runtime.live(_uid(path)):
            wait_s = _SIGTERM_TAKES_S * machine.rng.random()
            machine.after(wait_s, lambda identity=status.id: machine.runtime.signal(identity, _TERMINATED))  # type: ignore[misc]

    def kill(self, path: str) -> int:
        """See `Cgroups`."""
        there = self._machine.runtime.live(_uid(path))
        for status in there:
            self._machine.runtime.signal(status.id, _KILLED)
        return len(there)


def _uid(path: str) -> str:
    return path.rpartition("/pod")[2]


class SimWatchdog(Watchdog):
    """The machine's device, which goes on counting when the process that armed it dies."""

    def __init__(self, machine: Machine, timeout_s: int) -> None:
        super().__init__("", timeout_s)
        self._machine, self._open = machine, False

    @property
    def armed(self) -> bool:
        """See `Watchdog`."""
        return self._open

    def arm(self) -> bool:
        """See `Watchdog`."""
        if not self._open:
            self._open = True
            self.pet()
        return True

    def pet(self) -> None:
        """See `Watchdog`."""
        if self._open:
            self._machine.reset_in(self._timeout_s)

    def disarm(self) -> None:
        """See `Watchdog`."""
        if self._open:
            self._open = False
            self._machine.reset_in(None)

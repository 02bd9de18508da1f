"""Faults of whoever leads among several masters, found at the moment of the fault: by its Lease, or by asking etcd.

The undo does not know whom it will be, so it covers every master, and is harmless on those that were left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from labctl.drills.actions import Action, Inside, inside
from labctl.drills.faults import OnCluster, PowerOff
from labctl.drills.faults_etcd import ETCDCTL
from labctl.drills.faults_process import Freeze
from labctl.drills.pace import stretched_s
from labctl.drills.records import LEADERS
from labctl.drills.target import Target
from labctl.kube.resources import LEASES
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import wait_for
from labctl.vm.provider import Power

LEASE_OF = {"scheduler": "kube-scheduler", "controllers": "kube-controller-manager"}
_LEADS_S = 60.0
_SERVES = "curl -skf -m 5 -o /dev/null https://127.0.0.1:6443/readyz"


@dataclass(frozen=True, slots=True)
class _OneOf:
    """Base of the faults that strike whoever leads among these masters."""

    on: tuple[str, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """It is one of these."""
        return self.on


@dataclass(frozen=True, slots=True)
class _OfLeader(_OneOf):
    """What they share: the component that leads by a Lease."""

    component: str

    def _leader(self, target: Target) -> str:
        """The master whose component holds the Lease; LabError where none of ours does."""
        lease = LEASE_OF.get(self.component)
        if lease is None:
            raise LabError(f"no {self.component} leads by a Lease", hint=f"those that do: {', '.join(LEASE_OF)}")
        spec = target.client.get(LEASES, lease, LEADERS).get("spec") or {}
        holder: str = str(spec.get("holderIdentity") or "").partition("_")[0]
        if holder not in self.on:
            raise LabError(f"{lease} is held by {holder or 'nobody'}, which is none of {', '.join(self.on)}")
        return holder

    def _stands_still(self, target: Target, master: str) -> bool:
        unit = target.unit(self.component)
        main = f"$(systemctl show --property MainPID --value {unit})"
        return inside(target, master, f"ps -o stat= -p {main} || true").startswith("T")


@dataclass(frozen=True, slots=True)
class FreezeLeader(_OfLeader):
    """SIGSTOP the scheduler or controller manager that leads: it renews its lease no more, and does not know it."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"freeze the {self.component} that leads (SIGSTOP)"

    def heals(self, target: Target) -> tuple[Action, ...]:
        """See `Fault`."""
        return tuple(
            action for master in self.on for action in Freeze(node=master, component=self.component).heals(target)
        )

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        Freeze(node=self._leader(target), component=self.component).inject(target)

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """The process of one master is stopped, as the kernel shows it."""
        for master in self.on:
            if self._stands_still(target, master):
                took, _ = Freeze(node=master, component=self.component).took(target, clock)
                return took, f"the {self.component} of {master}, which led, is stopped (state T)"
        return False, f"no {self.component} of {', '.join(self.on)} is stopped"


@dataclass(frozen=True, slots=True)
class AwaitLeader(OnCluster, _OfLeader):
    """Nothing, until a scheduler or controller manager leads that does not stand still."""

    unfolds: ClassVar[bool] = True

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"wait until a {self.component} that runs leads"

    def inject(self, target: Target) -> None:
        """Nothing is done."""

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """See the class."""

        def leads() -> str | None:
            try:
                master = self._leader(target)
            except LabError:  # a lease may be held by nobody between two
                return None
            return None if self._stands_still(target, master) else master

        what = f"a {self.component} that runs to lead"
        deadline_s = target.profile.leader_lease_s + stretched_s(_LEADS_S, target.slowness)
        master = wait_for(leads, what=what, deadline_s=deadline_s, clock=clock, every_s=0.25)
        return True, f"the {self.component} of {master} leads"


@dataclass(frozen=True, slots=True)
class PowerOffLeader(_OneOf):
    """Cut the power of the master whose etcd leads."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return "cut the power of the master whose etcd leads"

    def heals(self, target: Target) -> tuple[Action, ...]:
        """Power, and the API server of each master says that it is ready; applied from the last to the first."""
        return (
            *(Inside(node=name, script=_SERVES, what=f"have the API server of {name} serve") for name in self.on),
            *(action for name in self.on for action in PowerOff(node=name).heals(target)),
        )

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        target.power_off(self._leader(target))

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """One is off, and silent."""
        off = [name for name in self.on if target.power(name) is Power.OFF]
        if len(off) != 1:
            return False, f"{len(off)} of {len(self.on)} masters are off: {', '.join(off) or 'none'}"
        return PowerOff(node=off[0]).took(target, clock)

    def _leader(self, target: Target) -> str:
        for name in self.on:
            (told,) = msgspec.json.decode(inside(target, name, f"{ETCDCTL} endpoint status -w json"))
            if told["Status"]["leader"] == told["Status"]["header"]["member_id"]:
                return name
        raise LabError("no master's etcd leads", hint="`labctl status` shows whether the masters are well")

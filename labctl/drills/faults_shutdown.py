"""An orderly shutdown of a machine, as by its administrator, and pods on it by whose end the order can be seen."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.drills import guests
from labctl.drills.actions import Action, PowerOn, inside
from labctl.drills.faults import OnCluster, OnNode
from labctl.drills.pace import stretched_s
from labctl.drills.target import Target
from labctl.runtime.clock import Clock
from labctl.runtime.loop import wait_for
from labctl.vm.provider import Power

ORDINARY, CRITICAL = "labctl-drill-ordinary", "labctl-drill-critical"
_DOWN_S = 60.0
_SLEEP = ("sleep", "86400")


@dataclass(frozen=True, slots=True)
class Guests(OnCluster):
    """An ordinary and a critical pod on a node, which nobody replaces."""

    node: str
    namespace: str

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"place an ordinary and a critical pod on {self.node}"

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`."""
        return guests.removals(self.namespace, (ORDINARY, CRITICAL))

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        ordinary = guests.guest(ORDINARY, self.node, _SLEEP, memory="8Mi")
        critical = guests.guest(CRITICAL, self.node, _SLEEP, memory="8Mi", priority_class="system-node-critical")
        guests.place(target, self.namespace, (ordinary, critical))

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """Both run."""
        guests.await_running(target, self.namespace, (ORDINARY, CRITICAL), clock)
        return True, f"{ORDINARY} and {CRITICAL} run on {self.node}"


@dataclass(frozen=True, slots=True)
class ShutDown(OnNode):
    """`systemctl poweroff` on the machine itself."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"shut {self.node} down in order"

    def heals(self, target: Target) -> tuple[Action, ...]:
        """See `Fault`."""
        return (PowerOn.of(self.node, target),)

    def inject(self, target: Target) -> None:
        """It answers before it goes."""
        inside(target, self.node, "systemctl --no-block poweroff")

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """It is off, by its own doing: the provider says so, and its ssh port is silent."""
        deadline_s = target.profile.shutdown_grace_s + stretched_s(_DOWN_S, target.slowness)
        wait_for(
            lambda: target.power(self.node) is Power.OFF and not target.answers(self.node, timeout_s=0.5),
            what=f"{self.node} to shut down",
            deadline_s=deadline_s,
            clock=clock,
            every_s=0.25,
        )
        return True, f"{self.node} is off and silent"

"""The faults that drills inject, each with its undo as data and a way to see whether it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from labctl.drills.target import Target
from labctl.drills.undo import Action, PowerOn
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded
from labctl.runtime.loop import wait_for
from labctl.vm.provider import Power

_CONFIRM_S = 5.0
_BOOT_S = 120.0


class Fault(Protocol):
    """Something that goes wrong on purpose."""

    @property
    def text(self) -> str:
        """What is done, for people, e.g. `cut the power of worker1`."""
        ...

    @property
    def nodes(self) -> tuple[str, ...]:
        """The machines it strikes."""
        ...

    def heals(self, target: Target) -> tuple[Action, ...]:
        """What undoes it; must be idempotent, and harmless where the fault never took."""
        ...

    def inject(self, target: Target) -> None:
        """Do it; LabError where that fails."""
        ...

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """Whether it can be seen to have happened, and what was seen."""
        ...


@dataclass(frozen=True, slots=True)
class PowerOff:
    """Cut a machine's power through the lab's provider, as pulling the plug."""

    node: str

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"cut the power of {self.node}"

    @property
    def nodes(self) -> tuple[str, ...]:
        """See `Fault`."""
        return (self.node,)

    def heals(self, target: Target) -> tuple[Action, ...]:
        """See `Fault`."""
        return (PowerOn(node=self.node, boot_s=_BOOT_S * max(1.0, target.slowness)),)

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        target.power_off(self.node)

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """The provider says it is off, and its ssh port is silent: both, since either alone may lie."""
        state = Power.RUNNING
        answering = True

        def gone() -> bool:
            nonlocal state, answering
            state = target.power(self.node)
            answering = target.answers(self.node, timeout_s=0.5)
            return state is Power.OFF and not answering

        try:
            wait_for(gone, what=f"{self.node} to be off", deadline_s=_CONFIRM_S, clock=clock)
        except DeadlineExceeded:
            still = "still answers" if answering else "is silent"
            return False, f"{self.node} {still}, and its provider says it is {state.value}"
        return True, f"{self.node} is off and silent"

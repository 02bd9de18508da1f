"""The faults that drills inject, each with its undo as data and a way to see whether it took: here those of power.

Their neighbours by subject: `faults_process.py` (signals, units), `faults_network.py`, `faults_api.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from labctl.drills.actions import Action, PowerOn, Resume, boot_s, inside
from labctl.drills.target import Target
from labctl.runtime.clock import Clock
from labctl.runtime.errors import DeadlineExceeded, LabError
from labctl.runtime.loop import wait_for
from labctl.vm.provider import Power

_CONFIRM_S = 5.0


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
        """Whether it can be seen to have happened, and what was seen; DeadlineExceeded is a no (see `confirm`)."""
        ...


def confirm(fault: Fault, target: Target, clock: Clock) -> tuple[bool, str]:
    """Whether the fault can be seen to have happened, and what was seen, or waited for in vain."""
    try:
        return fault.took(target, clock)
    except DeadlineExceeded as error:
        return False, str(error)


@dataclass(frozen=True, slots=True)
class OnNode:
    """Base of the faults that strike one machine."""

    node: str

    @property
    def nodes(self) -> tuple[str, ...]:
        """See `Fault`."""
        return (self.node,)


class OnCluster:
    """Base of the steps that strike no machine; with nothing to undo, unless they say what."""

    __slots__ = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """None."""
        return ()

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - as a Fault
        """Nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class Pause(OnCluster):
    """Nothing for a while, between two faults."""

    seconds: float

    @property
    def text(self) -> str:
        """For people."""
        return f"wait {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Lift(OnCluster):
    """Undo an earlier fault in the middle of a drill."""

    fault: Fault

    @property
    def text(self) -> str:
        """For people."""
        return f"undo: {self.fault.text}"

    @property
    def nodes(self) -> tuple[str, ...]:
        """Those of its fault."""
        return self.fault.nodes


Step = Fault | Pause | Lift


def heals_of(steps: Sequence[Step], target: Target) -> tuple[Action, ...]:
    """The undo of every fault among the steps, in the order of injection; once where a fault is repeated."""
    return tuple(dict.fromkeys(action for step in steps for action in step.heals(target)))


@dataclass(frozen=True, slots=True)
class Together:
    """Several faults at the same time."""

    faults: tuple[Fault, ...]

    @property
    def text(self) -> str:
        """See `Fault`."""
        return ", and at once ".join(fault.text for fault in self.faults)

    @property
    def nodes(self) -> tuple[str, ...]:
        """See `Fault`."""
        return tuple(dict.fromkeys(name for fault in self.faults for name in fault.nodes))

    def heals(self, target: Target) -> tuple[Action, ...]:
        """See `Fault`."""
        return heals_of(self.faults, target)

    def inject(self, target: Target) -> None:
        """All at once; the first failure is raised when all are through."""
        with ThreadPoolExecutor(max_workers=max(1, len(self.faults))) as pool:
            list(pool.map(lambda fault: fault.inject(target), self.faults))

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """Whether every one of them did."""
        seen = [confirm(fault, target, clock) for fault in self.faults]
        return all(took for took, _ in seen), "; ".join(text for _, text in seen)


@dataclass(frozen=True, slots=True)
class PowerOff(OnNode):
    """Cut a machine's power through the lab's provider, as pulling the plug."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"cut the power of {self.node}"

    def heals(self, target: Target) -> tuple[Action, ...]:
        """See `Fault`."""
        return (PowerOn.of(self.node, target),)

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


_MARKER = "/run/labctl-drill-before-reset"  # /run is emptied by a boot


@dataclass(frozen=True, slots=True)
class Reset(OnNode):
    """Press a machine's reset button: it goes down without warning, and boots."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"reset {self.node}"

    def heals(self, target: Target) -> tuple[Action, ...]:
        """It heals itself; where it does not boot, power helps."""
        return (PowerOn.of(self.node, target),)

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        inside(target, self.node, f"touch {_MARKER}")
        target.reset(self.node)

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """It answers, and what lay in its /run before is gone: it has booted since."""

        def booted() -> bool:
            if not target.answers(self.node, timeout_s=0.5):
                return False
            try:
                return target.run(self.node, ["test", "-e", _MARKER]).code == 1
            except LabError:
                return False

        deadline_s = boot_s(target)
        try:
            wait_for(booted, what=f"{self.node} to boot", deadline_s=deadline_s, clock=clock, every_s=0.1)
        except DeadlineExceeded:
            return False, f"{self.node} was not seen to boot within {deadline_s:g} s"
        return True, f"{self.node} has booted again"


@dataclass(frozen=True, slots=True)
class Suspend(OnNode):
    """Stop a machine as a whole, where it stands: every process of it, and on a VM its clocks too."""

    @property
    def text(self) -> str:
        """See `Fault`."""
        return f"suspend {self.node}"

    def heals(self, target: Target) -> tuple[Action, ...]:  # noqa: ARG002 - a Fault's signature
        """See `Fault`."""
        return (Resume(node=self.node),)

    def inject(self, target: Target) -> None:
        """See `Fault`."""
        target.suspend(self.node)

    def took(self, target: Target, clock: Clock) -> tuple[bool, str]:
        """The provider says it is suspended, and its sshd greets nobody."""
        state, answering = Power.RUNNING, True

        def still() -> bool:
            nonlocal state, answering
            state, answering = target.power(self.node), target.answers(self.node, timeout_s=0.5)
            return state is Power.SUSPENDED and not answering

        try:
            wait_for(still, what=f"{self.node} to stand still", deadline_s=_CONFIRM_S, clock=clock)
        except DeadlineExceeded:
            words = "still answers" if answering else "is silent"
            return False, f"{self.node} {words}, and its provider says it is {state.value}"
        return True, f"{self.node} is suspended and silent"

"""A cluster put together from a seed: machines, parts, users, and time."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from labctl.kube.errors import ApiError
from labctl.kube.resources import (
    CONTROLLER_REVISIONS,
    DAEMON_SETS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    JOBS,
    LEASES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    STATEFUL_SETS,
)
from labctl.runtime import chance
from labctl.sim.api import Api, Note, base
from labctl.sim.hub import Hub, Process, SimClock
from labctl.sim.load import BUDGETS, QUOTAS, Step, User
from labctl.sim.machine import Machine
from labctl.sim.parts import Controllers, Kubelet, Part, ProxyPart, SchedulerPart
from labctl.sim.wire import SimClient, Wire

KINDS = (
    PODS, NODES, LEASES, SERVICES, ENDPOINT_SLICES, DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, CONTROLLER_REVISIONS,
    DAEMON_SETS, JOBS, BUDGETS, QUOTAS,
)  # fmt: skip
NODE_NAMES = ("w1", "w2", "w3")


@dataclass(frozen=True, slots=True)
class Violation:
    """What must not be, and when it was."""

    invariant: str
    message: str
    at_s: float

    @property
    def sort(self) -> str:
        """The same for violations that differ in names and numbers only."""
        return " ".join([self.invariant, *(word for word in self.message.split()[:12] if word.isalpha())])


@dataclass(frozen=True, slots=True)
class Told:
    """A line of the story."""

    at_s: float
    who: str
    what: str


@dataclass(slots=True)
class Story:
    """What happened, told only where somebody listens."""

    listens: bool = False
    lines: list[Told] = field(default_factory=list)


class World:
    """See the module."""

    def __init__(self, seed: int, *, story: Story | None = None) -> None:
        self.seed, self.story = seed, story or Story()
        self.hub = Hub()
        self.clock = SimClock(self.hub)
        self.api = Api(self.clock, base())
        self.wire = Wire(self.hub, self.api, chance.generator(f"{seed} wire"))
        self.failure: Violation | None = None
        self.thawed: Callable[[], None] = lambda: None  # a machine goes on after a pause
        self.observers: list[Callable[[Note], None]] = [self.wire.wrote]
        self.api.on_write = self._wrote
        self.hub.on_error = self._stumbled
        self.machines = {name: Machine(self.hub, name, chance.generator(f"{seed} {name}")) for name in NODE_NAMES}
        self.controllers = Controllers(self.wire, self.clock, self.say, KINDS)
        self.scheduler = SchedulerPart(self.wire, self.clock, self.say)
        self.kubelets = {name: Kubelet(self.wire, machine, self.say) for name, machine in self.machines.items()}
        self.proxies = {name: ProxyPart(self.wire, machine, self.say) for name, machine in self.machines.items()}
        every: list[Part] = [self.controllers, self.scheduler, *self.kubelets.values(), *self.proxies.values()]
        self.parts = {part.name: part for part in every}
        self._user = Process(self.hub, "user")
        self._user_client = SimClient(self.wire, self.wire.line(self._user))

    def start(self, steps: tuple[Step, ...]) -> None:
        """Begin: every part, and what users will do."""
        for part in self.parts.values():
            part.start()
        self._user.spawn(lambda: self._use(steps))

    def say(self, who: str, what: str) -> None:
        """Tell the story."""
        if self.story.listens:
            self.story.lines.append(Told(self.hub.now_s, who, what))

    def fail(self, invariant: str, message: str) -> None:
        """The first violation ends the run."""
        if self.failure is None:
            self.failure = Violation(invariant, message, self.hub.now_s)
            self.say("INVARIANT", f"{invariant}: {message}")

    def run(self, until_s: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until then, a violation, or `done`."""
        self.hub.run(until_s, lambda: self.failure is not None or done())

    def close(self) -> None:
        """End every process."""
        for part in self.parts.values():
            part.end()
        self._user.kill()

    def _use(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            self._user.sleep(step.at_s - self.hub.now_s)
            self._do(step)

    def _do(self, step: Step) -> None:
        self.say("user", step.told())
        for wait_s in (0.5, 1.0, 2.0, 4.0, 0.0):
            try:
                User(self._user_client).do(step)
                return
            except ApiError as error:
                self.say("user", f"is refused: {error}")
                if not error.retryable or not wait_s:
                    return
                self._user.sleep(wait_s)

    def _wrote(self, note: Note) -> None:
        for observe in self.observers:
            observe(note)

    def _stumbled(self, process: Process, error: Exception) -> None:
        self.fail("no part stumbles", f"{process.name}: {''.join(traceback.format_exception(error))}")

"""A cluster put together from a seed: machines, parts, users, and time."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from labctl.kube.errors import ApiError
from labctl.kube.fencing import DEFAULT, DRIFT, Mode
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
from labctl.sim.api import Api, Note, Request, base
from labctl.sim.fence_agent import FenceAgent, SimFenceClient
from labctl.sim.hub import Hub, Process, SimClock
from labctl.sim.load import BUDGETS, QUOTAS, Step, User
from labctl.sim.machine import Machine
from labctl.sim.node_parts import GuardPart, Kubelet, ProxyPart
from labctl.sim.parts import Controllers, Means, Part, SchedulerPart
from labctl.sim.promises import Promise
from labctl.sim.wire import Line, SimClient, Wire
from master.controllers.protocol import Settings

KINDS = (
    PODS, NODES, LEASES, SERVICES, ENDPOINT_SLICES, DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, CONTROLLER_REVISIONS,
    DAEMON_SETS, JOBS, BUDGETS, QUOTAS,
)  # fmt: skip
NODE_NAMES = ("w1", "w2", "w3")
MASTERS = ("m1", "m2")
_GETS_OVER_S = 6.0
_SOFT = ("deployment", "statefulset", "daemonset", "job", "budget", "quota", "image")  # steps that disturb nobody
STANDING = "its machine"  # why the processes of a machine stand still that is paused as a whole


@dataclass(frozen=True, slots=True)
class Violation:
    """What must not be, and when it was."""

    invariant: Promise
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

    def __init__(self, seed: int, *, story: Story | None = None, fencing: Mode = DEFAULT) -> None:
        self.seed, self.story, self.fencing = seed, story or Story(), fencing
        self.hub = Hub()
        self.clock = SimClock(self.hub)
        self.api = Api(self.clock, base())
        self.wire = Wire(self.hub, self.api, chance.generator(f"{seed} wire"))
        self.failure: Violation | None = None
        self.disturbed_until_s = 0.0
        self.thawed: Callable[[], None] = lambda: None  # a machine goes on after a pause
        self.observers: list[Callable[[Note], None]] = [self.wire.wrote]
        self.answered: list[Callable[[Line, Request, bytes | ApiError], None]] = []
        self.wire.on_answer = self._answered
        self.api.on_write = self._wrote
        self.hub.on_error = self._stumbled
        self._rng = chance.generator(f"{seed} world")
        self.machines = {name: self._machine(name) for name in NODE_NAMES}
        self.fence_agent = FenceAgent(self.hub, self._rng, self._fence)
        self.clocks = {name: SimClock(self.hub) for name in MASTERS}
        means = Means(Settings(kinds=KINDS, fencing=fencing), SimFenceClient(self.fence_agent).power_off)
        self.controllers = {
            name: Controllers(self.wire, name, clock, self.say, means) for name, clock in self.clocks.items()
        }
        self.schedulers = {name: SchedulerPart(self.wire, name, clock, self.say) for name, clock in self.clocks.items()}
        self.kubelets = {name: Kubelet(self.wire, its, self.say, fencing) for name, its in self.machines.items()}
        self.guards = {name: GuardPart(self.wire, machine, self.say) for name, machine in self.machines.items()}
        self.proxies = {name: ProxyPart(self.wire, machine, self.say) for name, machine in self.machines.items()}
        kinds = (self.controllers, self.schedulers, self.kubelets, self.guards, self.proxies)
        every: list[Part] = [part for kind in kinds for part in kind.values()]
        self.parts = {part.name: part for part in every}
        self._user = Process(self.hub, "user")
        self._user_client = SimClient(self.wire, self.wire.line(self._user))

    def start(self, steps: tuple[Step, ...]) -> None:
        """Begin: every part, and what users will do."""
        for part in self.parts.values():
            part.start()
        self._user.spawn(lambda: self._use(steps))

    def on(self, machine: str) -> list[Part]:
        """The parts that run on a node or a master."""
        return [part for part in self.parts.values() if part.name.endswith(f"@{machine}")]

    def disturb(self, for_s: float = 0.0) -> None:
        """Something is done to the cluster, and the cluster needs a little to get over it."""
        self.disturbed_until_s = max(self.disturbed_until_s, self.hub.now_s + for_s + _GETS_OVER_S)

    def power_off(self, node: str) -> None:
        """Everything that runs there is gone."""
        for part in self.on(node):
            part.end()
            part.process.resume(STANDING)
        self.machines[node].power_off()

    def power_on(self, node: str) -> None:
        """It starts, where it is off and there is power."""
        machine = self.machines[node]
        if machine.on or machine.powerless_until_s > self.hub.now_s:
            return
        machine.on = True
        for part in self.on(node):
            part.restart()

    def say(self, who: str, what: str) -> None:
        """Tell the story."""
        if self.story.listens:
            self.story.lines.append(Told(self.hub.now_s, who, what))

    def fail(self, invariant: Promise, message: str) -> None:
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

    def _machine(self, name: str) -> Machine:
        """Its clock may be as wrong as the bound on self-fencing allows."""
        rate = self._rng.uniform(1 - DRIFT, 1 + DRIFT)
        machine = Machine(self.hub, name, chance.generator(f"{self.seed} {name}"), rate)
        machine.on_reset = lambda: self._reset(name)
        return machine

    def _reset(self, node: str) -> None:
        self.say(node, "is reset by its watchdog")
        self.disturb(4.0)
        self.power_off(node)
        self.hub.after(2.0 + 2.0 * self._rng.random(), lambda: self.power_on(node))

    def _fence(self, node: str) -> None:
        self.say("fence agent", f"powers {node} off")
        self.disturb(9.0)
        self.power_off(node)

        def start() -> None:
            if not self.machines[node].on:
                self.say("user", f"starts {node} again, where it has power")
            self.power_on(node)

        self.hub.after(3.0 + 6.0 * self._rng.random(), start)

    def _use(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            self._user.sleep(step.at_s - self.hub.now_s)
            self._do(step)

    def _do(self, step: Step) -> None:
        self.say("user", step.told())
        if step.kind not in _SOFT:
            self.disturb()
        if step.kind == "restart-kubelet":
            self.hub.after(0.0, self.kubelets[step.what].crash)
            return
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

    def _answered(self, line: Line, request: Request, answer: bytes | ApiError) -> None:
        for observe in self.answered:
            observe(line, request, answer)

    def _stumbled(self, process: Process, error: Exception) -> None:
        self.fail(Promise.NO_STUMBLE, f"{process.name}: {''.join(traceback.format_exception(error))}")

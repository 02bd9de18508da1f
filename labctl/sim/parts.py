"""The parts of the cluster: each boots the real code into a process of its own, and again after a crash."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labctl.kube.election import Election, LeadershipLost
from labctl.kube.events import EventType, Recorder
from labctl.kube.informer import Informer
from labctl.kube.meta import Reference
from labctl.kube.resources import Resource
from labctl.kube.timing import FAST
from labctl.runtime.loop import Backoff, Wake
from labctl.sim.api import Note
from labctl.sim.hub import Process, SimClock, SimStop
from labctl.sim.machine import Machine
from labctl.sim.wire import SimClient, Wire
from master.controllers import process
from master.controllers.loop import Informers, Runner, Surroundings
from master.controllers.protocol import Settings
from master.scheduler.cycle import Decision
from master.scheduler.loop import Scheduler

Say = Callable[[str, str], None]


class Teller(Recorder):
    """Events go into the story, not through the API."""

    def __init__(self, name: str, say: Say) -> None:
        self._name, self._say = name, say

    def event(self, about: Reference, kind: EventType, reason: str, message: str) -> None:
        """See `Recorder`."""
        del kind
        self._say(self._name, f"{reason} on {about.kind} {about.name}: {message}")


@dataclass(frozen=True, slots=True)
class Means:
    """What controllers are configured with."""

    settings: Settings
    power_off: Callable[[str], str]


class Part(ABC):
    """A program of the cluster in its process."""

    def __init__(self, wire: Wire, name: str, place: SimClock | Machine, say: Say) -> None:
        """`place`: the machine it runs on, or the clock of a master's."""
        self.machine = place if isinstance(place, Machine) else None
        clock = place.clock if isinstance(place, Machine) else place
        self.wire, self.hub, self.clock, self.say = wire, wire.hub, clock, say
        self.process = Process(wire.hub, name)
        self.process.rate = clock.rate
        self.line = wire.line(self.process, self.crash)
        self.stop = SimStop(self.process)
        self.informers: list[Informer[Any]] = []
        self.running = False
        self.back_after_s = 0.5

    @property
    def name(self) -> str:
        """What a story calls it."""
        return self.process.name

    def start(self) -> None:
        """Begin anew: nothing is remembered."""
        assert not self.running
        self.running, self.line.doubt = True, False
        self.informers = []
        self.boot()

    @abstractmethod
    def boot(self) -> None:
        """Put the program together and spawn its threads."""

    def end(self) -> None:
        """The process is killed."""
        if self.running:
            self.running = False
            self.wire.unfollow(self.line)
            self.process.kill()

    def crash(self) -> None:
        """It dies, and is started again by systemd a little later."""
        if not self.running:
            return
        self.say(self.name, f"crashes; systemd starts it again after {self.back_after_s:.1f} s")
        self.end()
        self.hub.after(self.back_after_s, self.restart)

    def restart(self) -> None:
        """As systemd does, on a machine that has power."""
        if not self.running and (self.machine is None or self.machine.on):
            self.start()

    def client(self, guard: Callable[[], None] = lambda: None) -> SimClient:
        """A client on this process's line."""
        return SimClient(self.wire, self.line, guard)

    def follow(
        self, informer: Informer[Any], resource: Resource, wanted: Callable[[Note], bool] | None = None
    ) -> Informer[Any]:
        """Keep an informer of this process current."""
        self.informers.append(informer)
        self.wire.follow(self.line, informer, resource, wanted)
        return informer

    def until_synced(self) -> None:
        """Wait for every first list."""
        while not all(informer.synced for informer in self.informers):
            self.process.sleep(0.02)

    def loop(self, step: Callable[[], float], wake: Wake, least_s: float = 0.0) -> Callable[[], None]:
        """A thread: step, then wait as long as the step says, or until rung; `least_s` between two starts."""

        def run() -> None:
            self.until_synced()
            trouble = Backoff(0.1, 5.0)
            while True:
                begun_s = self.hub.now_s
                try:
                    wait_s = step()
                    trouble.reset()
                except LeadershipLost:  # for now, or for good: then the process ends
                    wait_s = trouble.next_s()
                    self.process.sleep(wait_s)
                self.process.wait(wake, wait_s)
                if (spent_s := self.hub.now_s - begun_s) < least_s:
                    self.process.sleep(least_s - spent_s)

        return run


class Elected(Part):
    """A part of which several stand by and one leads: the real election, over the simulated API."""

    kind: str  # what it is called, wherever it runs
    lease: str  # the name of the Lease that says who leads

    def __init__(self, wire: Wire, master: str, clock: SimClock, say: Say) -> None:
        super().__init__(wire, f"{self.kind}@{master}", clock, say)

    def boot(self) -> None:
        """See `Part`."""
        election = Election(self.client(), self.lease, self.name, profile=FAST, clock=self.clock)

        def lead() -> None:
            self.say(self.name, "leads")
            self.lead(self.client(election.guard), election)

        self.process.spawn(lambda: election.run(self.stop, lead, self._lost))

    @abstractmethod
    def lead(self, client: SimClient, election: Election) -> None:
        """Put the program together and spawn its threads; `client` writes only while it leads."""

    def _lost(self) -> None:
        self.say(self.name, "has lost the lead")
        self.hub.after(0.0, self.crash)


class Controllers(Elected):
    """The controller manager: every controller of the catalog."""

    kind, lease = "controllers", "kube-controller-manager"

    def __init__(self, wire: Wire, master: str, clock: SimClock, say: Say, means: Means) -> None:
        super().__init__(wire, master, clock, say)
        self._means = means
        self.runners: list[Runner] = []
        self.shared: Informers | None = None

    def boot(self) -> None:
        """See `Part`."""
        self.shared = None
        super().boot()

    def lead(self, client: SimClient, election: Election) -> None:
        """See `Elected`."""
        self.shared = Informers(client, self.clock)
        told, means = Teller(self.name, self.say), self._means
        around = Surroundings(self.clock, self.shared, told, means.settings, election.steady_since_s, means.power_off)
        self.runners = process.assemble(client, around)
        for resource, informer in self.shared.by_resource.items():
            self.follow(informer, resource)
        for runner in self.runners:
            self.process.spawn(self._thread(runner))

    def _thread(self, runner: Runner) -> Callable[[], None]:
        def step() -> float:
            return runner.run_pass(self.stop)

        return self.loop(step, runner.wake, runner.controller.min_interval_s)


class SchedulerPart(Elected):
    """The scheduler."""

    kind, lease = "scheduler", "kube-scheduler"

    def lead(self, client: SimClient, election: Election) -> None:
        """See `Elected`."""
        del election
        scheduler = Scheduler(client, Teller(self.name, self.say), self.clock)

        def carry_out(decision: Decision) -> None:
            try:
                scheduler.binder.carry_out(decision)
            except LeadershipLost:
                scheduler.binder.try_to(decision)  # which knows what to do then

        scheduler.binder.submit = lambda decision: self.process.spawn(lambda: carry_out(decision))
        for informer in scheduler.informers:
            self.follow(informer, informer.resource)
        self.process.spawn(self.loop(scheduler.run_pass, scheduler.wake, 0.01))

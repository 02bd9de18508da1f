"""The parts of the cluster: each boots the real code into a process of its own, and again after a crash."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import msgspec

from agents.kubelet.apply import Machine as Figures
from agents.kubelet.apply import Tools
from agents.kubelet.checks import Checker
from agents.kubelet.config import Config as KubeletConfig
from agents.kubelet.lease import Heartbeat
from agents.kubelet.reporter import Reporter
from agents.kubelet.stats import Machine as Measured
from agents.kubelet.sync import Parts, Sync
from agents.proxy import plan as proxy
from agents.proxy import views as proxy_views
from labctl.kube.errors import Conflict, NotFound
from labctl.kube.events import EventType, Recorder
from labctl.kube.informer import Informer
from labctl.kube.meta import Reference
from labctl.kube.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES, Resource
from labctl.kube.timing import FAST
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Wake
from labctl.sim.api import Note
from labctl.sim.hub import Process, SimClock, SimStop
from labctl.sim.machine import Machine, NoVolumes, SimHands, SimObserver
from labctl.sim.wire import SimClient, Wire
from master.controllers import process
from master.controllers.loop import Informers, Runner, Surroundings
from master.controllers.protocol import Settings
from master.scheduler.loop import Scheduler

Say = Callable[[str, str], None]
_FIGURES = Measured(
    cpus=2,
    memory_bytes=4 << 30,
    memory_available_bytes=3 << 30,
    disk_bytes=100 << 30,
    disk_available_bytes=90 << 30,
    inodes=1_000_000,
    inodes_available=900_000,
    pids=100,
    pids_max=32_768,
    boot_id="boot",
    machine_id="machine",
    system_uuid="system",
    kernel_version="6.12",
    os_image="Debian GNU/Linux 13 (trixie)",
    architecture="amd64",
)


class Teller(Recorder):
    """Events go into the story, not through the API."""

    def __init__(self, name: str, say: Say) -> None:
        self._name, self._say = name, say

    def event(self, about: Reference, kind: EventType, reason: str, message: str) -> None:
        """See `Recorder`."""
        del kind
        self._say(self._name, f"{reason} on {about.kind} {about.name}: {message}")


class Part(ABC):
    """A program of the cluster in its process."""

    def __init__(self, wire: Wire, name: str, clock: SimClock, say: Say) -> None:
        self.wire, self.hub, self.clock, self.say = wire, wire.hub, clock, say
        self.process = Process(wire.hub, name)
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
        self.running = True
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
        """As systemd does."""
        if not self.running:
            self.start()

    def client(self) -> SimClient:
        """A client on this process's line."""
        return SimClient(self.wire, self.line)

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
            while True:
                begun_s = self.hub.now_s
                self.process.wait(wake, step())
                if (spent_s := self.hub.now_s - begun_s) < least_s:
                    self.process.sleep(least_s - spent_s)

        return run


class Controllers(Part):
    """The controller manager: every controller of the catalog."""

    def __init__(self, wire: Wire, clock: SimClock, say: Say, kinds: tuple[Resource, ...]) -> None:
        super().__init__(wire, "controllers", clock, say)
        self._kinds = kinds
        self.runners: list[Runner] = []
        self.shared: Informers | None = None

    def boot(self) -> None:
        """See `Part`."""
        client, began_s = self.client(), self.clock.monotonic_s()
        self.shared = Informers(client, self.clock)
        around = Surroundings(
            self.clock, self.shared, Teller(self.name, self.say), Settings(kinds=self._kinds), lambda: began_s
        )
        self.runners = process.assemble(client, around)
        for resource, informer in self.shared.by_resource.items():
            self.follow(informer, resource)
        for runner in self.runners:
            self.process.spawn(self._thread(runner))

    def _thread(self, runner: Runner) -> Callable[[], None]:
        def step() -> float:
            return runner.run_pass(self.stop)

        return self.loop(step, runner.wake, runner.controller.min_interval_s)


class SchedulerPart(Part):
    """The scheduler."""

    def __init__(self, wire: Wire, clock: SimClock, say: Say) -> None:
        super().__init__(wire, "scheduler", clock, say)

    def boot(self) -> None:
        """See `Part`."""
        scheduler = Scheduler(self.client(), Teller(self.name, self.say), self.clock)
        scheduler.binder.submit = lambda decision: self.process.spawn(lambda: scheduler.binder.carry_out(decision))
        for informer in scheduler.informers:
            self.follow(informer, informer.resource)
        self.process.spawn(self.loop(scheduler.run_pass, scheduler.wake, 0.01))


class _Lanes:
    """The kubelet's executor: a thread for each operation."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def submit(self, lane: str, work: Callable[[], None]) -> None:
        """See `Executor`."""
        del lane
        self._part.process.spawn(work)


class _OfNode(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""


class _Pod(msgspec.Struct, frozen=True):
    spec: _OfNode = _OfNode()


class Kubelet(Part):
    """A node's kubelet: pod loop, heartbeat, node status."""

    def __init__(self, wire: Wire, machine: Machine, say: Say) -> None:
        super().__init__(wire, f"kubelet@{machine.name}", machine.clock, say)
        self.machine = machine
        self.selects = f"spec.nodeName={machine.name}"
        self.sync: Sync | None = None

    def boot(self) -> None:
        """See `Part`."""
        machine, clock, client = self.machine, self.clock, self.client()
        config = KubeletConfig(kubeconfig="", node_name=machine.name, node_ip=machine.ip)
        told = Teller(self.name, self.say)
        reporter = Reporter(client, config, machine.runtime, lambda: _FIGURES, clock)
        observer = SimObserver(machine, self.process, self._ring)
        tools = Tools(machine.runtime, NoVolumes(), client, told, Checker(machine.runtime, clock), clock)
        figures = Figures(machine.ip, "", "", 2_000, 3 << 30, 4 << 30)
        pods: Informer[msgspec.Raw] = Informer(
            client,
            PODS,
            msgspec.Raw,
            on_change=self._ring,
            field_selector=self.selects,
        )
        nodes: Informer[msgspec.Raw] = Informer(
            client, NODES, msgspec.Raw, on_change=reporter.wake.ring, field_selector=f"metadata.name={machine.name}"
        )
        self.sync = Sync(
            Parts(
                client=client,
                recorder=told,
                clock=clock,
                timing=FAST,
                hands=SimHands(tools, figures, machine),
                checker=tools.checker,
                observer=observer,
                pods=pods,
                executor=_Lanes(self),
                facts=reporter.facts,
            )
        )
        reporter.on_change = self.sync.wake.ring
        heartbeat = Heartbeat(client, machine.name, FAST, clock)

        def begin() -> None:
            reporter.register(self.stop)
            reporter.nodes = self.follow(nodes, NODES, lambda note: note.key.endswith(f"/{machine.name}"))
            self.follow(pods, PODS, self._is_mine)
            self.process.spawn(lambda: self._beat(heartbeat))
            self.process.spawn(self.loop(lambda: self._report(reporter), reporter.wake))
            assert self.sync is not None
            self.process.spawn(self.loop(self.sync.step, self.sync.wake))

        self.process.spawn(observer.loop)
        self.process.spawn(begin)

    def _ring(self) -> None:
        if self.sync is not None:
            self.sync.wake.ring()

    def _beat(self, heartbeat: Heartbeat) -> None:
        while True:
            begun_s = self.hub.now_s
            wait_s = heartbeat.beat()
            self.process.sleep(wait_s - (self.hub.now_s - begun_s))

    @staticmethod
    def _report(reporter: Reporter) -> float:
        try:
            return reporter.step()
        except (Conflict, NotFound):
            return 0.2
        except LabError:
            return 0.5

    def _is_mine(self, note: Note) -> bool:
        return msgspec.json.decode(note.raw, type=_Pod).spec.node_name == self.machine.name


class ProxyPart(Part):
    """A node's kube-proxy: what its rules would be."""

    def __init__(self, wire: Wire, machine: Machine, say: Say) -> None:
        super().__init__(wire, f"proxy@{machine.name}", machine.clock, say)
        self.machine = machine
        self.rules: proxy.Plan | None = None

    def boot(self) -> None:
        """See `Part`."""
        client, wake = self.client(), Wake()
        services = Informer(client, SERVICES, proxy_views.Service, on_change=wake.ring)
        slices = Informer(client, ENDPOINT_SLICES, proxy_views.EndpointSlice, on_change=wake.ring)
        nodes = Informer(client, NODES, proxy_views.Node, on_change=wake.ring)
        for informer in (services, slices, nodes):
            self.follow(informer, informer.resource)

        def step() -> float:
            self.rules = proxy.plan(
                services.snapshot().values(),
                slices.snapshot().values(),
                nodes.snapshot().values(),
                node_name=self.machine.name,
            )
            return FAST.proxy_full_sync_s

        self.process.spawn(self.loop(step, wake, FAST.proxy_min_sync_s))

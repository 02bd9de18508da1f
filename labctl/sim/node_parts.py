"""The parts of the cluster that run on a node: kubelet, its guard, kube-proxy."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from agents.kubelet.apply import Machine as Figures
from agents.kubelet.apply import Tools
from agents.kubelet.checks import Checker
from agents.kubelet.config import Config as KubeletConfig
from agents.kubelet.guard import Guard
from agents.kubelet.lease import Heartbeat
from agents.kubelet.reporter import Reporter
from agents.kubelet.self_fencing import Means, SelfFencing
from agents.kubelet.stats import Machine as Measured
from agents.kubelet.sync import Parts, Sync
from agents.proxy import plan as proxy
from agents.proxy import views as proxy_views
from labctl.kube.errors import Conflict, NotFound
from labctl.kube.fencing import Mode
from labctl.kube.informer import Informer
from labctl.kube.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from labctl.kube.timing import FAST
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Backoff, Wake
from labctl.sim.api import Note
from labctl.sim.fencing import SimWatchdog, enforcer
from labctl.sim.machine import Machine, NoVolumes, SimHands, SimObserver
from labctl.sim.parts import Part, Say, Teller
from labctl.sim.wire import Wire

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


class NodePart(Part):
    """A part that runs on a node's machine."""

    machine: Machine


class Kubelet(NodePart):
    """A node's kubelet: pod loop, heartbeat, node status, its part in self-fencing."""

    def __init__(self, wire: Wire, machine: Machine, say: Say, fencing: Mode) -> None:
        super().__init__(wire, f"kubelet@{machine.name}", machine, say)
        self._fencing = fencing
        self.selects = f"spec.nodeName={machine.name}"
        self.sync: Sync | None = None

    def boot(self) -> None:
        """See `Part`."""
        machine, clock, client = self.machine, self.clock, self.client()
        config = KubeletConfig(kubeconfig="", node_name=machine.name, node_ip=machine.ip, fencing=self._fencing)
        told = Teller(self.name, self.say)
        fencing = SelfFencing(Means(enforcer(machine), client, told, self._fencing, self._ring))
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
                fencing=fencing,
            )
        )
        reporter.on_change = self.sync.wake.ring
        heartbeat = Heartbeat(client, machine.name, FAST, clock, fencing)

        def begin() -> None:
            reporter.register(self.stop)
            reporter.nodes = self.follow(nodes, NODES, lambda note: note.key.endswith(f"/{machine.name}"))
            self.follow(pods, PODS, self._is_mine)
            self.process.spawn(lambda: self._beat(heartbeat))
            self.process.spawn(lambda: self._patrol(fencing))
            self.process.spawn(lambda: self._inquire(fencing))
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

    def _patrol(self, fencing: SelfFencing) -> None:
        while True:
            self.process.sleep(fencing.patrol())

    def _inquire(self, fencing: SelfFencing) -> None:
        backoff = Backoff(0.1, 1.0)
        while True:
            self.process.wait(fencing.wake, fencing.inquire(backoff))

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


class GuardPart(NodePart):
    """The process that stops a node's fenced pods where its kubelet does not renew in time. It asks nobody."""

    def __init__(self, wire: Wire, machine: Machine, say: Say) -> None:
        super().__init__(wire, f"guard@{machine.name}", machine, say)

    def boot(self) -> None:
        """See `Part`."""
        means = enforcer(self.machine)
        guard = Guard(means, SimWatchdog(self.machine, means.bounds.watchdog_s))

        def watch() -> None:
            while True:
                self.process.sleep(guard.step())

        self.process.spawn(watch)


class ProxyPart(NodePart):
    """A node's kube-proxy: what its rules would be."""

    def __init__(self, wire: Wire, machine: Machine, say: Say) -> None:
        super().__init__(wire, f"proxy@{machine.name}", machine, say)
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

"""Puts a kubelet together and starts its threads: informers, observer, probes, heartbeat, node status, pod loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from agents.kubelet import lease, node
from agents.kubelet.apply import Hands, Machine, Tools, Volumes
from agents.kubelet.checks import Checker
from agents.kubelet.config import Config
from agents.kubelet.enforcer import Enforcer
from agents.kubelet.evictor import Consumption, Evictor
from agents.kubelet.observer import Observer
from agents.kubelet.reporter import Reporter
from agents.kubelet.runtime import ContainerRuntime
from agents.kubelet.self_fencing import Means, SelfFencing, Unfenced
from agents.kubelet.shutdown import FLUSH_S
from agents.kubelet.stats import Machine as Measured
from agents.kubelet.sync import Parts, Sync
from labctl.kube.client import Client
from labctl.kube.events import Recorder
from labctl.kube.informer import Informer
from labctl.kube.meta import Reference
from labctl.kube.resources import NODES, PODS
from labctl.runtime.clock import Clock
from labctl.runtime.loop import Stop

LOG_DIR = "/var/log/pods"
_LANES = {"runtime": 4, "stop": 64, "api": 2}  # threads at most; they are made when needed

_LOOK_S = 1.0  # a SIGTERM that another thread took wakes nobody: looked for now and then
_ANNOUNCE_S = 10.0  # an API that does not answer holds up no shutdown
_PASS_S = 5.0  # a pass over the pods is given this long to end

_log = logging.getLogger(__name__)


class Lanes:
    """An executor of threads: container starts never wait behind containers that take their time to stop."""

    def __init__(self) -> None:
        self._pools = {name: ThreadPoolExecutor(size, thread_name_prefix=name) for name, size in _LANES.items()}

    def submit(self, lane: str, work: Callable[[], None]) -> None:
        """See `Executor`."""
        self._pools[lane].submit(work)

    def shut_down(self) -> None:
        """Begin nothing more; what is under way is left to end or to be cut off with the process."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class World:
    """What a kubelet is given: the machine's side of it."""

    runtime: ContainerRuntime
    volumes: Volumes
    measure: Callable[[], Measured]
    clock: Clock
    use_pod_cidr: Callable[[str], None] = lambda _: None
    log_dir: str = LOG_DIR
    before_listing: Callable[[], None] = lambda: None  # e.g. wait for what an earlier kubelet left running
    enforcer: Enforcer | None = None  # None: no pod is fenced here
    consumption: Consumption | None = None  # None: no pod is given up for want of room
    goes_down: Callable[[], bool] = lambda: False  # whether the machine does, and not the kubelet alone


class Kubelet:
    """One node's kubelet. `run` blocks until `asked`; containers run on, unless the machine goes down."""

    def __init__(self, config: Config, client: Client, heartbeat_client: Client, world: World) -> None:
        self.config, self._client, self._world = config, client, world
        self._recorder = Recorder(client, "kubelet", clock=world.clock, host=config.node_name)
        self._checker = Checker(world.runtime, world.clock)
        self._lanes = Lanes()
        self.reporter = Reporter(client, config, world.runtime, world.measure, world.clock)
        self.reporter.on_pod_cidr = world.use_pod_cidr
        self.fencing = self._self_fencing()
        self._heartbeat = lease.Heartbeat(heartbeat_client, config.node_name, config.timing, world.clock, self.fencing)
        self._pods: Informer[msgspec.Raw] = Informer(
            client, PODS, msgspec.Raw, on_change=self._ring, field_selector=f"spec.nodeName={config.node_name}"
        )
        self._nodes: Informer[msgspec.Raw] = Informer(
            client,
            NODES,
            msgspec.Raw,
            on_change=self.reporter.wake.ring,
            field_selector=f"metadata.name={config.node_name}",
        )
        self.observer = Observer(world.runtime, on_change=self._ring, before=world.before_listing)
        self.hands = Hands(self._tools(), self._machine())
        self.sync = Sync(self._parts())

    def run(self, asked: Stop) -> None:
        """Register, then keep node, lease and pods true until `asked`, and until the pods of a machine that goes down
        have ended in order."""
        config, stop = self.config, Stop()
        self.observer.start(stop)
        self._recorder.start(stop)
        self.reporter.register(asked)
        self._heartbeat.start(stop)
        if self.fencing is not None:
            self.fencing.start(stop)
        self.reporter.nodes = self._nodes.start(stop)
        self.reporter.on_change = self._ring
        self._pods.start(stop)
        self.sync.probes.start(stop)
        self.reporter.start(stop)
        _log.info("running", extra={"kv": {"node": config.node_name, "address": config.node_ip}})
        loop = threading.Thread(target=self.sync.run, args=(stop,), name="pods", daemon=True)
        loop.start()
        while not asked.wait_s(_LOOK_S):
            pass
        if self._world.goes_down():
            self._end_pods()
        stop.set()
        self._ring()
        loop.join(_PASS_S)
        self._lanes.shut_down()

    def _end_pods(self) -> None:
        """Not Ready first, so that nothing new comes and all know why; then the pods."""
        timing = self.config.timing
        about = Reference(api_version="v1", kind="Node", name=self.config.node_name, uid=self.config.node_name)
        self._recorder.normal(about, "Shutdown", "Shutdown manager detected shutdown event")
        _log.info("the machine goes down: its pods end in order")
        if not self.reporter.close(_ANNOUNCE_S):
            _log.warning("the API was not told that the node is shutting down")
        if not self.sync.end_pods(timing.shutdown_grace_s + FLUSH_S + _PASS_S):
            _log.warning("not every pod has ended in time")

    def raw_pods(self) -> list[msgspec.Raw]:
        """The pods of this node as the API server has them."""
        return list(self._pods.snapshot().values())

    def _ring(self) -> None:
        self.sync.wake.ring()

    def _self_fencing(self) -> SelfFencing | None:
        if self._world.enforcer is None:
            return None
        means = Means(self._world.enforcer, self._client, self._recorder, self.config.fencing, on_change=self._ring)
        return SelfFencing(means)

    def _tools(self) -> Tools:
        world = self._world
        return Tools(world.runtime, world.volumes, self._client, self._recorder, self._checker, world.clock)

    def _machine(self) -> Machine:
        config, figures = self.config, self.reporter.machine
        room = node.allocatable(config, figures)
        return Machine(
            node_ip=config.node_ip,
            root_dir=config.root_dir,
            log_dir=self._world.log_dir,
            allocatable_cpu_milli=room["cpu"],
            allocatable_memory_bytes=room["memory"],
            memory_bytes=node.capacity(config, figures)["memory"],
        )

    def _parts(self) -> Parts:
        return Parts(
            client=self._client,
            recorder=self._recorder,
            clock=self._world.clock,
            timing=self.config.timing,
            hands=self.hands,
            checker=self._checker,
            observer=self.observer,
            pods=self._pods,
            executor=self._lanes,
            facts=self.reporter.facts,
            fencing=self.fencing or Unfenced(),
            evictor=Evictor(used, self._recorder) if (used := self._world.consumption) else None,
        )

"""Registers the Node and keeps its status true: on change at once, else every `node_status_report_s`.

The API's copy is compared with what should be there, so a status that somebody else changed (the node controller marks
a silent node Unknown) is put right as soon as we see it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from agents.kubelet import eviction, node
from agents.kubelet.config import Config
from agents.kubelet.eviction import Crossed
from agents.kubelet.memory import Stored
from agents.kubelet.node import Health
from agents.kubelet.roster import Facts
from agents.kubelet.runtime import ContainerRuntime, Image
from agents.kubelet.stats import Machine as Measured
from agents.kubelet.views import Node
from labctl.kube.client import Client
from labctl.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from labctl.kube.resources import NODES
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Backoff, Stop, Wake

Document = dict[str, Any]
_SOON_S = 0.2

_log = logging.getLogger(__name__)


class NodeSource(Protocol):
    """Our own Node: an informer of one object."""

    def get(self, key: str) -> msgspec.Raw | None:
        """As last seen."""
        ...


class Reporter:
    """Speaks for the node. `facts` may be asked from any thread."""

    def __init__(
        self,
        client: Client,
        config: Config,
        runtime: ContainerRuntime,
        measure: Callable[[], Measured],
        clock: Clock,
    ) -> None:
        self._client, self._config, self._runtime = client, config, runtime
        self._measure, self._clock = measure, clock
        self._machine = measure()
        self._pressures: dict[str, float] = {}
        self._short: tuple[Crossed, ...] = ()
        self._looks = 0
        self._posted_s: float | None = None
        self._runtime_seen: tuple[float, str, tuple[Image, ...]] | None = None  # when it was well last, and as what
        self._closing, self.closed = threading.Event(), threading.Event()
        self._seen: tuple[msgspec.Raw | None, Node, Document] = (None, Node(), {})
        self.nodes: NodeSource | None = None
        self.on_pod_cidr: Callable[[str], None] = lambda _: None
        self.on_change: Callable[[], None] = lambda: None
        self.wake = Wake()

    @property
    def machine(self) -> Measured:
        """The last figures."""
        return self._machine

    def facts(self) -> Facts:
        """What the pod loop must know of the node."""
        found = self._node()[0]
        return Facts(
            host_ip=self._config.node_ip,
            labels={**node.labels(self._config, self._machine), **found.metadata.labels},
            allocatable=node.allocatable(self._config, self._machine),
            network_ready=bool(found.spec.pod_cidr),
            annotations=found.metadata.annotations,
            shutting_down=self._closing.is_set(),
            pressures=frozenset(self._pressures),
            short=self._short,
            looks=self._looks,
        )

    def close(self, within_s: float) -> bool:
        """The machine goes down: say so, and take no pod any more; whether the API knows in time."""
        self._closing.set()
        self.wake.ring()
        return self.closed.wait(within_s)

    def register(self, stop: Stop) -> None:
        """Create the Node, or adopt the one that is there; tried until it works or `stop`."""
        backoff, level = Backoff(0.1, 2.0), logging.WARNING
        while not stop.is_set():
            try:
                self._register()
                return
            except ApiError as error:
                _log.log(level, "the node is not registered yet: %s", error)
                level = logging.DEBUG  # told once
                stop.wait_s(backoff.next_s())

    def start(self, stop: Stop) -> None:
        """Report in a thread of our own until `stop`."""
        threading.Thread(target=self._run, args=(stop,), name="node-status", daemon=True).start()

    def step(self) -> float:
        """Look at the machine and post what changed; seconds until the next look."""
        timing = self._config.timing
        now_s = self._clock.monotonic_s()
        self._machine = self._measure()
        self._short = eviction.crossed(self._machine, self._config.disk_bytes)
        under = node.under_pressure(self._machine, self._short)
        self._pressures = node.held(now_s, under, self._pressures, timing.pressure_holds_s)
        self._looks += 1
        if self._short:
            self.on_change()
        found, base = self._node()
        if not found.metadata.uid:
            return _SOON_S  # the informer has not brought it yet, or somebody deleted it
        self._take_network(found)
        closing = self._closing.is_set()
        wanted = node.status(self._config, self._machine, self._health(found), base, self._clock.now())
        due = self._posted_s is None or now_s - self._posted_s >= timing.node_status_report_s
        if due or node.changed(base, wanted):
            self._post(found, wanted)
            self._posted_s = now_s
        if closing:
            self.closed.set()
        return timing.node_status_s

    def _run(self, stop: Stop) -> None:
        backoff = Backoff(0.1, 2.0)
        while not stop.is_set():
            try:
                wait_s = self.step()
                backoff.reset()
            except (Conflict, NotFound):
                wait_s = _SOON_S  # the informer brings what we have not seen
            except (LabError, OSError) as error:
                _log.warning("the node's status was not posted: %s", error)
                wait_s = backoff.next_s()
            except Exception:
                _log.exception("reporting on the node failed")
                wait_s = backoff.next_s()
            self.wake.wait_s(wait_s)

    def _register(self) -> None:
        wanted = node.document(self._config, self._machine)
        try:
            self._client.create(NODES, wanted)
            _log.info("registered", extra={"kv": {"node": self._config.node_name}})
        except AlreadyExists:
            labels: Mapping[str, str] = wanted["metadata"]["labels"]
            self._client.patch(NODES, self._config.node_name, {"metadata": {"labels": labels}})

    def _health(self, found: Node) -> Health:
        problems: list[str] = []
        now_s, version = self._clock.monotonic_s(), ""
        images: tuple[Image, ...] = ()
        closing = self._closing.is_set()
        try:
            if closing and self._runtime_seen is not None:  # a slow runtime does not hold up the goodbye
                _, version, images = self._runtime_seen
            else:
                version, images = self._runtime.version(), tuple(self._runtime.images())
                self._runtime_seen = now_s, version, images
        except LabError as error:
            # One that is started anew is no reason to move pods; upstream waits as well (maxWaitForContainerRuntime).
            if self._runtime_seen is None or now_s - self._runtime_seen[0] >= self._config.timing.runtime_grace_s:
                problems.append(f"container runtime is down: {error}")
            else:
                _, version, images = self._runtime_seen
        if not found.spec.pod_cidr:
            reason = "NetworkReady=false reason:NetworkPluginNotReady message:the node has no pod CIDR yet"
            problems.append(f"container runtime network not ready: {reason}")
        if closing:
            problems.append("node is shutting down")
        return Health(version, ", ".join(problems), frozenset(self._pressures), images)

    def _take_network(self, found: Node) -> None:
        if found.spec.pod_cidr:
            self.on_pod_cidr(found.spec.pod_cidr)

    def _post(self, found: Node, wanted: Document) -> None:
        head = {"uid": found.metadata.uid, "resourceVersion": found.metadata.resource_version}
        self._client.patch(NODES, self._config.node_name, {"metadata": head, "status": wanted}, subresource="status")

    def _node(self) -> tuple[Node, Document]:
        raw = self.nodes.get(self._config.node_name) if self.nodes is not None else None
        if raw is not self._seen[0]:
            found = (Node(), {}) if raw is None else _decode(raw)
            self._seen = (raw, *found)
            self.on_change()
        return self._seen[1], self._seen[2]


def _decode(raw: msgspec.Raw) -> tuple[Node, Document]:
    return msgspec.json.decode(raw, type=Node), msgspec.json.decode(raw, type=Stored).status

"""The pods of this node: those bound to it, and what is left of those that are gone. What the loop works through."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from agents.kubelet import seen as look
from agents.kubelet import shutdown
from agents.kubelet.admit import admit, pressed
from agents.kubelet.apply import Hands, about
from agents.kubelet.checks import target_of
from agents.kubelet.eviction import Crossed
from agents.kubelet.memory import Memory, Stored
from agents.kubelet.observer import Listing
from agents.kubelet.plan import container_of
from agents.kubelet.probes import Subject
from agents.kubelet.runtime import ContainerStatus, Sandbox
from agents.kubelet.views import Container, Pod, PodSpec, read_pod
from labctl.kube.events import Recorder
from labctl.kube.meta import ObjectMeta
from labctl.runtime.clock import Clock, parse_time

Document = dict[str, Any]

_log = logging.getLogger(__name__)


class PodSource(Protocol):
    """The pods bound to this node: an informer."""

    @property
    def synced(self) -> bool:
        """Whether a whole list has arrived."""
        ...

    def snapshot(self) -> Mapping[str, msgspec.Raw]:
        """Every pod, still encoded, by key."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What the loop must know of the node at the moment."""

    host_ip: str
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, int] = field(default_factory=dict)  # CPU in thousandths, the rest in units
    network_ready: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
    shutting_down: bool = False
    pressures: frozenset[str] = frozenset()  # the node's conditions that are True
    short: Sequence[Crossed] = ()  # what is short, by the last look at the machine
    looks: int = 0  # at the machine, so far


class _Headed(msgspec.Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()


@dataclass(frozen=True, slots=True)
class _Decoded:
    raw: msgspec.Raw
    uid: str
    pod: Pod | None
    base: Document


class Roster:
    """A memory for every pod that this node has to do with. Used by one thread."""

    def __init__(self, pods: PodSource, hands: Hands, recorder: Recorder, clock: Clock) -> None:
        self._pods, self._hands, self._recorder, self._clock = pods, hands, recorder, clock
        self.memories: dict[str, Memory] = {}  # by uid
        self._present: frozenset[str] = frozenset()
        self._decoded: dict[str, _Decoded] = {}
        self._orphans_of = 0

    @property
    def synced(self) -> bool:
        """Whether the API has told all pods of this node at least once."""
        return self._pods.synced

    def take(self, listing: Listing, facts: Facts, now_s: float) -> None:
        """Bring the memories up to date with the API and with what the node keeps."""
        self._take_pods(listing, facts, now_s)
        self._take_orphans(listing, now_s)

    def forget(self, uid: str) -> None:
        """Nothing is left of a pod; it is forgotten once the API has forgotten it too."""
        if uid not in self._present:
            self.memories.pop(uid, None)

    def _take_pods(self, listing: Listing, facts: Facts, now_s: float) -> None:
        fresh: dict[str, _Decoded] = {}
        for key, raw in self._pods.snapshot().items():
            old = self._decoded.get(key)
            fresh[key] = old if old is not None and old.raw is raw else _decode(key, raw)
        self._decoded = fresh
        self._present = frozenset(entry.uid for entry in fresh.values())
        readable = [(entry.pod, entry.base) for entry in fresh.values() if entry.pod is not None]
        for pod, base in sorted(readable, key=lambda pair: pair[0].metadata.creation_timestamp):
            uid = pod.metadata.uid
            memory = self.memories.get(uid)
            if memory is None:
                memory = self.memories[uid] = Memory(pod, since_s=now_s - self._age_s(base))
                memory.take(pod, base)
                self._admit(memory, uid in listing.containers, facts)
            elif memory.revision != pod.metadata.resource_version:
                memory.take(pod, base)
                flight = memory.flights.get("status")
                if flight is not None and flight.done:
                    del memory.flights["status"]  # what it failed on may have changed
        for uid, memory in self.memories.items():
            memory.removed = memory.confirmed or uid not in self._present

    def _take_orphans(self, listing: Listing, now_s: float) -> None:
        """Whatever the node keeps for pods that the API does not know is to be removed."""
        if listing.number == self._orphans_of:
            return
        self._orphans_of = listing.number
        here = listing.containers.keys() | listing.sandboxes.keys() | self._hands.kept_pods()
        for uid in here - self.memories.keys() - self._present:
            entries = listing.containers.get(uid, ())
            sandbox = listing.sandboxes.get(uid)
            pod = _stand_in(uid, entries, sandbox)
            _log.info("cleaning up after a pod that is gone", extra={"kv": {"pod": pod.key, "uid": uid}})
            self.memories[uid] = Memory(pod, removed=True, since_s=now_s)

    def _admit(self, memory: Memory, has_containers: bool, facts: Facts) -> None:
        pod = memory.pod
        if has_containers or memory.base.get("startTime") or pod.terminating or memory.base.get("reason"):
            return
        others = [other.pod for other in self.memories.values() if other is not memory and _counts(other)]
        memory.rejection = shutdown.REFUSED if facts.shutting_down else None
        memory.rejection = memory.rejection or pressed(pod, facts.pressures)
        memory.rejection = memory.rejection or admit(pod, others, allocatable=facts.allocatable, labels=facts.labels)
        if memory.rejection is not None:
            self._recorder.warning(about(pod), memory.rejection.reason, memory.rejection.message)

    def _age_s(self, base: Document) -> float:
        """Seconds since the pod's startTime. The only time that stamps meet our clock: once, at first sight."""
        try:
            return max(0.0, (self._clock.now() - parse_time(str(base["startTime"]))).total_seconds())
        except (KeyError, ValueError):
            return 0.0

    def read_messages(self, memory: Memory, containers: tuple[ContainerStatus, ...]) -> None:
        """Take in what containers that died since left for us; forget those of removed ones."""
        here = {entry.id for entry in containers}
        memory.messages = {identity: text for identity, text in memory.messages.items() if identity in here}
        for entry in containers:
            if entry.phase == "exited" and entry.id not in memory.messages:
                text = self._hands.termination_message(memory.pod, entry.name, entry.attempt)
                memory.messages[entry.id] = text

    def subjects(self, listing: Listing) -> dict[str, Subject]:
        """The running containers that have probes."""
        found: dict[str, Subject] = {}
        now = self._clock.now().timestamp()
        for uid, memory in self.memories.items():
            sandbox = listing.sandboxes.get(uid)
            if memory.removed or sandbox is None:
                continue
            address = self._hands.machine.node_ip if memory.pod.spec.host_network else sandbox.address
            for entry in listing.containers.get(uid, ()):
                container = container_of(memory.pod, entry.name)
                if entry.phase == "running" and container is not None and _probed(container):
                    target = target_of(entry.id, address, container)
                    was_ready = _was_ready(memory.base, entry.id)
                    found[entry.id] = Subject(container, target, now - entry.started_s, was_ready, memory.pod)
        return found


def _decode(key: str, raw: msgspec.Raw) -> _Decoded:
    """A pod that cannot be read is told in the log, and left as it is: it is no orphan."""
    try:
        pod = read_pod(raw)
        return _Decoded(raw, pod.metadata.uid, pod, msgspec.json.decode(raw, type=Stored).status)
    except msgspec.MsgspecError as error:
        _log.error("pod %s cannot be read: %s", key, error)
        return _Decoded(raw, msgspec.json.decode(raw, type=_Headed).metadata.uid, None, {})


def _counts(memory: Memory) -> bool:
    """Whether a pod takes room on this node."""
    return memory.rejection is None and not memory.removed and memory.pod.status.phase not in {"Succeeded", "Failed"}


def _stand_in(uid: str, entries: tuple[ContainerStatus, ...], sandbox: Sandbox | None) -> Pod:
    """As much of a pod as its remains tell."""
    ref = entries[0].pod if entries else sandbox.pod if sandbox else None
    graces = [int(text) for entry in entries if (text := entry.labels.get(look.GRACE, "")).isdecimal()]
    meta = ObjectMeta(uid=uid, namespace=ref.namespace if ref else "", name=ref.name if ref else "")
    return Pod(metadata=meta, spec=PodSpec(termination_grace_period_seconds=max(graces, default=1)))


def _probed(container: Container) -> bool:
    return bool(container.startup_probe or container.liveness_probe or container.readiness_probe)


def _was_ready(base: Document, container_id: str) -> bool:
    """Whether the API was told that this very container is ready."""
    told = [*(base.get("containerStatuses") or ()), *(base.get("initContainerStatuses") or ())]
    return any(entry.get("containerID") == f"containerd://{container_id}" and entry.get("ready") for entry in told)

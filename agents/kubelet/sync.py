"""The kubelet's loop: observe, plan, apply. It holds no policy: plan and status decide, `Hands` carries out.

One thread decides for every pod; operations run in lanes of their own and come back as completions. All state is
rebuilt from the runtime's labels and the API, so the process may die at any instant. Nothing is removed as an orphan
before a list from the API has been seen.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import msgspec

from agents.kubelet import plan as planning
from agents.kubelet import seen as look
from agents.kubelet import status
from agents.kubelet.admit import admit
from agents.kubelet.apply import Hands, about
from agents.kubelet.checks import Checker, target_of
from agents.kubelet.memory import RETRY_S, Memory, Stored, flight_key
from agents.kubelet.observer import Listing, Observer
from agents.kubelet.plan import (
    CleanUp,
    DeletePod,
    Forget,
    Instruction,
    MakeSandbox,
    PrepareVolumes,
    Remove,
    RemoveSandbox,
    Start,
    Stop,
)
from agents.kubelet.probes import Kind, Probes, Subject
from agents.kubelet.runtime import ContainerStatus, RuntimeFailure, Sandbox
from agents.kubelet.seen import Failure, Seen
from agents.kubelet.views import Container, Meta, Pod, PodSpec, read_pod
from labctl.kube.client import Client
from labctl.kube.errors import ApiError, Conflict, NotFound
from labctl.kube.events import Recorder
from labctl.kube.resources import PODS
from labctl.kube.timing import Profile
from labctl.runtime.clock import Clock, parse_time
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop as StopRequest
from labctl.runtime.loop import Wake

Document = dict[str, Any]
VOLUME_REFRESH_S = 60.0
_IDLE_S = 3600.0
_WAITS_FOR_LIST_S = 1.0

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


class Executor(Protocol):
    """Runs an operation in one of the lanes `runtime`, `stop`, `api`; in line, for tests and the simulation."""

    def submit(self, lane: str, work: Callable[[], None]) -> None:
        """Run it, now or soon."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What the loop must know of the node at the moment."""

    host_ip: str
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, int] = field(default_factory=dict)  # CPU in thousandths, the rest in units
    network_ready: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop is put together from."""

    client: Client
    recorder: Recorder
    clock: Clock
    timing: Profile
    hands: Hands
    checker: Checker
    observer: Observer
    pods: PodSource
    executor: Executor
    facts: Callable[[], Facts]


@dataclass(frozen=True, slots=True)
class _Completion:
    uid: str
    key: str
    failure: Failure | None
    settled_by: int
    answer: Document | None = None
    wanted: Document | None = None


class _Headed(msgspec.Struct, frozen=True):
    metadata: Meta = Meta()


@dataclass(frozen=True, slots=True)
class _Decoded:
    raw: msgspec.Raw
    uid: str
    pod: Pod | None
    base: Document


class Sync:
    """See the module. `step` decides once; `run` does so whenever something changed."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._clock = parts, parts.clock
        self.wake = Wake()
        self.probes = Probes(parts.checker, parts.clock, on_change=self.wake.ring, on_failure=self._probe_failed)
        self._memories: dict[str, Memory] = {}
        self._present: frozenset[str] = frozenset()
        self._decoded: dict[str, _Decoded] = {}
        self._completions: deque[_Completion] = deque()
        self._orphans_of = 0
        self._refreshed_s = parts.clock.monotonic_s()

    def run(self, stop: StopRequest) -> None:
        """Decide whenever woken or due, until `stop`."""
        while not stop.is_set():
            try:
                wait_s = self.step()
            except Exception:
                _log.exception("a pass over the pods failed")
                wait_s = RETRY_S
            self.wake.wait_s(min(wait_s, _IDLE_S))

    def step(self) -> float:
        """One pass over every pod; seconds until the next is due by itself."""
        now_s = self._clock.monotonic_s()
        self._land(now_s)
        listing = self._parts.observer.latest
        if listing is None or not self._parts.pods.synced:
            return _WAITS_FOR_LIST_S
        facts = self._parts.facts()
        self._take_pods(listing, facts, now_s)
        self._take_orphans(listing, now_s)
        self.probes.follow(self._subjects(listing))
        verdicts = self.probes.verdicts()
        refresh = now_s - self._refreshed_s >= VOLUME_REFRESH_S
        if refresh:
            self._refreshed_s = now_s
        wait_s = self._refreshed_s + VOLUME_REFRESH_S - now_s
        for memory in list(self._memories.values()):
            uid = memory.pod.metadata.uid
            resting_s = memory.settle(listing.number, now_s)
            containers = listing.containers.get(uid, ())
            self._read_messages(memory, containers)
            seen = memory.see(now_s, containers, listing.sandboxes.get(uid), verdicts, facts.network_ready)
            if refresh:
                self._refresh_volumes(memory, seen)
            wait_s = min(wait_s, resting_s, self._decide(memory, seen, facts))
        return max(0.0, 0.0 if self._completions else wait_s)

    # -- what is there

    def pods(self) -> list[Pod]:
        """The pods this node has, as last decided on; for the kubelet's own API."""
        return [memory.pod for memory in list(self._memories.values()) if not memory.removed]

    def _take_pods(self, listing: Listing, facts: Facts, now_s: float) -> None:
        fresh: dict[str, _Decoded] = {}
        for key, raw in self._parts.pods.snapshot().items():
            old = self._decoded.get(key)
            fresh[key] = old if old is not None and old.raw is raw else _decode(key, raw)
        self._decoded = fresh
        self._present = frozenset(entry.uid for entry in fresh.values())
        readable = [(entry.pod, entry.base) for entry in fresh.values() if entry.pod is not None]
        for pod, base in sorted(readable, key=lambda pair: pair[0].metadata.creation_timestamp):
            uid = pod.metadata.uid
            memory = self._memories.get(uid)
            if memory is None:
                memory = self._memories[uid] = Memory(pod, since_s=now_s - self._age_s(base))
                memory.take(pod, base)
                self._admit(memory, uid in listing.containers, facts)
            elif memory.revision != pod.metadata.resource_version:
                memory.take(pod, base)
                flight = memory.flights.get("status")
                if flight is not None and flight.done:
                    del memory.flights["status"]  # what it failed on may have changed
        for uid, memory in self._memories.items():
            memory.removed = memory.confirmed or uid not in self._present

    def _take_orphans(self, listing: Listing, now_s: float) -> None:
        """Whatever the node keeps for pods that the API does not know is to be removed."""
        if listing.number == self._orphans_of:
            return
        self._orphans_of = listing.number
        here = listing.containers.keys() | listing.sandboxes.keys() | self._parts.hands.kept_pods()
        for uid in here - self._memories.keys() - self._present:
            entries = listing.containers.get(uid, ())
            sandbox = listing.sandboxes.get(uid)
            pod = _stand_in(uid, entries, sandbox)
            _log.info("cleaning up after a pod that is gone", extra={"kv": {"pod": pod.key, "uid": uid}})
            self._memories[uid] = Memory(pod, removed=True, since_s=now_s)

    def _admit(self, memory: Memory, has_containers: bool, facts: Facts) -> None:
        pod = memory.pod
        if has_containers or memory.base.get("startTime") or pod.terminating or memory.base.get("reason"):
            return
        others = [other.pod for other in self._memories.values() if other is not memory and _counts(other)]
        memory.rejection = admit(pod, others, allocatable=facts.allocatable, labels=facts.labels)
        if memory.rejection is not None:
            self._parts.recorder.warning(about(pod), memory.rejection.reason, memory.rejection.message)

    def _age_s(self, base: Document) -> float:
        """Seconds since the pod's startTime. The only time that stamps meet our clock: once, at first sight."""
        try:
            return max(0.0, (self._clock.now() - parse_time(str(base["startTime"]))).total_seconds())
        except (KeyError, ValueError):
            return 0.0

    def _read_messages(self, memory: Memory, containers: tuple[ContainerStatus, ...]) -> None:
        for entry in containers:
            if entry.phase == "exited" and entry.id not in memory.messages:
                text = self._parts.hands.termination_message(memory.pod, entry.name, entry.attempt)
                memory.messages[entry.id] = text

    def _subjects(self, listing: Listing) -> dict[str, Subject]:
        """The running containers that have probes."""
        found: dict[str, Subject] = {}
        now = self._clock.now().timestamp()
        for uid, memory in self._memories.items():
            sandbox = listing.sandboxes.get(uid)
            if memory.removed or sandbox is None:
                continue
            address = self._parts.hands.machine.node_ip if memory.pod.spec.host_network else sandbox.address
            for entry in listing.containers.get(uid, ()):
                container = planning.container_of(memory.pod, entry.name)
                if entry.phase == "running" and container is not None and _probed(container):
                    target = target_of(entry.id, address, container)
                    was_ready = _was_ready(memory.base, entry.id)
                    found[entry.id] = Subject(container, target, now - entry.started_s, was_ready, memory.pod)
        return found

    # -- what is done

    def _decide(self, memory: Memory, seen: Seen, facts: Facts) -> float:
        place = status.Place(facts.host_ip, self._parts.timing, self._clock.now())
        wanted = status.render(memory.pod, seen, memory.base, place)
        diff = status.changes(memory.base, wanted)
        reported = memory.final or not diff or memory.told == (wanted, diff)
        memory.final = memory.final or (reported and planning.all_dead(memory.pod, seen))
        seen = replace(seen, reported=reported)
        decided = planning.plan(memory.pod, seen, self._parts.timing)
        for step in decided.instructions:
            self._begin(memory, step, seen)
        self._tell_backoff(memory, wanted)
        if not reported and not memory.removed and "status" not in memory.flights:
            self._write_status(memory, wanted, diff)
        return min(decided.wake_after_s, look.next_word_s(seen, self._parts.timing))

    def _begin(self, memory: Memory, step: Instruction, seen: Seen) -> None:
        uid = memory.pod.metadata.uid
        if isinstance(step, Forget):
            if uid not in self._present:
                self._memories.pop(uid, None)
            return
        key = flight_key(step)
        if key in memory.flights:
            return
        by_s = seen.now_s + step.grace_s if isinstance(step, Stop) else 0.0
        memory.launch(key, step, by_s=by_s)
        lane = "stop" if isinstance(step, Stop) else "api" if isinstance(step, DeletePod) else "runtime"
        self._submit(lane, uid, key, self._work(memory.pod, step, seen.sandbox))

    def _work(self, pod: Pod, step: Instruction, sandbox: Sandbox | None) -> Callable[[], object]:
        hands = self._parts.hands
        if isinstance(step, Start):
            assert sandbox is not None
            return partial(hands.start, pod, step, sandbox)
        if isinstance(step, Stop):
            return partial(hands.stop, pod, step, sandbox)
        if isinstance(step, Remove):
            return partial(hands.remove, step.id)
        simple: dict[type, Callable[[Pod], None]] = {
            MakeSandbox: hands.make_sandbox,
            PrepareVolumes: hands.prepare_volumes,
            RemoveSandbox: hands.remove_sandbox,
            CleanUp: hands.clean_up,
            DeletePod: hands.delete_pod,
        }
        return partial(simple[type(step)], pod)

    def _refresh_volumes(self, memory: Memory, seen: Seen) -> None:
        """Config maps and secrets follow their objects, about every minute as upstream."""
        pod = memory.pod
        follows = any(v.config_map or v.secret or v.projected or v.downward_api for v in pod.spec.volumes)
        alive = any(entry.phase == "running" for entry in seen.containers) and not pod.terminating and not seen.removed
        if follows and alive and seen.volumes_ready:
            self._begin(memory, PrepareVolumes(), seen)

    def _write_status(self, memory: Memory, wanted: Document, diff: Document) -> None:
        """A merge patch on condition of uid and revision: never onto another pod, never over news we have not seen."""
        meta = memory.pod.metadata
        head = {"uid": meta.uid, "resourceVersion": memory.base_revision or meta.resource_version}
        body = {"metadata": head, "status": diff}
        memory.launch("status", None)

        def write() -> tuple[Document, Document]:
            answer = self._parts.client.patch(PODS, meta.name, body, meta.namespace, subresource="status")
            return answer, wanted

        self._submit("api", meta.uid, "status", write)

    def _submit(self, lane: str, uid: str, key: str, work: Callable[[], object]) -> None:
        self._parts.executor.submit(lane, partial(self._perform, uid, key, work))

    def _perform(self, uid: str, key: str, work: Callable[[], object]) -> None:
        """In the lane's thread: do it, and tell how it went."""
        failure, answer, wanted = None, None, None
        try:
            result = work()
            if isinstance(result, tuple):
                answer, wanted = result
        except (NotFound, Conflict) as error:
            failure = Failure(error.reason, str(error), 1, self._clock.monotonic_s())
        except LabError as error:
            failure = Failure(_reason(error), str(error), 1, self._clock.monotonic_s())
            _log.warning("%s failed: %s", key, error, extra={"kv": {"uid": uid}})
        except Exception as error:
            failure = Failure("InternalError", repr(error), 1, self._clock.monotonic_s())
            _log.exception("%s crashed", key, extra={"kv": {"uid": uid}})
        self._completions.append(
            _Completion(uid, key, failure, self._parts.observer.ask(), answer, wanted)
        )
        self.wake.ring()

    def _land(self, now_s: float) -> None:
        while self._completions:
            done = self._completions.popleft()
            memory = self._memories.get(done.uid)
            if memory is None or done.key not in memory.flights:
                continue
            memory.land(done.key, done.failure, now_s=now_s, settled_by=done.settled_by)
            if done.answer is not None and done.wanted is not None:
                answered = done.answer.get("status") or {}
                memory.wrote(done.answer, done.wanted, status.changes(answered, done.wanted))

    def _tell_backoff(self, memory: Memory, wanted: Document) -> None:
        """An Event when a container begins to wait for its next try."""
        for kind in ("containerStatuses", "initContainerStatuses"):
            before = {entry["name"]: _waiting(entry)[0] for entry in memory.base.get(kind) or ()}
            for entry in wanted[kind] or ():
                reason, message = _waiting(entry)
                if reason in {"CrashLoopBackOff", "ImagePullBackOff"} and before.get(entry["name"]) != reason:
                    container = planning.container_of(memory.pod, entry["name"])
                    self._parts.recorder.warning(about(memory.pod, container), "BackOff", message)

    def _probe_failed(self, pod: object, container: Container, kind: Kind, message: str) -> None:
        """Told by the probes: an Event, as upstream."""
        if isinstance(pod, Pod):
            words = f"{kind.capitalize()} probe failed: {message}"
            self._parts.recorder.warning(about(pod, container), "Unhealthy", words)


def _decode(key: str, raw: msgspec.Raw) -> _Decoded:
    """A pod that cannot be read is told in the log, and left as it is: it is no orphan."""
    try:
        pod = read_pod(raw)
        return _Decoded(raw, pod.metadata.uid, pod, msgspec.json.decode(raw, type=Stored).status)
    except msgspec.MsgspecError as error:
        _log.error("pod %s cannot be read: %s", key, error)
        return _Decoded(raw, msgspec.json.decode(raw, type=_Headed).metadata.uid, None, {})


def _reason(error: LabError) -> str:
    if isinstance(error, RuntimeFailure | ApiError):
        return error.reason
    return look.CONFIG_REASON


def _waiting(entry: Mapping[str, Any]) -> tuple[str, str]:
    waiting = (entry.get("state") or {}).get("waiting") or {}
    return str(waiting.get("reason", "")), str(waiting.get("message", ""))


def _counts(memory: Memory) -> bool:
    """Whether a pod takes room on this node."""
    return memory.rejection is None and not memory.removed and memory.pod.status.phase not in {"Succeeded", "Failed"}


def _stand_in(uid: str, entries: tuple[ContainerStatus, ...], sandbox: Sandbox | None) -> Pod:
    """As much of a pod as its remains tell."""
    ref = entries[0].pod if entries else sandbox.pod if sandbox else None
    graces = [int(text) for entry in entries if (text := entry.labels.get(look.GRACE, "")).isdecimal()]
    meta = Meta(uid=uid, namespace=ref.namespace if ref else "", name=ref.name if ref else "")
    return Pod(metadata=meta, spec=PodSpec(termination_grace_period_seconds=max(graces, default=1)))


def _probed(container: Container) -> bool:
    return bool(container.startup_probe or container.liveness_probe or container.readiness_probe)


def _was_ready(base: Document, container_id: str) -> bool:
    """Whether the API was told that this very container is ready."""
    told = [*(base.get("containerStatuses") or ()), *(base.get("initContainerStatuses") or ())]
    return any(entry.get("containerID") == f"containerd://{container_id}" and entry.get("ready") for entry in told)

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

from agents.kubelet import plan as planning
from agents.kubelet import seen as look
from agents.kubelet import status
from agents.kubelet.apply import Hands, about
from agents.kubelet.checks import Checker
from agents.kubelet.end import End
from agents.kubelet.evictor import Evictor
from agents.kubelet.memory import RETRY_S, Memory, flight_key
from agents.kubelet.observer import Observer
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
from agents.kubelet.probes import Kind, Probes
from agents.kubelet.roster import Facts, PodSource, Roster
from agents.kubelet.runtime import RuntimeFailure, Sandbox
from agents.kubelet.seen import Failure, Seen
from agents.kubelet.self_fencing import Fencing, Unfenced
from agents.kubelet.views import Container, Pod
from labctl.kube.client import Client
from labctl.kube.errors import ApiError, Conflict, NotFound
from labctl.kube.events import Recorder
from labctl.kube.resources import PODS
from labctl.kube.timing import Profile
from labctl.runtime.clock import Clock
from labctl.runtime.errors import LabError
from labctl.runtime.loop import Stop as StopRequest
from labctl.runtime.loop import Wake

Document = dict[str, Any]
VOLUME_REFRESH_S = 60.0
_IDLE_S = 3600.0
_WAITS_FOR_LIST_S = 1.0

_log = logging.getLogger(__name__)


class Executor(Protocol):
    """Runs an operation in one of the lanes `runtime`, `stop`, `api`; in line, for tests and the simulation."""

    def submit(self, lane: str, work: Callable[[], None]) -> None:
        """Run it, now or soon."""
        ...


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
    fencing: Fencing = field(default_factory=Unfenced)
    evictor: Evictor | None = None  # None: no pod is given up for want of room


@dataclass(frozen=True, slots=True)
class _Written:
    answer: Document  # the pod as the API has it now
    wanted: Document
    residue: Document  # how its status differs from ours even so


@dataclass(frozen=True, slots=True)
class _Completion:
    uid: str
    key: str
    failure: Failure | None
    settled_by: int
    written: _Written | None = None


class Sync:
    """See the module. `step` decides once; `run` does so whenever something changed."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._clock = parts, parts.clock
        self.wake = Wake()
        self.probes = Probes(parts.checker, parts.clock, on_change=self.wake.ring, on_failure=self._probe_failed)
        self.roster = Roster(parts.pods, parts.hands, parts.recorder, parts.clock)
        self._completions: deque[_Completion] = deque()
        self._refreshed_s = parts.clock.monotonic_s()
        self._end = End()

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
        if listing is None or not self.roster.synced:
            return _WAITS_FOR_LIST_S
        facts = self._parts.facts()
        self.roster.take(listing, facts, now_s)
        fencing = self._parts.fencing
        fencing.follow({uid: memory.pod for uid, memory in self.roster.memories.items()}, facts.annotations)
        self.probes.follow(self.roster.subjects(listing))
        verdicts = self.probes.verdicts()
        refresh = now_s - self._refreshed_s >= VOLUME_REFRESH_S
        if refresh:
            self._refreshed_s = now_s
        wait_s = self._refreshed_s + VOLUME_REFRESH_S - now_s
        for memory in list(self.roster.memories.values()):
            uid = memory.pod.metadata.uid
            resting_s = memory.settle(listing.number, now_s)
            containers = listing.containers.get(uid, ())
            self.roster.read_messages(memory, containers)
            memory.hold(fencing.held(uid), containers, self._clock.now().timestamp())
            seen = memory.see(now_s, containers, listing.sandboxes.get(uid), verdicts, facts.network_ready)
            if refresh:
                self._refresh_volumes(memory, seen)
            wait_s = min(wait_s, resting_s, self._decide(memory, seen, facts))
        ending_s = self._end.step(self.roster.memories.values(), listing.containers, now_s, self._parts.timing)
        wait_s = min(wait_s, ending_s)
        evictor, memories = self._parts.evictor, self.roster.memories
        if evictor is not None and evictor.step(memories, listing.containers, facts, now_s):
            return 0.0
        return max(0.0, 0.0 if self._completions else wait_s)

    def end_pods(self, within_s: float) -> bool:
        """The machine goes down: end the pods in order; whether that was through in time. Called by another thread."""
        self._end.asked.set()
        self.wake.ring()
        return self._end.over.wait(within_s)

    def pods(self) -> list[Pod]:
        """The pods this node has, as last decided on; for the kubelet's own API."""
        return [memory.pod for memory in list(self.roster.memories.values()) if not memory.removed]

    # -- what is done

    def _decide(self, memory: Memory, seen: Seen, facts: Facts) -> float:
        place = status.Place(facts.host_ip, self._parts.timing, self._clock.now())
        wanted = status.render(memory.pod, seen, memory.base, place)
        diff = status.changes(memory.base, wanted)
        reported = memory.final or not diff or memory.told == (wanted, diff)
        memory.final = memory.final or (reported and planning.all_dead(memory.pod, seen))
        memory.reported = reported
        seen = replace(seen, reported=reported or memory.refused)
        decided = planning.plan(memory.pod, seen, self._parts.timing)
        for step in decided.instructions:
            self._begin(memory, step, seen)
        if not reported and not memory.removed and "status" not in memory.flights:
            self._tell_backoff(memory, wanted)
            self._write_status(memory, wanted, diff)
        return min(decided.wake_after_s, look.next_word_s(seen, self._parts.timing))

    def _begin(self, memory: Memory, step: Instruction, seen: Seen) -> None:
        uid = memory.pod.metadata.uid
        if isinstance(step, Forget):
            self.roster.forget(uid)
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
            return partial(self._start, pod, step, sandbox)
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

    def _start(self, pod: Pod, step: Start, sandbox: Sandbox) -> None:
        """In the lane's thread, which may have waited: what is fenced by now does not start."""
        if self._parts.fencing.held(pod.metadata.uid):
            raise RuntimeFailure("the node's Lease is not renewed: the pod may not run here now", reason="SelfFenced")
        self._parts.hands.start(pod, step, sandbox)

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

        def write() -> _Written:
            answer = self._parts.client.patch(PODS, meta.name, body, meta.namespace, subresource="status")
            return _Written(answer, wanted, status.changes(answer.get("status") or {}, wanted))

        self._submit("api", meta.uid, "status", write)

    def _submit(self, lane: str, uid: str, key: str, work: Callable[[], object]) -> None:
        self._parts.executor.submit(lane, partial(self._perform, uid, key, work))

    def _perform(self, uid: str, key: str, work: Callable[[], object]) -> None:
        """In the lane's thread: do it, and tell how it went."""
        failure, result = None, None
        begun_s = self._clock.monotonic_s()
        try:
            result = work()
        except (NotFound, Conflict) as error:
            failure = Failure(error.reason, str(error), 1, self._clock.monotonic_s())
        except LabError as error:
            failure = Failure(_reason(error), str(error), 1, self._clock.monotonic_s())
            _log.warning("%s failed: %s", key, error, extra={"kv": {"uid": uid}})
        except Exception as error:
            failure = Failure("InternalError", repr(error), 1, self._clock.monotonic_s())
            _log.exception("%s crashed", key, extra={"kv": {"uid": uid}})
        took_s = round(self._clock.monotonic_s() - begun_s, 3)
        _log.debug("%s %s", key, "failed" if failure else "done", extra={"kv": {"uid": uid, "took_s": took_s}})
        written = result if isinstance(result, _Written) else None
        self._completions.append(_Completion(uid, key, failure, self._parts.observer.ask(), written))
        self.wake.ring()

    def _land(self, now_s: float) -> None:
        while self._completions:
            done = self._completions.popleft()
            memory = self.roster.memories.get(done.uid)
            if memory is None or done.key not in memory.flights:
                continue
            memory.land(done.key, done.failure, now_s=now_s, settled_by=done.settled_by)
            if done.written is not None:
                memory.wrote(done.written.answer, done.written.wanted, done.written.residue)

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


def _reason(error: LabError) -> str:
    if isinstance(error, RuntimeFailure | ApiError):
        return error.reason
    return look.CONFIG_REASON


def _waiting(entry: Mapping[str, Any]) -> tuple[str, str]:
    waiting = (entry.get("state") or {}).get("waiting") or {}
    return str(waiting.get("reason", "")), str(waiting.get("message", ""))

"""What the kubelet remembers of a pod between two looks at it. Losing it costs time, never correctness."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from agents.kubelet.plan import (
    CleanUp,
    DeletePod,
    Instruction,
    MakeSandbox,
    PrepareVolumes,
    Remove,
    RemoveSandbox,
    Start,
    Stop,
)
from agents.kubelet.runtime import ContainerStatus, Sandbox
from agents.kubelet.seen import SANDBOX_SLOT, VOLUMES_SLOT, Failure, Rejection, Seen, Verdict
from agents.kubelet.views import Pod, PodStatus

Document = dict[str, Any]
_REFUSALS = frozenset({"Invalid", "BadRequest"})

_STOPPED = frozenset({137, 143})  # the exit codes of SIGKILL and SIGTERM

RETRY_S, RETRY_CAP_S = 0.5, 10.0
REFUSED_CAP_S = 60.0
API_RETRY_CAP_S = 2.0  # what waits for the API goes on soon after it is back; not what it forbids


class Stored(msgspec.Struct, frozen=True):
    """A pod's status as the API has it, as a document."""

    status: Document = {}


@dataclass(slots=True)
class Flight:
    """An operation under way; once done, listing `settled_by` shows its effect, and it rests until `not_before_s`."""

    step: Instruction | None
    by_s: float = 0.0
    done: bool = False
    settled_by: int = 0
    not_before_s: float = 0.0


@dataclass(slots=True)
class Memory:
    """One pod, by uid."""

    pod: Pod
    revision: str = ""
    base: Document = field(default_factory=dict)  # the status that the API has, our own last write included
    base_revision: str = ""
    told: tuple[Document, Document] | None = None  # what we last wrote, and how the API's version of it differs
    failures: dict[str, Failure] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)
    exited_s: dict[str, float] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    flights: dict[str, Flight] = field(default_factory=dict)
    volumes_ready: bool = False
    clean: bool = False
    final: bool = False  # the API has the last word on a pod that is being deleted
    reported: bool = False  # the API has the status of the last look
    refused: bool = False  # the API calls our status invalid: no deletion waits for it
    removed: bool = False
    confirmed: bool = False  # the API has been told that nothing is left
    rejection: Rejection | None = None
    since_s: float = 0.0  # when the pod started, on our monotonic clock
    looked: bool = False  # its containers have been seen before
    held_until_s: float = 0.0  # by the wall clock: what is dead by then may have been stopped by self-fencing
    spared: frozenset[str] = frozenset()  # ids of the containers that were

    def take(self, pod: Pod, status: Document) -> None:
        """A version of the pod from the API; an older one than our own last write is passed over."""
        revision = pod.metadata.resource_version
        self.revision = revision
        if not _older(revision, self.base_revision):
            self.base, self.base_revision = status, revision
        else:
            pod = _with_status(pod, self.base)
        self.pod = pod

    def wrote(self, answer: Mapping[str, Any], wanted: Document, residue: Document) -> None:
        """The API has taken our status; `answer` is the pod as of then: the watch may have told of newer."""
        self.told, self.refused = (wanted, residue), False
        revision = str((answer.get("metadata") or {}).get("resourceVersion") or "")
        if _older(revision, self.base_revision):
            return
        self.base, self.base_revision = dict(answer.get("status") or {}), revision
        self.pod = _with_status(self.pod, self.base)

    def hold(self, held: bool, containers: tuple[ContainerStatus, ...], wall_s: float) -> None:
        """Take note of what self-fencing stops while it holds the pod: such an end is no crash. Call before `see`.

        The end may be seen a little after the hold is over. Of what was dead when we first looked the exit code tells.
        """
        if held:
            self.held_until_s = math.inf
        elif self.held_until_s == math.inf:
            self.held_until_s = wall_s
        dead = {entry.id: entry for entry in containers if entry.phase == "exited"}
        news = (entry for entry in dead.values() if entry.id not in self.exited_s)
        stopped = {
            entry.id
            for entry in news
            if entry.finished_s <= self.held_until_s
            and (self.looked or (entry.exit_code in _STOPPED and not entry.oom_killed))
        }
        self.spared = (self.spared | stopped) & dead.keys()
        self.looked = True

    def see(
        self,
        now_s: float,
        containers: tuple[ContainerStatus, ...],
        sandbox: Sandbox | None,
        verdicts: Mapping[str, Verdict],
        network_ready: bool,
    ) -> Seen:
        """The snapshot that plan and status work on."""
        dead = {entry.id for entry in containers if entry.phase == "exited"}
        self.exited_s = {identity: self.exited_s.get(identity, now_s) for identity in dead}
        flying = {key: flight for key, flight in self.flights.items() if flight.step is not None}
        stopping: dict[str, float] = {}
        for flight in flying.values():
            if isinstance(flight.step, Stop):
                stopping[flight.step.id] = min(flight.by_s, stopping.get(flight.step.id, flight.by_s))
        return Seen(
            now_s=now_s,
            sandbox=sandbox,
            containers=containers,
            verdicts={entry.id: verdicts[entry.id] for entry in containers if entry.id in verdicts},
            failures=dict(self.failures),
            exited_s=dict(self.exited_s),
            messages=dict(self.messages),
            starting=frozenset(flight.step.name for flight in flying.values() if isinstance(flight.step, Start)),
            stopping=stopping,
            busy=frozenset(key for key, flight in flying.items() if not isinstance(flight.step, Start | Stop)),
            volumes_ready=self.volumes_ready,
            clean=self.clean,
            reported=self.final,
            network_ready=network_ready,
            removed=self.removed,
            held=self.held_until_s == math.inf,
            spared=self.spared,
            active_s=now_s - self.since_s,
            rejection=self.rejection,
        )

    def launch(self, key: str, step: Instruction | None, *, by_s: float = 0.0) -> None:
        """An operation begins."""
        assert key not in self.flights, key
        self.flights[key] = Flight(step, by_s)

    def land(self, key: str, failure: Failure | None, *, now_s: float, settled_by: int) -> None:
        """An operation has ended. Its effect counts from listing `settled_by` on; after a failure it rests a while."""
        flight = self.flights[key]
        flight.done = True
        slot = _slot(flight.step)
        if failure is None:
            self.retries.pop(key, None)
            if slot is not None:
                self.failures.pop(slot, None)
            self._succeeded(flight.step)
        elif slot is not None:
            before = self.failures.get(slot)
            self.failures[slot] = replace(failure, count=before.count + 1 if before else 1)
        else:
            count = self.retries[key] = self.retries.get(key, 0) + 1
            self.refused = self.refused or (flight.step is None and failure.reason in _REFUSALS)
            asks = flight.step is None or isinstance(flight.step, DeletePod)
            cap_s = API_RETRY_CAP_S if asks and failure.reason != "Forbidden" else RETRY_CAP_S
            cap_s = REFUSED_CAP_S if self.refused else cap_s
            flight.not_before_s = now_s + min(cap_s, RETRY_S * 2.0 ** min(count - 1, 30))
        if isinstance(flight.step, PrepareVolumes | CleanUp | DeletePod) or flight.step is None:
            settled_by = 0  # their effect is no part of a listing
        flight.settled_by = settled_by

    def settle(self, listing: int, now_s: float) -> float:
        """Drop operations whose effect is visible now; seconds until the next resting one may be tried again."""
        wait_s = float("inf")
        for key, flight in list(self.flights.items()):
            if not flight.done or flight.settled_by > listing:
                continue
            if flight.not_before_s <= now_s:
                del self.flights[key]
            else:
                wait_s = min(wait_s, flight.not_before_s - now_s)
        return wait_s

    def _succeeded(self, step: Instruction | None) -> None:
        if isinstance(step, PrepareVolumes):
            self.volumes_ready, self.clean = True, False
        elif isinstance(step, CleanUp):
            self.clean, self.volumes_ready = True, False
        elif isinstance(step, DeletePod):
            self.confirmed = True


def flight_key(step: Instruction) -> str:
    """The name an operation goes by; plan knows those of `busy`."""
    if isinstance(step, Start):
        return f"start:{step.name}"
    if isinstance(step, Stop):
        return f"stop:{step.id}:{step.grace_s:g}"
    if isinstance(step, Remove):
        return f"remove:{step.id}"
    names: dict[type, str] = {
        MakeSandbox: "sandbox",
        PrepareVolumes: "volumes",
        RemoveSandbox: "remove-sandbox",
        CleanUp: "cleanup",
        DeletePod: "delete",
    }
    return names[type(step)]


def _slot(step: Instruction | None) -> str | None:
    """Under which name plan finds a failure of it; None: it only rests for a while."""
    if isinstance(step, Start):
        return step.name
    if isinstance(step, MakeSandbox):
        return SANDBOX_SLOT
    return VOLUMES_SLOT if isinstance(step, PrepareVolumes) else None


def _with_status(pod: Pod, status: Document) -> Pod:
    return msgspec.structs.replace(pod, status=msgspec.convert(status, PodStatus))


def _older(revision: str, than: str) -> bool:
    return revision.isdecimal() and than.isdecimal() and int(revision) < int(than)

"""What must hold after every step, whatever breaks. Each judge hears of writes, answers and containers.

Some promises are made relative to what a controller had seen: those are judged by the state it had seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from agents.kubelet.runtime import ContainerStatus
from labctl.kube.errors import ApiError
from labctl.kube.resources import PODS, Resource
from labctl.sim.api import Note, Request
from labctl.sim.load import BUDGETS, NAMESPACE
from labctl.sim.machine import Machine
from labctl.sim.parts import Controllers
from labctl.sim.promises import Promise
from labctl.sim.wire import Line
from labctl.sim.world import World

Document = dict[str, Any]
_UNDER_WAY = 10  # so many writes may come between a controller's decision and its request's arrival
_IDENTITY = "statefulset.kubernetes.io/pod-name"


def prefix(resource: Resource) -> str:
    """Where objects of a kind are kept."""
    return f"/registry/{resource.group or 'core'}/{resource.plural}/"


def standing(world: World, resource: Resource) -> dict[str, Document]:
    """Every object of a kind as the store has it now, by key."""
    return {entry.key: msgspec.json.decode(entry.value) for entry in world.api.store.list(prefix(resource)).entries}


def healthy(pod: Document) -> bool:
    """Whether a pod is ready and not on its way out."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


class Invariants:
    """See the module."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pods: dict[str, Document] = {}  # as stored now
        self._identity: dict[str, str] = {}  # of a pod uid: the StatefulSet identity
        self._node_of: dict[str, str] = {}  # of a pod uid: where it was bound
        self._ran_on: dict[str, str] = {}  # of a pod uid: where it ran
        self._evicted: list[tuple[int, str, str]] = []  # revision, uid, app label
        self._granting = ""
        self._quotas: dict[str, int] = {}
        self._given_up: set[str] = set()  # uids of pods that somebody said are gone, while their machine ran
        self._judged: dict[str, int] = {}  # of a budget's key: up to which revision its controller had seen the pods
        world.observers.append(self.wrote)
        world.answered.append(self.answered)
        for machine in world.machines.values():
            machine.changed = self.changed

    # -- what it hears

    def wrote(self, note: Note) -> None:
        """A write was stored."""
        kind = note.key.split("/", 4)[3]
        if kind == "pods":
            self._pod(note)
        elif kind == "resourcequotas":
            hard = (msgspec.json.decode(note.raw).get("spec") or {}).get("hard") or {}
            self._quotas[note.key] = int(hard.get("pods", 10**6))
        elif kind == "nodes" and note.gone:
            self._give_up(note.key.rpartition("/")[2])
        elif kind == "poddisruptionbudgets" and not note.gone:
            self._judged.setdefault(note.key, 0)

    def answered(self, line: Line, request: Request, answer: bytes | ApiError) -> None:
        """The API server answered."""
        if not request.writes or isinstance(answer, ApiError):
            return
        self._is_stored(line, request, answer)
        if line.process.name.startswith("controllers@") and "/poddisruptionbudgets/" in request.target:
            name = request.target.split("/poddisruptionbudgets/")[1].split("/")[0]
            self._judged[f"{prefix(BUDGETS)}{NAMESPACE}/{name}"] = seen(self._world, PODS)
        if request.target.endswith("/eviction"):
            self._granted(request.target.split("/")[-2])

    def changed(self, machine: Machine, status: ContainerStatus) -> None:
        """A container started or ended."""
        verb = "runs" if status.phase == "running" else "has ended"
        self._world.say(machine.name, f"container {status.name} of {status.pod.name} ({status.pod.uid[:8]}) {verb}")
        if status.phase == "running":
            self.look()

    def look(self) -> None:
        """Judge the containers that run now, on machines that are not standing still."""
        uids: dict[str, str] = {}
        identities: dict[str, tuple[str, str]] = {}
        for machine, status in self._running():
            uid = status.pod.uid
            where = uids.setdefault(uid, machine.name)
            before = self._ran_on.setdefault(uid, machine.name)
            if machine.name not in (where, before):
                told = f"pod {status.pod.name} ({uid[:8]}) runs on {machine.name} and ran on {before}"
                self._world.fail(Promise.ONE_NODE, told)
            identity = self._identity.get(uid)
            if identity is None or uid in self._given_up:
                continue
            other = identities.setdefault(identity, (uid, machine.name))
            if other[0] != uid:
                told = f"{identity} runs on {other[1]} ({other[0][:8]}) and on {machine.name} ({uid[:8]}) at once"
                self._world.fail(Promise.IDENTITY, told)

    def _running(self) -> Iterator[tuple[Machine, ContainerStatus]]:
        for machine in self._world.machines.values():
            if machine.on and not machine.paused:
                for status in machine.runtime.statuses():
                    if status.phase == "running":
                        yield machine, status

    # -- pods

    def _give_up(self, node: str) -> None:
        """Whoever deletes a Node says that its machine is gone: where it is not, its pods may run twice."""
        if self._world.machines[node].on:
            self._given_up |= {pod["metadata"]["uid"] for pod in self._pods.values() if _node(pod) == node}

    def _pod(self, note: Note) -> None:
        pod = msgspec.json.decode(note.raw)
        meta = pod["metadata"]
        uid = meta["uid"]
        if note.gone:
            self._pods.pop(note.key, None)
            return
        self._pods[note.key] = pod
        if identity := (meta.get("labels") or {}).get(_IDENTITY):
            self._identity[uid] = f"{meta['namespace']}/{identity}"
        node = _node(pod)
        if node and self._node_of.setdefault(uid, node) != node:
            told = f"pod {meta['name']} was bound to {self._node_of[uid]}, and now to {node}"
            self._world.fail(Promise.BOUND_ONCE, told)
        if self._node_of.get(uid) and not node:
            self._world.fail(Promise.BOUND_ONCE, f"pod {meta['name']} lost its node {self._node_of[uid]}")
        self._quota()

    def _quota(self) -> None:
        if not self._quotas:
            return
        used = sum((pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed") for pod in self._pods.values())
        for key, hard in self._quotas.items():
            if used > hard and self._is_enforced(key, hard):
                name = key.rpartition("/")[2]
                self._world.fail(Promise.QUOTAS, f"{used} pods, and ResourceQuota {name} allows {hard}")

    def _is_enforced(self, key: str, hard: int) -> bool:
        """Whether no more than the quota allows were there when it was made: it forbids growth, it does not delete."""
        del key
        return len(self._pods) > hard

    # -- answers

    def _is_stored(self, line: Line, request: Request, answer: bytes) -> None:
        """A write that was acknowledged is in the store, as the answer says."""
        document = msgspec.json.decode(answer)
        meta = document.get("metadata") or {}
        if request.method == "DELETE" or "resourceVersion" not in meta:
            return
        revision = int(meta["resourceVersion"])
        store = self._world.api.store
        notes = store.since(revision - 1)[:1] if revision > store.base else ()
        if revision > store.base and (not notes or meta["name"] not in notes[0].key):
            told = f"{line.process.name} was told that {request.method} {request.target} is stored, and it is not"
            self._world.fail(Promise.DURABLE, told)

    def _granted(self, name: str) -> None:
        """An eviction was let through: count what the budget's controller had seen, less what was evicted since."""
        store = self._world.api.store
        key = f"{prefix(PODS)}{NAMESPACE}/{name}"
        for budget_key, seen in self._judged.items():
            budget = store.get(budget_key)[0]
            if budget is None or not seen:
                continue
            document = msgspec.json.decode(budget.value)
            app = document["spec"]["selector"]["matchLabels"]["app"]
            evicted = self._before_this(key)
            if evicted is None or (evicted["metadata"].get("labels") or {}).get("app") != app or not healthy(evicted):
                continue
            uid = evicted["metadata"]["uid"]
            self._evicted.append((store.revision(), uid, app))
            gone = {uid for _, uid, of in self._evicted if of == app}
            left = max(len(well - gone) for well in self._well_since(seen, app))
            wanted = (document.get("status") or {}).get("desiredHealthy", 0)
            if left < wanted:
                told = f"evicting {name} left {left} healthy pods of {app}, and its budget wants {wanted}"
                self._world.fail(Promise.BUDGETS, told)

    def _well_since(self, revision: int, app: str) -> Iterator[set[str]]:
        """The uids of an app's healthy pods, then and after each write since: a status that still holds is not written.

        Its controller decided a little before its request arrived, by what it had seen then.
        """
        store = self._world.api.store
        since = max(revision - _UNDER_WAY, store.base)
        keys = {note.key for note in store.log if note.key.startswith(prefix(PODS))}
        well: dict[str, str] = {}

        def take(key: str, raw: bytes | None) -> None:
            pod = msgspec.json.decode(raw) if raw is not None else None
            well.pop(key, None)
            if pod is not None and healthy(pod) and (pod["metadata"].get("labels") or {}).get("app") == app:
                well[key] = pod["metadata"]["uid"]

        for key in keys:
            entry = store.at(key, since)
            take(key, entry.value if entry is not None else None)
        yield set(well.values())
        for note in store.since(since):
            if note.key in keys:
                take(note.key, note.value)
                yield set(well.values())

    def _before_this(self, key: str) -> Document | None:
        """The pod as the request that has just been answered found it."""
        store = self._world.api.store
        entry = store.at(key, self._world.api.began)
        return msgspec.json.decode(entry.value) if entry is not None else None


def _node(pod: Document) -> str:
    return str((pod.get("spec") or {}).get("nodeName", ""))


def seen(world: World, resource: Resource) -> int:
    """Up to which revision the controllers whose request is being performed have seen a kind; 0: not theirs."""
    part = world.parts.get(world.wire.asking)
    shared = part.shared if isinstance(part, Controllers) else None
    informer = shared.by_resource.get(resource) if shared is not None else None
    return int(informer.revision or 0) if informer is not None else 0


def known(world: World, resource: Resource) -> Iterator[Document]:
    """Every version of every object of a kind that they may have seen last: from then until now."""
    since, store = seen(world, resource), world.api.store
    for entry in store.list(prefix(resource)).entries:
        yield msgspec.json.decode(entry.value)
        if entry.revision > since and (old := store.at(entry.key, max(since, store.base))) is not None:
            yield msgspec.json.decode(old.value)
    for note in store.since(max(since, store.base)):
        if note.key.startswith(prefix(resource)) and not note.gone:
            yield msgspec.json.decode(note.raw)

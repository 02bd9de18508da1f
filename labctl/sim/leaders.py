"""Judges those of whom one leads: only the leader writes, and nothing comes of two acting at once."""

from __future__ import annotations

from typing import Any

import msgspec

from labctl.kube.errors import ApiError
from labctl.kube.resources import LEASES, PODS, REPLICA_SETS
from labctl.sim.api import Note, Request
from labctl.sim.invariants import known, prefix
from labctl.sim.parts import Elected
from labctl.sim.promises import Promise
from labctl.sim.wire import Line
from labctl.sim.world import World

Document = dict[str, Any]


class Leaders:
    """See the module."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._live: dict[str, tuple[str, str]] = {}  # pods that count for their ReplicaSet: of a key the uids of both
        world.answered.append(self.answered)
        world.observers.append(self.wrote)

    def answered(self, line: Line, request: Request, answer: bytes | ApiError) -> None:
        """What was sent while leading arrives while the Lease still says so: it lasts longer than one may write."""
        part = self._world.parts.get(line.process.name)
        if not request.writes or isinstance(answer, ApiError) or not isinstance(part, Elected):
            return
        if f"/leases/{part.lease}" in request.target or request.target.endswith("/namespaces/kube-system/leases"):
            return
        holder = self._holder(part.lease)
        if holder != part.name:
            told = f"{part.name} was let {request.method} {request.target}, and {holder or 'nobody'} leads"
            self._world.fail(Promise.LEADER, told)

    def _holder(self, lease: str) -> str:
        entry = self._world.api.store.get(f"{prefix(LEASES)}kube-system/{lease}")[0]
        spec = msgspec.json.decode(entry.value)["spec"] if entry is not None else {}
        return str(spec.get("holderIdentity") or "")

    def wrote(self, note: Note) -> None:
        """A ReplicaSet's controller creates no pod beyond what it may have seen asked for."""
        if not note.key.startswith(prefix(PODS)):
            return
        before = self._live.pop(note.key, None)
        if note.gone:
            return
        pod: Document = msgspec.json.decode(note.raw)
        meta = pod["metadata"]
        owner = next((ref["uid"] for ref in meta.get("ownerReferences") or () if ref["kind"] == "ReplicaSet"), "")
        over = meta.get("deletionTimestamp") or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if not owner or over:
            return
        self._live[note.key] = (meta["uid"], owner)
        if before is None:
            self._created(meta["name"], owner)

    def _created(self, name: str, owner: str) -> None:
        line = self._world.wire.lines.get(self._world.wire.asking)
        if line is None or line.doubt:
            return  # it may have to do again what it does not know to be done
        count = sum(its == owner for _, its in self._live.values())
        asked = [one["spec"].get("replicas", 0) for one in known(self._world, REPLICA_SETS) if _uid(one) == owner]
        if asked and count > max(asked):
            told = f"{name} is pod number {count} of its ReplicaSet, which asks for {max(asked)}"
            self._world.fail(Promise.CREATED_ONCE, told)


def _uid(document: Document) -> str:
    return str(document["metadata"]["uid"])

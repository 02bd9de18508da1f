"""Judges rollouts: never more pods than the surge allows, and while nothing else happens enough of them available."""

from __future__ import annotations

from typing import Any

import msgspec

from labctl.kube.resources import DEPLOYMENTS, PODS
from labctl.sim.api import Note
from labctl.sim.invariants import healthy, known, prefix, standing
from labctl.sim.promises import Promise
from labctl.sim.world import World

Document = dict[str, Any]


class Rollouts:
    """See the module."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._replicas: dict[str, tuple[str, int]] = {}  # of a ReplicaSet's key: its Deployment's uid, spec.replicas
        self._healthy: dict[str, str] = {}  # of a healthy pod's key: its app
        self._whole: set[str] = set()  # Deployments that had all they want since something was last done to them
        world.observers.append(self.wrote)

    def wrote(self, note: Note) -> None:
        """A write was stored."""
        if note.key.startswith("/registry/apps/replicasets/"):
            self._replica_set(note)
        elif note.key.startswith(prefix(PODS)):
            self._pod(note)

    def _pod(self, note: Note) -> None:
        self._healthy.pop(note.key, None)
        if not note.gone:
            pod = msgspec.json.decode(note.raw)
            if healthy(pod):
                self._healthy[note.key] = (pod["metadata"].get("labels") or {}).get("app", "")
        if self._world.hub.now_s < self._world.disturbed_until_s:
            self._whole.clear()
            return
        for found in standing(self._world, DEPLOYMENTS).values():
            self._judge(found)

    def _judge(self, deployment: Document) -> None:
        name, wanted = deployment["metadata"]["name"], int(deployment["spec"].get("replicas", 1))
        there = sum(app == name for app in self._healthy.values())
        if there >= wanted:
            self._whole.add(name)
        elif name in self._whole and there < wanted - _bounds(deployment)[1]:
            told = f"{there} pods of {name} are available, and at least {wanted - _bounds(deployment)[1]} have to be"
            self._world.fail(Promise.AVAILABLE, told)

    def _replica_set(self, note: Note) -> None:
        found = msgspec.json.decode(note.raw)
        owner = next((ref["uid"] for ref in found["metadata"].get("ownerReferences") or ()), "")
        before = self._replicas.get(note.key, (owner, 0))[1]
        replicas = 0 if note.gone else found["spec"].get("replicas", 0)
        self._replicas[note.key] = (owner, replicas)
        if owner and replicas > before:
            total = sum(count for uid, count in self._replicas.values() if uid == owner)
            most = max(
                (_most(one) for one in known(self._world, DEPLOYMENTS) if one["metadata"]["uid"] == owner), default=None
            )
            if most is not None and total > most:
                told = f"replica sets ask for {total} pods together, and the Deployment allows {most}"
                self._world.fail(Promise.SURGE, told)


def _most(deployment: Document) -> int:
    return int(deployment["spec"].get("replicas", 1)) + _bounds(deployment)[0]


def _bounds(deployment: Document) -> tuple[int, int]:
    """maxSurge and maxUnavailable in pods; where both come to nothing, one may be unavailable."""
    spec = deployment["spec"]
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    replicas = int(spec.get("replicas", 1))
    surge, down = rolling.get("maxSurge", "25%"), rolling.get("maxUnavailable", "25%")
    more = -(-replicas * int(surge[:-1]) // 100) if isinstance(surge, str) else int(surge)
    less = replicas * int(down[:-1]) // 100 if isinstance(down, str) else int(down)
    return more, less if more or less else 1

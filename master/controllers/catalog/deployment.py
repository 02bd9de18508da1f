"""Roll a Deployment's pods from one template to the next through replica sets. Pure: no clock, no network, no log.

Source: k/k `pkg/controller/deployment` (sync.go, rolling.go, recreate.go, progress.go, rollback is a client's patch).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.errors import Document
from labctl.kube.resources import DEPLOYMENTS, REPLICA_SETS
from labctl.kube.selectors import matches
from labctl.runtime.clock import parse_time
from master.controllers.pods import by_controller, canonical, is_finished, selector_of, short_hash
from master.controllers.progress import conditions_of, is_complete, status_of
from master.controllers.protocol import (
    NEVER_S,
    Controller,
    Create,
    Plan,
    Step,
    Tell,
    World,
    delete,
    each,
    owner_reference,
    patch,
    ref,
)
from master.controllers.rollout import (
    DESIRED,
    MAXIMUM,
    Bounds,
    bounds,
    proportional,
    scale_down_old,
    scale_up_new,
)
from master.controllers.views import (
    DEPLOYMENTS_KIND,
    PODS_KIND,
    REPLICA_SETS_KIND,
    Deployment,
    Pod,
    ReplicaSet,
)

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
_NOT_COPIED = {REVISION, HISTORY, DESIRED, MAXIMUM, "kubectl.kubernetes.io/last-applied-configuration"}


def plan(world: World, memory: None) -> Plan:
    """One step of every rollout; look again when a progress deadline would pass."""
    sets_of: dict[str, list[ReplicaSet]] = {}
    orphans: dict[str, list[ReplicaSet]] = {}
    for item in world.all(REPLICA_SETS_KIND).values():
        owner = item.metadata.controller
        if owner is None:
            orphans.setdefault(item.metadata.namespace, []).append(item)
        else:
            sets_of.setdefault(owner.uid, []).append(item)
    wakes: list[float] = []

    def decide(item: Deployment) -> Iterator[Step]:
        return _Rollout(item, sets_of.get(item.metadata.uid, []), world, wakes).steps(
            orphans.get(item.metadata.namespace, ())
        )

    steps = tuple(each(DEPLOYMENTS, world.all(DEPLOYMENTS_KIND).values(), decide))
    return Plan(steps, min(wakes, default=NEVER_S), memory)


@dataclass(slots=True)
class _Rollout:
    """One Deployment, its sets, and what to do about them."""

    item: Deployment
    owned: list[ReplicaSet]
    world: World
    wakes: list[float]

    def steps(self, orphans: Sequence[ReplicaSet]) -> Iterator[Step]:
        """Adopt, then roll, scale, clean up and report."""
        item = self.item
        if item.metadata.deleting:
            yield from self._status(self._new())
            return
        selector = selector_of(item.spec.selector)
        for stray in (one for one in orphans if matches(selector, one.metadata.labels) and not one.metadata.deleting):
            body = {"metadata": {"ownerReferences": [owner_reference(DEPLOYMENTS, item.metadata)]}}
            adopt = patch(REPLICA_SETS, stray.metadata, body, exact=True, kind=STRATEGIC_PATCH)
            yield Step(ref(REPLICA_SETS, stray.metadata), (adopt,))
        new = self._new()
        if not item.spec.paused and new is None and self._may_create():
            yield self._create_new()
            yield from self._status(None)
            return
        if new is not None and not item.spec.paused:
            yield from self._annotate(new)
        yield from self._sizes(new)
        yield from self._cleanup(new)
        yield from self._status(new)

    def _new(self) -> ReplicaSet | None:
        """The oldest set with our template; upstream's FindNewReplicaSet."""
        wanted = _template_key(self.item.spec.template)
        same = [one for one in self.owned if _template_key(one.spec.template) == wanted]
        return min(same, key=lambda one: (one.metadata.creation_timestamp, one.metadata.name), default=None)

    def _old(self, new: ReplicaSet | None) -> list[ReplicaSet]:
        """The other sets, oldest first."""
        rest = [one for one in self.owned if new is None or one.metadata.uid != new.metadata.uid]
        return sorted(rest, key=lambda one: (one.metadata.creation_timestamp, one.metadata.name))

    def _may_create(self) -> bool:
        """Recreate waits until every old pod is gone, terminating ones included."""
        if self.item.spec.strategy.type != "Recreate":
            return True
        if any(one.spec.replicas for one in self._old(None)):
            return False
        pods = self._pods()
        return all(is_finished(pod) for pod in pods)

    def _pods(self) -> list[Pod]:
        owned = by_controller(self.world.all(PODS_KIND).values())
        return [pod for one in self.owned for pod in owned.get(one.metadata.uid, ())]

    def _create_new(self) -> Step:
        item = self.item
        template: Document = msgspec.json.decode(item.spec.template)
        digest = short_hash(
            canonical(_without_hash(template)).decode(), str(item.status.collision_count or ""), length=10
        )
        name = f"{item.metadata.name}-{digest}"
        meta = dict(template.get("metadata") or {})
        meta["labels"] = {**(meta.get("labels") or {}), HASH_LABEL: digest}
        selector = msgspec.to_builtins(item.spec.selector)
        selector = {key: value for key, value in selector.items() if value}
        selector["matchLabels"] = {**selector.get("matchLabels", {}), HASH_LABEL: digest}
        limit = bounds(item)
        total = sum(one.spec.replicas for one in self.owned)
        replicas = item.spec.replicas
        if item.spec.strategy.type != "Recreate":
            replicas = max(0, min(limit.most - total, item.spec.replicas))
        body = {
            "apiVersion": REPLICA_SETS.api_version,
            "kind": REPLICA_SETS.kind,
            "metadata": {
                "name": name,
                "namespace": item.metadata.namespace,
                "labels": meta["labels"],
                "annotations": self._annotations(limit) | {REVISION: str(self._next_revision())},
                "ownerReferences": [owner_reference(DEPLOYMENTS, item.metadata)],
            },
            "spec": {
                "replicas": replicas,
                "minReadySeconds": item.spec.min_ready_seconds,
                "selector": selector,
                "template": {**template, "metadata": meta},
            },
        }
        create = Create(resource=REPLICA_SETS, namespace=item.metadata.namespace, body=body)
        about = ref(DEPLOYMENTS, item.metadata)
        if self._collides(name):
            count = {"status": {"collisionCount": item.status.collision_count + 1}}
            return Step(about, (patch(DEPLOYMENTS, item.metadata, count, exact=True, subresource="status"),))
        told = Tell(reason="ScalingReplicaSet", message=f"Scaled up replica set {name} from 0 to {replicas}")
        actions = (create, told) if replicas else (create,)
        return Step(about, actions, failure_reason="FailedCreate", failure_prefix=f"Error creating {name}: ")

    def _collides(self, name: str) -> bool:
        """Whether the name is somebody else's set's, such as a former Deployment's that is still being collected."""
        taken = self.world.all(REPLICA_SETS_KIND).get(f"{self.item.metadata.namespace}/{name}")
        if taken is None:
            return False
        owner, wanted = taken.metadata.controller, _template_key(self.item.spec.template)
        if owner is not None and owner.uid != self.item.metadata.uid:
            return True
        return _template_key(taken.spec.template) != wanted

    def _next_revision(self) -> int:
        return max((_revision(one) for one in self.owned), default=0) + 1

    def _annotations(self, limit: Bounds) -> dict[str, str]:
        """What a set carries besides its revision: the Deployment's own annotations and its sizes."""
        kept = {key: value for key, value in self.item.metadata.annotations.items() if key not in _NOT_COPIED}
        return kept | {DESIRED: str(limit.replicas), MAXIMUM: str(limit.most)}

    def _annotate(self, new: ReplicaSet) -> Iterator[Step]:
        """The new set carries the highest revision (a rollback brings an old one to the front); we carry it too."""
        highest_old = max((_revision(one) for one in self._old(new)), default=0)
        revision = _revision(new)
        wanted = self._annotations(bounds(self.item))
        wanted = {key: value for key, value in wanted.items() if key not in {DESIRED, MAXIMUM}}
        if revision <= highest_old:
            if revision:
                past = new.metadata.annotations.get(HISTORY, "")
                wanted[HISTORY] = f"{past},{revision}" if past else str(revision)
            revision = highest_old + 1
            wanted[REVISION] = str(revision)
        changed = {key: value for key, value in wanted.items() if new.metadata.annotations.get(key) != value}
        spec = {"minReadySeconds": self.item.spec.min_ready_seconds}
        if changed or new.spec.min_ready_seconds != self.item.spec.min_ready_seconds:
            body = {"metadata": {"annotations": changed}, "spec": spec}
            yield Step(ref(REPLICA_SETS, new.metadata), (patch(REPLICA_SETS, new.metadata, body),))
        if self.item.metadata.annotations.get(REVISION) != str(revision):
            body = {"metadata": {"annotations": {REVISION: str(revision)}}}
            yield Step(ref(DEPLOYMENTS, self.item.metadata), (patch(DEPLOYMENTS, self.item.metadata, body),))

    def _sizes(self, new: ReplicaSet | None) -> Iterator[Step]:
        item, limit, old = self.item, bounds(self.item), self._old(new)
        everyone = [*old, *([new] if new else [])]
        active = [one for one in everyone if one.spec.replicas > 0]
        scaled_now = any(
            one.metadata.annotations.get(DESIRED, str(item.spec.replicas)) != str(item.spec.replicas) for one in active
        )
        sizes: Mapping[str, int]
        if item.spec.paused or scaled_now:
            sizes = self._scale_in_place(new, old, active, limit)
        elif new is None:  # Recreate, waiting for the old pods to go
            sizes = {one.metadata.uid: 0 for one in old}
        elif item.spec.strategy.type == "Recreate":
            sizes = {one.metadata.uid: 0 for one in old}
            if not any(one.spec.replicas for one in old) and not self._old_pods_left(old):
                sizes = {**sizes, new.metadata.uid: item.spec.replicas}
        else:
            sizes = self._roll(new, old, limit)
        for one in everyone:
            size = max(0, sizes.get(one.metadata.uid, one.spec.replicas))
            yield from self._resize(one, size, limit)

    def _old_pods_left(self, old: Sequence[ReplicaSet]) -> bool:
        uids = {one.metadata.uid for one in old}
        return any(
            not is_finished(pod) and pod.metadata.controller is not None and pod.metadata.controller.uid in uids
            for pod in self._pods()
        )

    def _scale_in_place(
        self, new: ReplicaSet | None, old: Sequence[ReplicaSet], active: Sequence[ReplicaSet], limit: Bounds
    ) -> Mapping[str, int]:
        """The Deployment was scaled: resize what runs, without rolling on."""
        if len(active) == 1:
            return {active[0].metadata.uid: limit.replicas}
        if not active:
            latest = new or max(old, key=_revision, default=None)
            return {latest.metadata.uid: limit.replicas} if latest else {}
        if new is not None and new.status.available_replicas >= new.spec.replicas == limit.replicas:
            return {one.metadata.uid: 0 for one in old}  # saturated: the rollout is over
        if self.item.spec.strategy.type == "Recreate":
            return {}
        return proportional(limit, active)

    def _roll(self, new: ReplicaSet, old: Sequence[ReplicaSet], limit: Bounds) -> Mapping[str, int]:
        if new.spec.replicas > limit.replicas:
            return {new.metadata.uid: limit.replicas}
        grown = scale_up_new(limit, new, [*old, new])
        if grown != new.spec.replicas:
            return {new.metadata.uid: grown}
        if new.status.observed_generation < new.metadata.generation:
            return {}  # its status speaks of an older size
        return scale_down_old(limit, new, old)

    def _resize(self, one: ReplicaSet, size: int, limit: Bounds) -> Iterator[Step]:
        notes = {DESIRED: str(limit.replicas), MAXIMUM: str(limit.most)}
        noted = all(one.metadata.annotations.get(key) == value for key, value in notes.items())
        if size == one.spec.replicas and (noted or size == 0):
            return
        body = {"metadata": {"annotations": notes}, "spec": {"replicas": size}}
        change = patch(REPLICA_SETS, one.metadata, body, exact=True)
        about = ref(DEPLOYMENTS, self.item.metadata)
        if size == one.spec.replicas:
            yield Step(ref(REPLICA_SETS, one.metadata), (change,))
            return
        word = "up" if size > one.spec.replicas else "down"
        message = f"Scaled {word} replica set {one.metadata.name} from {one.spec.replicas} to {size}"
        yield Step(about, (change, Tell(reason="ScalingReplicaSet", message=message)))

    def _cleanup(self, new: ReplicaSet | None) -> Iterator[Step]:
        """Once a rollout is complete, forget the oldest empty sets beyond the history limit."""
        item = self.item
        if new is None or item.spec.paused or not is_complete(item, new, self.owned):
            return
        old = [one for one in self._old(new) if not one.metadata.deleting]
        excess = len(old) - item.spec.revision_history_limit
        for one in sorted(old, key=_revision)[: max(0, excess)]:
            idle = one.spec.replicas == 0 == one.status.replicas
            if idle and one.status.observed_generation >= one.metadata.generation:
                yield Step(ref(REPLICA_SETS, one.metadata), (delete(REPLICA_SETS, one.metadata),))

    def _status(self, new: ReplicaSet | None) -> Iterator[Step]:
        wanted = status_of(self.item, new, self.owned)
        conditions = conditions_of(self.item, new, wanted, self.world)
        deadline_s = self.item.spec.progress_deadline_seconds
        progressing = next((one for one in conditions if one["type"] == "Progressing"), None)
        if progressing and progressing["status"] == "True" and progressing["reason"] != "NewReplicaSetAvailable":
            since = parse_time(progressing["lastUpdateTime"])
            self.wakes.append(max(0.5, deadline_s - (self.world.now - since).total_seconds()))
        present: Document = msgspec.to_builtins(self.item.status)
        present.pop("collisionCount", None)
        present["terminatingReplicas"] = present["terminatingReplicas"] or 0
        shown = {"conditions": [_short(one) for one in present.pop("conditions")], **present}
        if shown != {"conditions": [_short(one) for one in conditions], **wanted}:
            body = {"status": {**wanted, "conditions": conditions}}
            yield Step(
                ref(DEPLOYMENTS, self.item.metadata),
                (patch(DEPLOYMENTS, self.item.metadata, body, exact=True, subresource="status"),),
            )


def _short(entry: Mapping[str, Any]) -> Document:
    return {key: value for key, value in entry.items() if value}


def _revision(one: ReplicaSet) -> int:
    text = one.metadata.annotations.get(REVISION, "")
    return int(text) if text.isdigit() else 0


def _template_key(template: msgspec.Raw) -> bytes:
    return canonical(_without_hash(msgspec.json.decode(template)))


def _without_hash(template: Document) -> Document:
    """The template as its Deployment has it; empty and null metadata fields count as absent."""
    meta = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (meta.pop("labels", None) or {}).items() if key != HASH_LABEL}
    kept = {key: value for key, value in meta.items() if value}
    return {**template, "metadata": {**kept, **({"labels": labels} if labels else {})}}


CONTROLLER = Controller(name="deployment", reads=(DEPLOYMENTS_KIND, REPLICA_SETS_KIND), quiet=(PODS_KIND,), plan=plan)

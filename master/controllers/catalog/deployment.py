"""Roll a Deployment's pods from one template to the next through replica sets. Pure: no clock, no network, no log.

Source: k/k `pkg/controller/deployment` (sync.go, rolling.go, recreate.go, progress.go, rollback is a client's patch).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from labctl.kube.errors import Document
from labctl.kube.resources import DEPLOYMENTS, REPLICA_SETS
from labctl.kube.selectors import matches
from master.controllers.claiming import adopt, release
from master.controllers.pods import by_controller, is_finished, selector_of
from master.controllers.progress import (
    CREATE_ERROR,
    Rollout,
    conditions_of,
    deadline_left_s,
    is_complete,
    status_of,
)
from master.controllers.protocol import NEVER_S, Controller, Create, Plan, Step, Tell, World, delete, each, patch, ref
from master.controllers.rollout import DESIRED, Bounds, bounds, proportional, scale_down_old, scale_up_new
from master.controllers.templates import (
    HISTORY,
    REVISION,
    annotations_of,
    new_set,
    revision_of,
    sizes_of,
    template_key,
    with_revision,
)
from master.controllers.views import PODS_KIND, Pod
from master.controllers.views_deployments import DEPLOYMENTS_KIND, REPLICA_SETS_KIND, Deployment, ReplicaSet


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
    recreates = any(one.spec.strategy.type == "Recreate" for one in world.all(DEPLOYMENTS_KIND).values())
    pods = by_controller(world.all(PODS_KIND).values()) if recreates else {}

    def decide(item: Deployment) -> Iterator[Step]:
        return _Rollout(item, sets_of.get(item.metadata.uid, []), world, wakes, pods).steps(
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
    pods: Mapping[str, Sequence[Pod]]  # by the uid of their set; only where one recreates

    def steps(self, orphans: Sequence[ReplicaSet]) -> Iterator[Step]:
        """Adopt, then roll, scale, clean up and report."""
        item = self.item
        if item.metadata.deleting:
            yield from self._status(self._new())
            return
        selector = selector_of(item.spec.selector)
        for one in [one for one in self.owned if not matches(selector, one.metadata.labels)]:
            self.owned.remove(one)
            if not one.metadata.deleting:
                yield release(item.metadata, REPLICA_SETS, one)
        for stray in (one for one in orphans if matches(selector, one.metadata.labels) and not one.metadata.deleting):
            yield adopt(DEPLOYMENTS, item.metadata, REPLICA_SETS, stray)
        new = self._new()
        if not item.spec.paused and new is None and not self._scaled() and self._may_create():
            yield from self._create_new()
            return
        if new is not None and not item.spec.paused:
            yield from self._annotate(new)
        yield from self._sizes(new)
        yield from self._cleanup(new)
        yield from self._status(new)

    def _new(self) -> ReplicaSet | None:
        """The oldest set with our template; upstream's FindNewReplicaSet."""
        wanted = template_key(self.item.spec.template)
        same = [one for one in self.owned if template_key(one.spec.template) == wanted]
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
        return [pod for one in self.owned for pod in self.pods.get(one.metadata.uid, ())]

    def _create_new(self) -> Iterator[Step]:
        item, limit = self.item, bounds(self.item)
        replicas = item.spec.replicas
        if item.spec.strategy.type != "Recreate":
            replicas = max(0, min(limit.most - sum(one.spec.replicas for one in self.owned), replicas))
        body = new_set(item, replicas, max((revision_of(one) for one in self.owned), default=0) + 1, limit)
        name, about = body["metadata"]["name"], ref(DEPLOYMENTS, item.metadata)
        if self._collides(name):
            count = {"status": {"collisionCount": item.status.collision_count + 1}}
            yield Step(about, (patch(DEPLOYMENTS, item.metadata, count, exact=True, subresource="status"),))
            return
        create = Create(resource=REPLICA_SETS, namespace=item.metadata.namespace, body=body)
        told = Tell(reason="ScalingReplicaSet", message=f"Scaled up replica set {name} from 0 to {replicas}")
        reported = self._status(None, making=name)
        failed = item.metadata.uid in self.world.failures
        first = () if failed else tuple(action for step in reported for action in step.actions)
        yield Step(
            about,
            (create, *((told,) if replicas else ()), *first),  # the status says that it was made, once it was
            failure_reason=CREATE_ERROR,
            failure_prefix=f'Failed to create new replica set "{name}": ',
        )
        if failed:
            yield from reported

    def _collides(self, name: str) -> bool:
        """Whether the name is somebody else's set's, such as a former Deployment's that is still being collected."""
        taken = self.world.all(REPLICA_SETS_KIND).get(f"{self.item.metadata.namespace}/{name}")
        if taken is None:
            return False
        owner = taken.metadata.controller
        if owner is not None and owner.uid != self.item.metadata.uid:
            return True
        return template_key(taken.spec.template) != template_key(self.item.spec.template)

    def _annotate(self, new: ReplicaSet) -> Iterator[Step]:
        """The new set carries the highest revision (a rollback brings an old one to the front); we carry it too."""
        highest_old = max((revision_of(one) for one in self._old(new)), default=0)
        revision = revision_of(new)
        wanted = annotations_of(self.item)
        if revision <= highest_old:
            if revision:
                wanted[HISTORY] = with_revision(new.metadata.annotations.get(HISTORY, ""), revision)
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
        sizes: Mapping[str, int]
        if item.spec.paused or self._scaled():
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

    def _scaled(self) -> bool:
        """Whether the Deployment's size has changed since its sets were last sized: they follow before it rolls on."""
        wanted = str(self.item.spec.replicas)
        active = (one for one in self.owned if one.spec.replicas > 0)
        return any(one.metadata.annotations.get(DESIRED, wanted) != wanted for one in active)

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
            latest = new or (old[-1] if old else None)
            return {latest.metadata.uid: limit.replicas} if latest else {}
        if new is not None and self._saturated(new):
            return {one.metadata.uid: 0 for one in old}  # the rollout is over
        if self.item.spec.strategy.type == "Recreate":
            return {}
        return proportional(limit, active)

    def _saturated(self, new: ReplicaSet) -> bool:
        wanted = self.item.spec.replicas
        noted = new.metadata.annotations.get(DESIRED) == str(wanted)
        return noted and new.spec.replicas == wanted == new.status.available_replicas

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
        notes = sizes_of(limit)
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
        """Once a rollout is complete, or while it is paused, forget the oldest empty sets beyond the history limit."""
        item = self.item
        if not item.spec.paused and (new is None or not is_complete(item, new, self.owned)):
            return
        old = [one for one in self._old(new) if not one.metadata.deleting]
        excess = len(old) - item.spec.revision_history_limit
        for one in sorted(old, key=revision_of)[: max(0, excess)]:
            idle = one.spec.replicas == 0 == one.status.replicas
            if idle and one.status.observed_generation >= one.metadata.generation:
                yield Step(ref(REPLICA_SETS, one.metadata), (delete(REPLICA_SETS, one.metadata),))

    def _status(self, new: ReplicaSet | None, *, making: str = "") -> list[Step]:
        item = self.item
        wanted = status_of(item, new, self.owned)
        resting = item.metadata.deleting or item.spec.paused or self._scaled()
        conditions = conditions_of(Rollout(item, new, self.owned, wanted, resting, making), self.world)
        self.wakes.append(deadline_left_s(item, conditions, self.world))
        present: Document = msgspec.to_builtins(item.status)
        present.pop("collisionCount", None)
        present["terminatingReplicas"] = present["terminatingReplicas"] or 0
        present["conditions"] = [{key: value for key, value in one.items() if value} for one in present["conditions"]]
        if present == {**wanted, "conditions": conditions}:
            return []
        body = {"status": {**wanted, "conditions": conditions}}
        change = patch(DEPLOYMENTS, item.metadata, body, exact=True, subresource="status")
        return [Step(ref(DEPLOYMENTS, item.metadata), (change,))]


CONTROLLER = Controller(name="deployment", reads=(DEPLOYMENTS_KIND, REPLICA_SETS_KIND), quiet=(PODS_KIND,), plan=plan)

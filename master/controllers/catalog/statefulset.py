"""Keep one pod for every identity of a StatefulSet, in order, and never two. Pure: no clock, no network, no log.

An identity is released by one thing alone: its pod object is gone from the API. Only the kubelet's confirmation, the
node's deletion, the out-of-service taint (both through pod_gc) or a forced delete do that. Nothing here deletes with
grace 0, and nothing creates a name whose object exists, terminating or not; the API server refuses a stale create.

Source: k/k `pkg/controller/statefulset/stateful_set_control.go`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from labctl.kube.errors import Document
from labctl.kube.resources import CONTROLLER_REVISIONS, PODS, STATEFUL_SETS
from master.controllers.claiming import Related, adopt_all, claim
from master.controllers.identity import Claims, identity_patch, is_serving, is_up, ordinal_of, pod_body
from master.controllers.pods import is_available, is_finished, ready_for_s, selector_of
from master.controllers.protocol import Action, Controller, Create, Plan, Step, Tell, World, delete, each, patch, ref
from master.controllers.revisions import POD_LABEL, Histories, forget, template_of
from master.controllers.rollout import scaled
from master.controllers.views import PODS_KIND, Pod
from master.controllers.views_apps import (
    CLAIMS_KIND,
    CONTROLLER_REVISIONS_KIND,
    STATEFUL_SETS_KIND,
    ControllerRevision,
    StatefulSet,
)

_HASH_LABEL = "controller.kubernetes.io/hash"
_BURST = 50  # creations for one set in one pass, so that others get their turn


def plan(world: World, memory: None) -> Plan:
    """One step of every set; look again when a pod becomes available by waiting."""
    if not world.all(STATEFUL_SETS_KIND):
        return Plan(memory=memory)
    related, histories = Related(world.all(PODS_KIND).values()), Histories(world)

    def decide(item: StatefulSet) -> Iterator[Step]:
        return _steps(item, world, related, histories)

    steps = tuple(each(STATEFUL_SETS, world.all(STATEFUL_SETS_KIND).values(), decide))
    return Plan(steps, related.wake_after_s, memory)


def _steps(item: StatefulSet, world: World, related: Related, histories: Histories) -> Iterator[Step]:
    selector = selector_of(item.spec.selector)
    pods, claims = claim(STATEFUL_SETS, item.metadata, selector, related, lambda pod: ordinal_of(item, pod) is not None)
    yield from claims
    orphans = histories.orphans.get(item.metadata.namespace, ())
    yield from adopt_all(STATEFUL_SETS, item.metadata, CONTROLLER_REVISIONS, orphans, selector)
    wanted = histories.wanted(
        STATEFUL_SETS, item.metadata, item.spec.template, item.status.collision_count, _HASH_LABEL
    )
    if wanted.found is None:
        if wanted.collided and not item.metadata.deleting:
            body = {"status": {**_present(item), "collisionCount": item.status.collision_count + 1}}
            change = patch(STATEFUL_SETS, item.metadata, body, exact=True, subresource="status")
            yield Step(ref(STATEFUL_SETS, item.metadata), (change,))
        elif wanted.step and not item.metadata.deleting:
            yield wanted.step
        return
    owned = histories.of(item.metadata)
    current = next((one for one in owned if one.metadata.name == item.status.current_revision), wanted.found)
    turn = _Turn(item, world, pods, current, wanted.found)
    if not item.metadata.deleting:
        yield from turn.steps()
    for pod in pods:
        if is_up(pod) and not is_available(pod, item.spec.min_ready_seconds, world.now):
            related.wake(item.spec.min_ready_seconds - ready_for_s(pod, world.now))
    yield from turn.status()
    live = {current.metadata.name, wanted.found.metadata.name, *(_revision(pod) for pod in pods)}
    if not item.metadata.deleting:
        yield from forget(owned, live, item.spec.revision_history_limit)


@dataclass(slots=True)
class _Turn:
    """One set, its pods, and what to do about them now."""

    item: StatefulSet
    world: World
    pods: Sequence[Pod]
    current: ControllerRevision
    update: ControllerRevision
    created: int = field(default=0)

    def steps(self) -> Iterator[Step]:
        """Create and repair from the lowest ordinal up, scale down from the highest, then roll on."""
        item = self.item
        start, end = item.spec.ordinals.start, item.spec.ordinals.start + item.spec.replicas
        by_ordinal = {ordinal: pod for pod in self.pods if (ordinal := ordinal_of(item, pod)) is not None}
        ordered = item.spec.pod_management_policy != "Parallel"
        for ordinal in range(start, end):
            blocked, step = self._replica(ordinal, by_ordinal.get(ordinal))
            if step is not None:
                yield step
            if (blocked and ordered) or self.created >= _BURST:
                return
        condemned = sorted((ordinal for ordinal in by_ordinal if not start <= ordinal < end), reverse=True)
        down = (ordinal for ordinal in reversed(condemned) if not self._serving(by_ordinal[ordinal]))
        unhealthy = next(down, None)
        for ordinal in condemned:
            pod = by_ordinal[ordinal]
            if not pod.metadata.deleting and (not ordered or self._serving(pod) or ordinal == unhealthy):
                yield self._delete(pod, *Claims(item, self.world).retention(ordinal, pod))
            if ordered:
                return
        replicas = [by_ordinal[ordinal] for ordinal in range(start, end) if ordinal in by_ordinal]
        if len(replicas) == item.spec.replicas:
            yield from self._roll(replicas)

    def _replica(self, ordinal: int, pod: Pod | None) -> tuple[bool, Step | None]:
        """What an identity needs, and whether later ones have to wait for it."""
        item, claims = self.item, Claims(self.item, self.world)
        about = ref(STATEFUL_SETS, item.metadata)
        if pod is None:
            if claims.stale(ordinal):
                return True, None
            self.created += 1
            return True, self._create(ordinal, claims)
        if is_finished(pod):
            if pod.metadata.deleting:
                return True, None
            return True, self._delete(pod, self._recreating(pod))
        actions: list[Action] = []
        if pod.status.phase == "Pending":
            actions += claims.missing(ordinal)
        if not self._serving(pod):
            return True, Step(about, tuple(actions), failure_reason="FailedCreate") if actions else None
        actions += claims.retention(ordinal)
        if change := identity_patch(item, pod, ordinal):
            actions.append(change)
        return False, Step(about, tuple(actions), failure_reason="FailedUpdate") if actions else None

    def _create(self, ordinal: int, claims: Claims) -> Step:
        item = self.item
        revision = self.current if self._keeps_current(ordinal) else self.update
        body = pod_body(item, template_of(revision), revision.metadata.name, ordinal)
        create = Create(resource=PODS, namespace=item.metadata.namespace, body=body)
        said = f"create Pod {body['metadata']['name']} in StatefulSet {item.metadata.name}"
        told = Tell(reason="SuccessfulCreate", message=f"{said} successful")
        return Step(
            ref(STATEFUL_SETS, item.metadata),
            (*claims.missing(ordinal), create, told),
            failure_reason="FailedCreate",
            failure_prefix=f"{said} failed error: ",
        )

    def _delete(self, pod: Pod, *before: Action) -> Step:
        said = f"delete Pod {pod.metadata.name} in StatefulSet {self.item.metadata.name}"
        told = Tell(reason="SuccessfulDelete", message=f"{said} successful")
        return Step(
            ref(STATEFUL_SETS, self.item.metadata),
            (*before, delete(PODS, pod.metadata), told),
            failure_reason="FailedDelete",
            failure_prefix=f"{said} failed error: ",
        )

    def _recreating(self, pod: Pod) -> Tell:
        failed = pod.status.phase == "Failed"
        kind = "failed" if failed else "terminated"
        message = f"StatefulSet {self.item.metadata.key} is recreating {kind} Pod {pod.metadata.name}"
        if failed:
            return Tell(reason="RecreatingFailedPod", message=message, type="Warning")
        return Tell(reason="RecreatingTerminatedPod", message=message)

    def _keeps_current(self, ordinal: int) -> bool:
        """Below the partition a lost pod comes back as it was."""
        spec = self.item.spec
        if spec.update_strategy.type != "RollingUpdate":
            return False
        return ordinal < spec.ordinals.start + spec.update_strategy.rolling_update.partition

    def _serving(self, pod: Pod) -> bool:
        return is_serving(self.item, pod, self.world)

    def _roll(self, replicas: Sequence[Pod]) -> Iterator[Step]:
        """Replace from the highest ordinal down to the partition, as many at a time as may be unavailable."""
        strategy = self.item.spec.update_strategy
        if strategy.type != "RollingUpdate":
            return
        most = max(1, scaled(strategy.rolling_update.max_unavailable, self.item.spec.replicas, up=True))
        budget = most - sum(not self._serving(pod) for pod in replicas)
        for pod in reversed(replicas[strategy.rolling_update.partition :]):
            outdated = _revision(pod) != self.update.metadata.name and not pod.metadata.deleting
            if not outdated:
                continue
            if not self._serving(pod):  # it counts as unavailable already: replacing it costs nothing
                yield self._delete(pod)
            elif budget > 0:
                budget -= 1
                yield self._delete(pod)

    def status(self) -> Iterator[Step]:
        """The counts, and the end of a rollout."""
        item, update = self.item, self.update.metadata.name
        staying = [pod for pod in self.pods if not pod.metadata.deleting]
        current = self.current.metadata.name
        wanted: Document = {
            "observedGeneration": item.metadata.generation,
            "replicas": len(self.pods),
            "readyReplicas": sum(is_up(pod) for pod in self.pods),
            "availableReplicas": sum(
                is_up(pod) and is_available(pod, item.spec.min_ready_seconds, self.world.now) for pod in self.pods
            ),
            "currentReplicas": sum(_revision(pod) == current for pod in staying),
            "updatedReplicas": sum(_revision(pod) == update for pod in staying),
            "currentRevision": current,
            "updateRevision": update,
            "collisionCount": item.status.collision_count,
        }
        rolled = wanted["updatedReplicas"] == wanted["readyReplicas"] == wanted["replicas"] == item.spec.replicas
        if item.spec.update_strategy.type == "RollingUpdate" and rolled:
            wanted |= {"currentRevision": update, "currentReplicas": wanted["updatedReplicas"]}
        if wanted != _present(item):
            change = patch(STATEFUL_SETS, item.metadata, {"status": wanted}, exact=True, subresource="status")
            yield Step(ref(STATEFUL_SETS, item.metadata), (change,))


def _present(item: StatefulSet) -> Document:
    found: Document = msgspec.to_builtins(item.status)
    return found


def _revision(pod: Pod) -> str:
    return pod.metadata.labels.get(POD_LABEL, "")


CONTROLLER = Controller(
    name="statefulset",
    reads=(STATEFUL_SETS_KIND, PODS_KIND, CONTROLLER_REVISIONS_KIND, CLAIMS_KIND),
    plan=plan,
)

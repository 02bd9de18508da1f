"""Keep one pod of a DaemonSet on every node that it belongs on. Pure: no clock, no network, no log.

The pods are bound by the scheduler, through an affinity to the node's name. A pod's name follows from its set, template
and node: a create that is planned twice meets AlreadyExists, so that no node gets two.

Source: k/k `pkg/controller/daemon/daemon_controller.go`, `update.go`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from labctl.kube.errors import Document
from labctl.kube.resources import CONTROLLER_REVISIONS, DAEMON_SETS, PODS
from master.controllers.claiming import Related, adopt_all, claim, pod_of
from master.controllers.placement import Verdict, judge, node_of, tied_to
from master.controllers.pods import is_available, is_ready, ready_for_s, selector_of, short_hash
from master.controllers.protocol import Controller, Create, Plan, Step, Tell, World, delete, each, patch, ref
from master.controllers.revisions import POD_LABEL, Histories, forget
from master.controllers.rollout import scaled
from master.controllers.views import NODES_KIND, PODS_KIND, Pod
from master.controllers.views_apps import CONTROLLER_REVISIONS_KIND, DAEMON_SETS_KIND, DaemonSet, PodTemplate

_BURST = 250  # as upstream's BurstReplicas
_BACKOFF_S, _BACKOFF_MOST_S = 1.0, 900.0


@dataclass(frozen=True, slots=True)
class Memory:
    """When (our clock) a failed pod was last replaced and how long to wait now; by set, generation and node."""

    replaced: Mapping[tuple[str, int, str], tuple[float, float]] = field(default_factory=dict)


def plan(world: World, memory: Memory) -> Plan:
    """One step of every set."""
    if not world.all(DAEMON_SETS_KIND):
        return Plan(memory=Memory())
    related, histories = Related(world.all(PODS_KIND).values()), Histories(world)
    fresh = {
        key: entry for key, entry in memory.replaced.items() if world.now_s - entry[0] < 2 * max(entry[1], _BACKOFF_S)
    }

    def decide(item: DaemonSet) -> Iterator[Step]:
        return _steps(item, _Pass(world, related, histories, fresh))

    steps = tuple(each(DAEMON_SETS, world.all(DAEMON_SETS_KIND).values(), decide))
    return Plan(steps, related.wake_after_s, Memory(fresh))


@dataclass(frozen=True, slots=True)
class _Pass:
    """What every set's turn looks at."""

    world: World
    related: Related
    histories: Histories
    replaced: dict[tuple[str, int, str], tuple[float, float]]


def _steps(item: DaemonSet, this: _Pass) -> Iterator[Step]:
    selector = selector_of(item.spec.selector)
    pods, claims = claim(DAEMON_SETS, item.metadata, selector, this.related)
    yield from claims
    orphans = this.histories.orphans.get(item.metadata.namespace, ())
    yield from adopt_all(DAEMON_SETS, item.metadata, CONTROLLER_REVISIONS, orphans, selector)
    if item.metadata.deleting:
        return
    collisions = item.status.collision_count
    wanted = this.histories.wanted(DAEMON_SETS, item.metadata, item.spec.template, collisions, POD_LABEL)
    if wanted.found is None:
        if wanted.collided:
            yield _status_step(item, {"collisionCount": collisions + 1})
        elif wanted.step:
            yield wanted.step
        return
    digest = wanted.found.metadata.labels.get(POD_LABEL, "")
    turn = _Turn(item, this, pods, digest)
    yield from turn.steps()
    yield from turn.status()
    hashes = {digest, *(pod.metadata.labels.get(POD_LABEL, "") for pod in pods)}
    owned = this.histories.of(item.metadata)
    live = [one.metadata.name for one in owned if one.metadata.labels.get(POD_LABEL) in hashes]
    yield from forget(owned, live, item.spec.revision_history_limit)


@dataclass(slots=True)
class _Turn:
    """One set, its pods by node, and what to do about them now."""

    item: DaemonSet
    this: _Pass
    pods: Sequence[Pod]
    digest: str
    by_node: dict[str, list[Pod]] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    condemned: dict[str, Pod] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = msgspec.json.decode(self.item.spec.template, type=PodTemplate).spec
        nodes = self.this.world.all(NODES_KIND)
        self.verdicts = {name: judge(spec, nodes[name]) for name in sorted(nodes)}
        for pod in self.pods:
            self.by_node.setdefault(node_of(pod), []).append(pod)
        for found in self.by_node.values():  # bound ones first, then the oldest
            found.sort(key=lambda pod: (not pod.spec.node_name, pod.metadata.creation_timestamp, pod.metadata.name))

    def steps(self) -> Iterator[Step]:
        """Place what is missing, remove what does not belong, roll on."""
        needing, told = self._manage()
        if self.item.spec.update_strategy.type == "RollingUpdate":
            needing += self._surge() if self._most()[1] else self._replace()
        yield from (Step(ref(DAEMON_SETS, self.item.metadata), (one,)) for one in told)
        for pod in list(self.condemned.values())[:_BURST]:
            gone = Tell(reason="SuccessfulDelete", message=f"Deleted pod: {pod.metadata.name}")
            about = ref(DAEMON_SETS, self.item.metadata)
            yield Step(about, (delete(PODS, pod.metadata), gone), failure_reason="FailedDelete")
        for node in needing[:_BURST]:
            yield self._create(node)

    def _manage(self) -> tuple[list[str], list[Tell]]:
        """Nodes that need a pod; marks those that have to go."""
        needing: list[str] = []
        told: list[Tell] = []
        for node, verdict in self.verdicts.items():
            pods = self.by_node.get(node, [])
            if verdict.run and not pods:
                needing.append(node)
            elif not verdict.stay:
                self._condemn(pods)
            else:
                told += self._prune(node, [pod for pod in pods if not pod.metadata.deleting])
        for node, pods in self.by_node.items():
            if node not in self.verdicts:  # pods bound to a lost node are left to pod_gc
                self._condemn([pod for pod in pods if not pod.spec.node_name])
        return needing, told

    def _prune(self, node: str, pods: Sequence[Pod]) -> Iterator[Tell]:
        """Of the pods that may be here one stays; while a rollout surges, one of either template."""
        running: list[Pod] = []
        for pod in pods:
            if pod.status.phase not in {"Failed", "Succeeded"}:
                running.append(pod)
            elif self._may_replace(node):
                self._condemn([pod])
                yield _over(pod, node)
        new = [pod for pod in running if self._is_new(pod)]
        old = [pod for pod in running if not self._is_new(pod)]
        if not self._most()[1]:
            self._condemn(running[1:])
            return
        self._condemn([*new[1:], *old[1:]])
        if new and old and (not is_ready(old[0]) or self._available(new[0])):
            self._condemn(old[:1])

    def _may_replace(self, node: str) -> bool:
        """A pod that fails again and again is replaced ever more slowly."""
        key = (self.item.metadata.uid, self.item.metadata.generation, node)
        now_s = self.this.world.now_s
        at_s, delay_s = self.this.replaced.get(key, (-_BACKOFF_MOST_S, 0.0))
        if now_s < at_s + delay_s:
            self.this.related.wake(at_s + delay_s - now_s)
            return False
        self.this.replaced[key] = (now_s, min(max(_BACKOFF_S, 2 * delay_s), _BACKOFF_MOST_S))
        return True

    def _replace(self) -> list[str]:
        """Delete old pods, as many as may be unavailable; the next pass makes new ones in their place."""
        unavailable, candidates = 0, []
        for pods in self._placed():
            staying = [pod for pod in pods if not pod.metadata.deleting]
            new = [pod for pod in staying if self._is_new(pod)]
            old = [pod for pod in staying if not self._is_new(pod)]
            if bool(new) == bool(old):
                unavailable += 1  # being made or being cleared up
            elif new:
                unavailable += not self._available(new[0])
            elif not self._available(old[0]):
                self._condemn(old)
            else:
                candidates.append(old[0])
        self._condemn(candidates[: max(0, self._most()[0] - unavailable)])
        return []

    def _surge(self) -> list[str]:
        """Nodes that get a new pod beside their old one."""
        allowed: list[str] = []
        candidates: list[str] = []
        surging = 0
        for node, pods in self.by_node.items():
            if not self.verdicts.get(node, Verdict(False, False)).run:
                continue
            staying = [pod for pod in pods if not pod.metadata.deleting]
            new = [pod for pod in staying if self._is_new(pod)]
            old = [pod for pod in staying if not self._is_new(pod)]
            if old and new:
                surging += 1
            elif old:
                (candidates if self._available(old[0]) else allowed).append(node)
        return [*allowed, *sorted(candidates)[: max(0, self._most()[1] - surging)]]

    def _placed(self) -> Iterator[list[Pod]]:
        """The pods of every node that has or wants one; a node whose pod is yet to be made serves nobody either."""
        for node, verdict in self.verdicts.items():
            if verdict.run or node in self.by_node:
                yield self.by_node.get(node, [])

    def _most(self) -> tuple[int, int]:
        """The most nodes that may be without a pod, and with two."""
        rolling = self.item.spec.update_strategy.rolling_update
        if self.item.spec.update_strategy.type != "RollingUpdate":
            return 0, 0
        wanted = sum(verdict.run for verdict in self.verdicts.values())
        surge = scaled(rolling.max_surge, wanted, up=True)
        unavailable = scaled(rolling.max_unavailable, wanted, up=True)
        return (1, 0) if unavailable == surge == 0 else (unavailable, surge)

    def _condemn(self, pods: Sequence[Pod]) -> None:
        self.condemned.update({pod.metadata.uid: pod for pod in pods if not pod.metadata.deleting})

    def _is_new(self, pod: Pod) -> bool:
        return pod.metadata.labels.get(POD_LABEL) == self.digest

    def _available(self, pod: Pod) -> bool:
        wanted_s = self.item.spec.min_ready_seconds
        if is_ready(pod) and not is_available(pod, wanted_s, self.this.world.now):
            self.this.related.wake(wanted_s - ready_for_s(pod, self.this.world.now))
        return is_available(pod, wanted_s, self.this.world.now)

    def _create(self, node: str) -> Step:
        item = self.item
        template: Document = msgspec.json.decode(item.spec.template)
        name = f"{item.metadata.name[:57]}-{short_hash(item.metadata.uid, self.digest, node)}"
        labels = {POD_LABEL: self.digest}
        body = pod_of(
            template, DAEMON_SETS, item.metadata, name, labels=labels, **tied_to(template.get("spec") or {}, node)
        )
        create = Create(resource=PODS, namespace=item.metadata.namespace, body=body)
        told = Tell(reason="SuccessfulCreate", message=f"Created pod: {name}")
        return Step(
            ref(DAEMON_SETS, item.metadata),
            (create, told),
            failure_reason="FailedCreate",
            failure_prefix="Error creating: ",
        )

    def status(self) -> Iterator[Step]:
        """The counts, by node; the oldest pod of a node stands for it."""
        item = self.item
        counts = dict.fromkeys(_COUNTS, 0)
        for node, verdict in self.verdicts.items():
            pods = self.by_node.get(node, [])
            counts["desiredNumberScheduled"] += verdict.run
            if not pods:
                continue
            if not verdict.run:
                counts["numberMisscheduled"] += 1
                continue
            counts["currentNumberScheduled"] += 1
            counts["numberReady"] += is_ready(pods[0])
            counts["numberAvailable"] += self._available(pods[0])
            counts["updatedNumberScheduled"] += any(map(self._is_new, pods[:1]))
        counts["numberUnavailable"] = counts["desiredNumberScheduled"] - counts["numberAvailable"]
        counts["observedGeneration"] = item.metadata.generation
        present = msgspec.to_builtins(item.status)
        if counts != {key: present[key] for key in counts}:
            yield _status_step(item, counts)


_COUNTS = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "observedGeneration",
)


def _over(pod: Pod, node: str) -> Tell:
    if pod.status.phase == "Failed":
        message = f"Found failed daemon pod {pod.metadata.key} on node {node}, will try to kill it"
        return Tell(reason="FailedDaemonPod", message=message, type="Warning")
    message = f"Found succeeded daemon pod {pod.metadata.key} on node {node}, will try to delete it"
    return Tell(reason="SucceededDaemonPod", message=message)


def _status_step(item: DaemonSet, status: Mapping[str, Any]) -> Step:
    change = patch(DAEMON_SETS, item.metadata, {"status": dict(status)}, exact=True, subresource="status")
    return Step(ref(DAEMON_SETS, item.metadata), (change,))


CONTROLLER = Controller(
    name="daemonset",
    reads=(DAEMON_SETS_KIND, PODS_KIND, NODES_KIND, CONTROLLER_REVISIONS_KIND),
    plan=plan,
    memory=Memory(),
)

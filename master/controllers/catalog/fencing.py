"""Release the pods of silent nodes that must never run twice, but only after proof that they no longer run. Pure.

labctl/kube/fencing.py says which pods these are, and what proves it in each mode. Here a pod is released, its object
removed with grace 0, when all of this holds:

1. Its node is Unknown, and the zone's rate lets it be evicted: it carries `unreachable:NoExecute`. While the whole
   cluster seems to be down, or faster than nodes may be evicted, no machine is powered off.
2. The pod is condemned, that is, marked for deletion: its tolerations have run out, or somebody deleted it. So under
   the profile `kubernetes` everything waits as long as upstream waits.
3. `power`: the fence agent has powered the machine off and seen it off.
   `self`: the node's last renewal promised to stop this very pod, and we have seen none for a whole grace since.
4. Read from the API server itself right before, the node's Lease is still the one we judged by. A node that renewed
   after 2. finds its pod condemned when it asks, as it must before it starts it again; so either it or we step back.

A crash between any two of these is safe: all are looked at anew. Where proof is missing nothing is released; Events on
pod and node, and the node's condition `labctl.dev/Fenced`, say what is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.errors import Document
from labctl.kube.fencing import CONDITION, Mode, mode_of, promised
from labctl.kube.resources import LEASES, NODES, PODS
from master.controllers.pods import condition, is_finished, stamped
from master.controllers.protocol import (
    NEVER_S,
    Action,
    ConfirmUnmoved,
    Controller,
    Plan,
    PowerOff,
    Step,
    Tell,
    World,
    delete,
    patch,
    ref,
)
from master.controllers.views import NODE_LEASES_KIND, NODES_KIND, PODS_KIND, Node, Pod

_UNREACHABLE = "node.kubernetes.io/unreachable"
_NAMES = 5  # of pods in a message


@dataclass(frozen=True, slots=True)
class Mark:
    """The version of a node's Lease, and since when (our clock) we have seen no other."""

    version: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Memory:
    """What one pass tells the next. Losing it costs a grace, never an identity."""

    marks: Mapping[str, Mark] = field(default_factory=dict)  # by node uid
    told: frozenset[tuple[str, str]] = frozenset()  # what Events have said: pod uid, reason


def plan(world: World, memory: Memory) -> Plan:
    """Fence silent nodes with condemned pods, release what is proven dead, say what the others wait for."""
    marks = _marks(world, memory)
    pods_of: dict[str, list[Pod]] = {}
    for pod in world.all(PODS_KIND).values():
        if pod.spec.node_name:
            pods_of.setdefault(pod.spec.node_name, []).append(pod)
    steps: list[Step] = []
    said: set[tuple[str, str]] = set()
    wake_s = NEVER_S
    for name in sorted(world.all(NODES_KIND)):
        node = world.all(NODES_KIND)[name]
        turn = _Turn(node, pods_of.get(name, []), marks[node.metadata.uid], world, memory)
        steps += turn.steps()
        said |= turn.said
        wake_s = min(wake_s, turn.wake_s)
    return Plan(tuple(steps), wake_s, Memory(marks, frozenset(said)))


def _marks(world: World, memory: Memory) -> dict[str, Mark]:
    leases = world.all(NODE_LEASES_KIND)
    found: dict[str, Mark] = {}
    for name, node in world.all(NODES_KIND).items():
        lease = leases.get(f"kube-node-lease/{name}")
        version = lease.metadata.resource_version if lease else ""
        known = memory.marks.get(node.metadata.uid)
        found[node.metadata.uid] = known if known and known.version == version else Mark(version, world.now_s)
    return found


class _Turn:
    """One node's turn."""

    def __init__(self, node: Node, pods: list[Pod], mark: Mark, world: World, memory: Memory) -> None:
        self._node, self._mark, self._world, self._memory = node, mark, world, memory
        self._name = node.metadata.name
        annotations, default = node.metadata.annotations, world.settings.fencing
        modes = [(pod, mode_of(pod.metadata, annotations, default)) for pod in pods]
        condemned = [(pod, mode) for pod, mode in modes if pod.metadata.deleting and not _released(pod)]
        self._fenced: dict[Mode, list[Pod]] = {
            mode: sorted((pod for pod, its in condemned if its == mode), key=lambda pod: pod.metadata.key)
            for mode in ("power", "self", "none")
        }
        self._others = [pod for pod, mode in condemned if mode is None]
        self.wake_s = (
            world.settings.profile.node_monitor_period_s if any(mode == "self" for _, mode in modes) else NEVER_S
        )
        self.said: set[tuple[str, str]] = set()

    def steps(self) -> Iterator[Step]:
        """What is done about it."""
        ready = condition(self._node.status.conditions, "Ready")
        if ready is None or ready.status != "Unknown":
            if ready is not None and ready.status == "True":
                yield from self._back()
            return
        if not any(self._fenced.values()):
            return
        if not _evictable(self._node):
            why = f"evictions are held back; node {self._name} is fenced when its turn comes"
            yield from self._wait([pod for pods in self._fenced.values() for pod in pods], "FencingHeldBack", why)
            return
        if self._fenced["power"]:
            yield from self._power()
        yield from self._self()
        manual = "fencing is none: it stays until its node is back, the Node is deleted, or it is deleted by force"
        yield from self._wait(self._fenced["none"], "FencingNone", manual)

    def _power(self) -> Iterator[Step]:
        """Power the machine off; once that is confirmed, nothing that was condemned on it is left."""
        pods = self._fenced["power"]
        names = _names(pods)
        why = f"machine {self._name} has to be powered off, and be seen off, before {names} may run elsewhere"
        failure = self._world.failures.get(self._node.metadata.uid)
        tried = f" (last try: {failure.message})" if failure else ""
        yield from self._condition("False", "FencingPending", f"Waiting: {why}{tried}")
        yield from self._wait(pods, "FencingPending", why)
        about = ref(NODES, self._node.metadata)
        dead = [*pods, *self._fenced["self"], *self._others]
        actions: list[Action] = [self._unmoved(), PowerOff(node=self._name)]
        for pod in dead:
            actions += self._bury(pod, f"Fencing: machine {self._name} was powered off")
        done = self._condition("True", "PoweredOff", f"Powered off to release {names}; `labctl up` starts it again")
        actions += [action for step in done for action in step.actions]
        yield Step(
            about,
            tuple(actions),
            failure_reason="FencingFailed",
            failure_prefix=f"Not released: {names}. Machine {self._name} is not confirmed off: ",
            failure_also=tuple(ref(PODS, pod.metadata) for pod in pods),
        )

    def _self(self) -> Iterator[Step]:
        """Release what the node promised to stop, a grace after its last renewal was seen."""
        if self._fenced["power"] or not self._fenced["self"]:
            return  # what is powered off needs no promise
        lease = self._world.all(NODE_LEASES_KIND).get(f"kube-node-lease/{self._name}")
        kept = promised(lease.metadata) if lease else frozenset()
        left_s = self._mark.since_s + self._world.settings.profile.node_monitor_grace_s - self._world.now_s
        unsafe = [pod for pod in self._fenced["self"] if pod.metadata.uid not in kept]
        why = f"node {self._name} did not promise to stop it by itself; it is released when the node is back"
        yield from self._wait(unsafe, "FencingNotShown", why)
        for pod in self._fenced["self"]:
            if pod.metadata.uid not in kept:
                continue
            if left_s > 0:
                self.wake_s = min(self.wake_s, left_s)
                continue
            told = f"Fencing: node {self._name} stopped it by itself: no renewal was seen for a whole grace period"
            yield Step(
                ref(PODS, pod.metadata),
                (self._unmoved(), *self._bury(pod, told)),
                failure_reason="FencingFailed",
                failure_prefix="Not released: ",
                failure_also=(ref(NODES, self._node.metadata),),
            )

    def _unmoved(self) -> ConfirmUnmoved:
        return ConfirmUnmoved(
            resource=LEASES, name=self._name, namespace="kube-node-lease", resource_version=self._mark.version
        )

    def _bury(self, pod: Pod, why: str) -> list[Action]:
        """As upstream's pod garbage collection does for a node that is out of service."""
        actions: list[Action] = []
        if not is_finished(pod):
            entry = stamped("DisruptionTarget", "True", "DeletionByFencing", why, self._world.stamp)
            body = {"status": {"phase": "Failed", "conditions": [entry]}}
            actions.append(patch(PODS, pod.metadata, body, subresource="status", kind=STRATEGIC_PATCH))
        about = ref(PODS, pod.metadata)
        return [*actions, delete(PODS, pod.metadata, grace_s=0), Tell(reason="Fenced", message=why, about=about)]

    def _wait(self, pods: list[Pod], reason: str, why: str) -> Iterator[Step]:
        """Say once on pod and node what is waited for."""
        self.said |= {(pod.metadata.uid, reason) for pod in pods}
        news = [pod for pod in pods if (pod.metadata.uid, reason) not in self._memory.told]
        for pod in news:
            message = f"Not released yet: {why}"
            yield Step(ref(PODS, pod.metadata), (Tell(reason=reason, message=message, type="Warning"),))
        if news:
            message = f"Pods are not released yet ({_names(news)}): {why}"
            yield Step(ref(NODES, self._node.metadata), (Tell(reason=reason, message=message, type="Warning"),))

    def _back(self) -> Iterator[Step]:
        """Whatever was done or awaited is over."""
        found = condition(self._node.status.conditions, CONDITION)
        if found is not None and found.reason != "NodeReady":
            yield from self._condition("False", "NodeReady", "The node is back")

    def _condition(self, status: str, reason: str, message: str) -> Iterator[Step]:
        found = condition(self._node.status.conditions, CONDITION)
        if found is not None and (found.status, found.reason, found.message) == (status, reason, message):
            return
        moved = found is None or found.status != status
        entry: Document = {"type": CONDITION, "status": status, "reason": reason, "message": message}
        entry |= {"lastHeartbeatTime": self._world.stamp}
        entry |= {"lastTransitionTime": self._world.stamp} if moved else {}
        body = {"status": {"conditions": [entry]}}
        change = patch(NODES, self._node.metadata, body, subresource="status", kind=STRATEGIC_PATCH)
        yield Step(ref(NODES, self._node.metadata), (change,))


def _released(pod: Pod) -> bool:
    """Whether it waits for finalizers alone: it was deleted without grace."""
    return pod.metadata.deletion_grace_period_seconds == 0


def _evictable(node: Node) -> bool:
    return any(taint.key == _UNREACHABLE and taint.effect == "NoExecute" for taint in node.spec.taints)


def _names(pods: list[Pod]) -> str:
    names = [pod.metadata.key for pod in pods]
    more = [f"{len(names) - _NAMES} more"] if len(names) > _NAMES else []
    return ", ".join([*names[:_NAMES], *more])


CONTROLLER = Controller(
    name="fencing",
    reads=(PODS_KIND, NODES_KIND),
    quiet=(NODE_LEASES_KIND,),
    plan=plan,
    memory=Memory(),
)

"""What one scheduling cycle looks at: nodes with what is taken on them, and the pods that wait. Frozen.

Facts are worked out once per object and kept while the object stays the same, so a cycle over many nodes costs what
changed. Source: k/k `pkg/scheduler/framework/types.go` (NodeInfo, calculateResource), `pkg/api/v1/resource/helpers.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import msgspec

from labctl.kube import quantity
from labctl.kube.meta import ObjectMeta
from labctl.kube.selectors import Selector
from master.scheduler.terms import NONE, Terms, terms_of
from master.scheduler.views import Budget, Container, Node, Pod, PodSpec, Quantities, Service, SpreadConstraint

CPU, MEMORY, STORAGE, PODS = "cpu", "memory", "ephemeral-storage", "pods"
# A container without requests counts as this much when nodes are compared, as upstream's GetNonzeroRequests.
_FLOOR = {CPU: 100, MEMORY: 200 * 1024 * 1024}

Amounts = Mapping[str, int]  # CPU in thousandths, everything else in units


@lru_cache(maxsize=4_096)
def _amount(name: str, text: str | int | float) -> int:
    return quantity.milli(text) if name == CPU else quantity.whole(text)


def amounts(quantities: Quantities) -> dict[str, int]:
    """Quantities as integers."""
    return {name: _amount(name, text) for name, text in quantities.items()}


def plus(left: Amounts, right: Amounts) -> dict[str, int]:
    """The sum."""
    total = dict(left)
    for name, value in right.items():
        total[name] = total.get(name, 0) + value
    return total


def most(left: Amounts, right: Amounts) -> dict[str, int]:
    """The larger of each."""
    return {name: max(left.get(name, 0), right.get(name, 0)) for name in left.keys() | right.keys()}


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the node that a pod takes; "0.0.0.0" is every address."""

    ip: str
    protocol: str
    port: int

    def clashes(self, other: HostPort) -> bool:
        """Whether both cannot be had."""
        same = self.port == other.port and self.protocol == other.protocol
        return same and ("0.0.0.0" in (self.ip, other.ip) or self.ip == other.ip)  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class PodInfo:
    """A pod and what follows from it. `requests` is what it needs, `weight` what it counts in comparisons.

    Pods with the same `shape` are alike to plugins that judge a node by itself, those with the same `kin` to all.
    """

    pod: Pod
    requests: Amounts
    weight: Amounts
    ports: tuple[HostPort, ...]
    terms: Terms
    shape: bytes
    kin: bytes

    @property
    def meta(self) -> ObjectMeta:
        """Its metadata."""
        return self.pod.metadata

    @property
    def priority(self) -> int:
        """Higher goes first."""
        return self.pod.spec.priority

    def same_spec(self, pod: Pod) -> bool:
        """Whether `pod`, a later state of the same pod, asks for the same, wherever it has been put."""
        own = self.pod.spec
        if own.node_name != pod.spec.node_name:
            own = msgspec.structs.replace(own, node_name=pod.spec.node_name)
        return own == pod.spec and self.pod.metadata.labels == pod.metadata.labels


def pod_info(pod: Pod) -> PodInfo:
    """Work out what follows from a pod."""
    shape = _encode(pod.spec)
    bare = msgspec.structs.replace(pod.spec, node_name="") if pod.spec.node_name else None
    requests, weight, ports = _demands(_encode(bare) if bare else shape)
    meta, owner = pod.metadata, pod.metadata.controller
    kin = _encode((shape, meta.namespace, sorted(meta.labels.items()), owner and (owner.kind, owner.name)))
    return PodInfo(pod, requests, weight, ports, terms_of(pod), shape, kin)


_encode = msgspec.json.Encoder().encode
_SPEC = msgspec.json.Decoder(PodSpec)


@lru_cache(maxsize=1_024)
def _demands(shape: bytes) -> tuple[Amounts, Amounts, tuple[HostPort, ...]]:
    """Requests, weight and ports, once for all pods of one shape."""
    spec = _SPEC.decode(shape)
    return requests_of(spec), requests_of(spec, floor=_FLOOR), _ports(spec)


def requests_of(spec: PodSpec, floor: Amounts | None = None) -> dict[str, int]:
    """All containers together with their sidecars, or the largest init container, plus overhead."""
    running: dict[str, int] = {}
    for container in spec.containers:
        running = plus(running, _container(container, floor))
    sidecars: dict[str, int] = {}
    largest: dict[str, int] = {}
    for container in spec.init_containers:
        own = _container(container, floor)
        if container.restart_policy == "Always":
            sidecars = plus(sidecars, own)
            running = plus(running, own)
            largest = most(largest, sidecars)
        else:
            largest = most(largest, plus(own, sidecars))
    total = most(running, largest)
    total |= amounts(spec.resources.requests)  # requests of the pod as a whole take precedence
    return plus(total, amounts(spec.overhead)) if spec.overhead else total


def _container(container: Container, floor: Amounts | None) -> dict[str, int]:
    found = amounts(container.resources.requests)
    return {**floor, **found} if floor else found


def _ports(spec: PodSpec) -> tuple[HostPort, ...]:
    return tuple(
        HostPort(port.host_ip or "0.0.0.0", port.protocol, port.host_port)  # noqa: S104 - compared, not bound
        for container in (*spec.containers, *spec.init_containers)
        for port in container.ports
        if port.host_port
    )


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node, the pods on it, and what they take. Replaced, never changed: the same object is the same node."""

    node: Node
    allocatable: Amounts
    pods: tuple[PodInfo, ...] = ()
    requested: Amounts = field(default_factory=dict)
    weight: Amounts = field(default_factory=dict)
    image_bytes: Mapping[str, int] = field(default_factory=dict)
    choosy: tuple[PodInfo, ...] = ()  # those of its pods that have affinity terms
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.node.metadata.name)

    def with_pod(self, info: PodInfo) -> NodeInfo:
        """The same node with one pod more."""
        return replace(
            self,
            pods=(*self.pods, info),
            requested=plus(self.requested, info.requests),
            weight=plus(self.weight, info.weight),
            choosy=(*self.choosy, info) if info.terms is not NONE else self.choosy,
        )

    def without(self, gone: Iterable[PodInfo]) -> NodeInfo:
        """The same node with some pods less."""
        uids = {info.meta.uid for info in gone}
        return _added_up(self, [info for info in self.pods if info.meta.uid not in uids])


def node_info(node: Node, pods: Iterable[PodInfo]) -> NodeInfo:
    """Add up a node."""
    images = {name: image.size_bytes for image in node.status.images for name in image.names}
    return _added_up(NodeInfo(node, amounts(node.status.allocatable), image_bytes=images), pods)


def _added_up(node: NodeInfo, pods: Iterable[PodInfo]) -> NodeInfo:
    taken = tuple(pods)
    requested: dict[str, int] = {}
    weight: dict[str, int] = {}
    for info in taken:
        for name, value in info.requests.items():
            requested[name] = requested.get(name, 0) + value
        for name, value in info.weight.items():
            weight[name] = weight.get(name, 0) + value
    choosy = tuple(info for info in taken if info.terms is not NONE)
    return replace(node, pods=taken, requested=requested, weight=weight, choosy=choosy)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of the cluster, as far as scheduling goes."""

    nodes: Mapping[str, NodeInfo]
    pending: tuple[PodInfo, ...]  # in the order in which they are to be tried
    services: tuple[Service, ...] = ()
    sets: Mapping[tuple[str, str], Selector] = field(default_factory=dict)  # (kind, namespace/name) -> its pods
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # labels by name
    nominated: Mapping[str, tuple[PodInfo, ...]] = field(default_factory=dict)  # pods that wait for room on a node
    budgets: tuple[Budget, ...] = ()
    default_spread: tuple[SpreadConstraint, ...] | None = None  # for pods without constraints; None: upstream's own
    start: int = 0  # where among the nodes the search begins
    percentage: int = 100  # of nodes that fit, so many are enough; 0: by upstream's rule, fewer in a larger cluster


def in_order(pods: Iterable[PodInfo]) -> tuple[PodInfo, ...]:
    """Higher priority first, then the older."""
    return tuple(sorted(pods, key=rank))


def rank(info: PodInfo) -> tuple[int, str, str]:
    """What the queue is sorted by, as the PrioritySort plugin."""
    return (-info.priority, info.meta.creation_timestamp, info.meta.key)

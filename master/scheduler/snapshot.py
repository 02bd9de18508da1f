"""What one scheduling cycle looks at: nodes with what is taken on them, and the pods that wait. Frozen.

Facts are worked out once per object and kept while the object stays the same, so a cycle over many nodes costs what
changed. Source: k/k `pkg/scheduler/framework/types.go` (NodeInfo, calculateResource), `pkg/api/v1/resource/helpers.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from labctl.kube import quantity
from labctl.kube.meta import ObjectMeta
from labctl.kube.selectors import Requirement, Selector
from master.scheduler.views import Container, LabelSelector, Node, Pod, Quantities, Service

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
    """A pod and what follows from its spec. `requests` is what it needs, `weight` what it counts in comparisons."""

    pod: Pod
    requests: Amounts
    weight: Amounts
    ports: tuple[HostPort, ...]

    @property
    def meta(self) -> ObjectMeta:
        """Its metadata."""
        return self.pod.metadata


def pod_info(pod: Pod) -> PodInfo:
    """Work out a pod's requests and ports."""
    return PodInfo(pod, requests_of(pod), requests_of(pod, floor=_FLOOR), _ports(pod))


def requests_of(pod: Pod, floor: Amounts | None = None) -> dict[str, int]:
    """All containers together with their sidecars, or the largest init container, plus overhead."""
    spec = pod.spec
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


def _ports(pod: Pod) -> tuple[HostPort, ...]:
    return tuple(
        HostPort(port.host_ip or "0.0.0.0", port.protocol, port.host_port)  # noqa: S104 - compared, not bound
        for container in (*pod.spec.containers, *pod.spec.init_containers)
        for port in container.ports
        if port.host_port
    )


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node, the pods on it, and what they take."""

    node: Node
    allocatable: Amounts
    pods: tuple[PodInfo, ...] = ()
    requested: Amounts = field(default_factory=dict)
    weight: Amounts = field(default_factory=dict)
    image_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.metadata.name

    def with_pod(self, info: PodInfo) -> NodeInfo:
        """The same node with one pod more."""
        return replace(
            self,
            pods=(*self.pods, info),
            requested=plus(self.requested, info.requests),
            weight=plus(self.weight, info.weight),
        )


def node_info(node: Node, pods: Iterable[PodInfo]) -> NodeInfo:
    """Add up a node."""
    taken = tuple(pods)
    requested: dict[str, int] = {}
    weight: dict[str, int] = {}
    for info in taken:
        requested, weight = plus(requested, info.requests), plus(weight, info.weight)
    images = {name: image.size_bytes for image in node.status.images for name in image.names}
    return NodeInfo(node, amounts(node.status.allocatable), taken, requested, weight, images)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of the cluster, as far as scheduling goes."""

    nodes: Mapping[str, NodeInfo]
    pending: tuple[PodInfo, ...]  # in the order in which they are to be tried
    services: tuple[Service, ...] = ()


def in_order(pods: Iterable[PodInfo]) -> tuple[PodInfo, ...]:
    """Higher priority first, then the older, as the PrioritySort plugin."""

    def rank(info: PodInfo) -> tuple[int, str, str]:
        return (-info.pod.spec.priority, info.meta.creation_timestamp, info.meta.key)

    return tuple(sorted(pods, key=rank))


def selector_of(selector: LabelSelector) -> Selector:
    """What `selectors.matches` takes."""
    terms = [Requirement(key, "In", (value,)) for key, value in selector.match_labels.items()]
    terms += [Requirement(entry.key, entry.operator, entry.values) for entry in selector.match_expressions]
    return tuple(terms)

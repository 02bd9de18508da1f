"""The fields that scheduling reads, as frozen views. Source of names: Kubernetes' API reference (core/v1)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from labctl.kube.meta import ObjectMeta
from labctl.kube.selectors import LabelSelector, Selector
from labctl.kube.taints import Taint, Toleration


class View(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Fields in camelCase, absent ones at their defaults."""


Quantities = Mapping[str, str | int | float]


class Resources(View, frozen=True):
    """What a container or pod asks for."""

    requests: Quantities = {}


class Port(View, frozen=True):
    """A container's port; `host_port` 0 asks for none of the node's."""

    container_port: int = 0
    host_port: int = 0
    host_ip: str = msgspec.field(name="hostIP", default="")
    protocol: str = "TCP"


class Container(View, frozen=True):
    """A container; an init container with restartPolicy Always is a sidecar."""

    image: str = ""
    resources: Resources = Resources()
    ports: tuple[Port, ...] = ()
    restart_policy: str = ""


class NodeSelectorTerm(View, frozen=True):
    """Expressions over labels and over fields (metadata.name), all of which must hold; none match nothing."""

    match_expressions: Selector = ()
    match_fields: Selector = ()


class NodeSelector(View, frozen=True):
    """Terms of which one must hold."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class PreferredTerm(View, frozen=True):
    """A wish and its weight, 1 to 100."""

    weight: int
    preference: NodeSelectorTerm


class NodeAffinity(View, frozen=True):
    """Where the pod must and would rather run."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredTerm, ...] = ()


class PodAffinityTerm(View, frozen=True):
    """Pods to be near or away from; without namespaces and without a selector of them, the pod's own is meant."""

    topology_key: str
    label_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()
    namespace_selector: LabelSelector | None = None
    match_label_keys: tuple[str, ...] = ()
    mismatch_label_keys: tuple[str, ...] = ()


class WeightedTerm(View, frozen=True):
    """A wish and its weight, 1 to 100."""

    weight: int
    pod_affinity_term: PodAffinityTerm


class PodAffinity(View, frozen=True):
    """Which pods to be near, or in anti-affinity away from."""

    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] = ()
    preferred_during_scheduling_ignored_during_execution: tuple[WeightedTerm, ...] = ()


class Affinity(View, frozen=True):
    """Which nodes and which pods to be near."""

    node_affinity: NodeAffinity = NodeAffinity()
    pod_affinity: PodAffinity = PodAffinity()
    pod_anti_affinity: PodAffinity = PodAffinity()


class SpreadConstraint(View, frozen=True):
    """Spread matching pods evenly over the values of a node label."""

    max_skew: int
    topology_key: str
    when_unsatisfiable: str = "DoNotSchedule"
    label_selector: LabelSelector | None = None
    min_domains: int = 1
    match_label_keys: tuple[str, ...] = ()
    node_affinity_policy: str = "Honor"
    node_taints_policy: str = "Ignore"


class Gate(View, frozen=True):
    """A pod with a gate waits."""

    name: str


class PodSpec(View, frozen=True):
    """What was asked for."""

    node_name: str = ""
    scheduler_name: str = "default-scheduler"
    priority: int = 0
    preemption_policy: str = "PreemptLowerPriority"
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    overhead: Quantities = {}
    resources: Resources = Resources()
    node_selector: Mapping[str, str] = {}
    affinity: Affinity = Affinity()
    tolerations: tuple[Toleration, ...] = ()
    topology_spread_constraints: tuple[SpreadConstraint, ...] = ()
    scheduling_gates: tuple[Gate, ...] = ()


class Condition(View, frozen=True):
    """A status condition."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""


class PodStatus(View, frozen=True):
    """What is."""

    phase: str = "Pending"
    conditions: tuple[Condition, ...] = ()
    nominated_node_name: str = ""
    start_time: str = ""


class Pod(View, frozen=True):
    """A pod."""

    metadata: ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Image(View, frozen=True):
    """An image that a node has."""

    names: tuple[str, ...] = ()
    size_bytes: int = 0


class NodeSpec(View, frozen=True):
    """What was asked for."""

    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class NodeStatus(View, frozen=True):
    """What the node has."""

    allocatable: Quantities = {}
    images: tuple[Image, ...] = ()


class Node(View, frozen=True):
    """A node."""

    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ServiceSpec(View, frozen=True):
    """Which pods a Service selects."""

    selector: Mapping[str, str] = {}


class Service(View, frozen=True):
    """A Service, for spreading."""

    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()


class Namespace(View, frozen=True):
    """A namespace; its labels matter to pod affinity."""

    metadata: ObjectMeta


class SetSpec(View, frozen=True):
    """Which pods a set owns."""

    selector: LabelSelector | None = None


class PodSet(View, frozen=True):
    """A ReplicaSet or StatefulSet, for spreading."""

    metadata: ObjectMeta
    spec: SetSpec = SetSpec()


class BudgetSpec(View, frozen=True):
    """Which pods a budget protects."""

    selector: LabelSelector | None = None


class BudgetStatus(View, frozen=True):
    """How many may go, and which are on their way already."""

    disruptions_allowed: int = 0
    disrupted_pods: Mapping[str, str] = {}


class Budget(View, frozen=True):
    """A PodDisruptionBudget."""

    metadata: ObjectMeta
    spec: BudgetSpec = BudgetSpec()
    status: BudgetStatus = BudgetStatus()

"""The fields that controllers read, as frozen views. One view a kind: all controllers of a process share one copy.

Source of names: Kubernetes' API reference (core/v1, coordination/v1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import field

from labctl.kube.meta import ObjectMeta
from labctl.kube.resources import (
    CONFIG_MAPS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    SERVICE_ACCOUNTS,
)
from labctl.kube.selectors import Selector
from labctl.kube.taints import Taint, Toleration
from master.controllers.protocol import Kind


class View(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Fields in camelCase, absent ones at their defaults."""


class Owned(View, frozen=True):
    """An object of any kind: its metadata alone."""

    metadata: ObjectMeta


class Condition(View, frozen=True):
    """A status condition."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    last_heartbeat_time: str = ""
    last_update_time: str = ""


class ContainerPort(View, frozen=True):
    """A port that a container names."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(View, frozen=True):
    """What Services and quotas need of a container."""

    name: str = ""
    ports: tuple[ContainerPort, ...] = ()
    resources: Mapping[str, Any] = {}
    restart_policy: str = ""  # of an init container: Always makes it a sidecar


class NodeSelectorTerm(View, frozen=True):
    """Expressions over labels and over fields (metadata.name), all of which must hold; none match nothing."""

    match_expressions: Selector = ()
    match_fields: Selector = ()


class NodeSelector(View, frozen=True):
    """Terms of which one must hold."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class NodeAffinity(View, frozen=True):
    """Where a pod must run."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class Affinity(View, frozen=True):
    """Only what ties a pod to nodes."""

    node_affinity: NodeAffinity = NodeAffinity()


class PodSpec(View, frozen=True):
    """What was asked for."""

    node_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    host_network: bool = False
    restart_policy: str = "Always"
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    resources: Mapping[str, Any] = {}
    priority_class_name: str = ""
    active_deadline_seconds: int | None = None
    tolerations: tuple[Toleration, ...] = ()
    node_selector: Mapping[str, str] = {}
    affinity: Affinity = Affinity()


class PodIP(View, frozen=True):
    """One of a pod's addresses."""

    ip: str = ""


class Terminated(View, frozen=True):
    """How a container ended."""

    exit_code: int = 0
    finished_at: str = ""


class ContainerState(View, frozen=True):
    """Only whether it has ended, and how."""

    terminated: Terminated | None = None


class ContainerStatus(View, frozen=True):
    """How a container fares, and how often it was started again."""

    name: str = ""
    restart_count: int = 0
    state: ContainerState = ContainerState()


class PodStatus(View, frozen=True):
    """What the kubelet reports."""

    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    start_time: str = ""
    conditions: tuple[Condition, ...] = ()
    pod_ip: str = field(name="podIP", default="")
    pod_ips: tuple[PodIP, ...] = field(name="podIPs", default=())
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(View, frozen=True):
    """A pod."""

    metadata: ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class NodeSpec(View, frozen=True):
    """What was asked for."""

    pod_cidr: str = field(name="podCIDR", default="")
    pod_cidrs: tuple[str, ...] = field(name="podCIDRs", default=())
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class NodeStatus(View, frozen=True):
    """What the kubelet reports."""

    conditions: tuple[Condition, ...] = ()


class Node(View, frozen=True):
    """A node."""

    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class LeaseSpec(View, frozen=True):
    """The heartbeat."""

    holder_identity: str = ""
    renew_time: str = ""


class Lease(View, frozen=True):
    """A node's heartbeat."""

    metadata: ObjectMeta
    spec: LeaseSpec = LeaseSpec()


class NamespaceSpec(View, frozen=True):
    """What stands between it and its end."""

    finalizers: tuple[str, ...] = ()


class NamespaceStatus(View, frozen=True):
    """Active or Terminating."""

    phase: str = "Active"
    conditions: tuple[Condition, ...] = ()


class Namespace(View, frozen=True):
    """A namespace."""

    metadata: ObjectMeta
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()


PODS_KIND = Kind(PODS, Pod)
NODES_KIND = Kind(NODES, Node)
NODE_LEASES_KIND = Kind(LEASES, Lease, namespace="kube-node-lease")
NAMESPACES_KIND = Kind(NAMESPACES, Namespace)
SERVICE_ACCOUNTS_KIND = Kind(SERVICE_ACCOUNTS, Owned, metadata_only=True)
CONFIG_MAPS_KIND = Kind(CONFIG_MAPS, Owned, metadata_only=True)

"""Frozen views of the objects kube-proxy reads: only the fields it acts on.

Source: k8s.io/api `core/v1/types.go`, `discovery/v1/types.go`. Go writes an empty list as null.
"""

from __future__ import annotations

import msgspec


class Meta(msgspec.Struct, frozen=True):
    """`metadata`."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None


class ServicePort(msgspec.Struct, frozen=True, rename="camel"):
    """One port of a Service."""

    port: int
    name: str | None = None
    protocol: str = "TCP"
    node_port: int = 0


class ClientIp(msgspec.Struct, frozen=True, rename="camel"):
    """How long a client sticks to its endpoint."""

    timeout_seconds: int | None = None


class Affinity(msgspec.Struct, frozen=True, rename={"client_ip": "clientIP"}):
    """`sessionAffinityConfig`."""

    client_ip: ClientIp | None = None


class ServiceSpec(
    msgspec.Struct, frozen=True, rename={"cluster_ip": "clusterIP", "external_ips": "externalIPs", "kind": "type"}
):
    """`spec` of a Service."""

    kind: str = "ClusterIP"
    cluster_ip: str | None = None
    ports: tuple[ServicePort, ...] | None = None
    external_ips: tuple[str, ...] | None = None
    session_affinity: str | None = msgspec.field(default=None, name="sessionAffinity")
    session_affinity_config: Affinity | None = msgspec.field(default=None, name="sessionAffinityConfig")
    external_traffic_policy: str | None = msgspec.field(default=None, name="externalTrafficPolicy")
    internal_traffic_policy: str | None = msgspec.field(default=None, name="internalTrafficPolicy")


class Ingress(msgspec.Struct, frozen=True):
    """One address of a load balancer."""

    ip: str | None = None


class LoadBalancer(msgspec.Struct, frozen=True):
    """`status.loadBalancer`."""

    ingress: tuple[Ingress, ...] | None = None


class ServiceStatus(msgspec.Struct, frozen=True, rename="camel"):
    """`status` of a Service."""

    load_balancer: LoadBalancer | None = None


class Service(msgspec.Struct, frozen=True):
    """A Service."""

    metadata: Meta = Meta()
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus | None = None


class Conditions(msgspec.Struct, frozen=True):
    """An endpoint's state; None is unknown, which counts as ready, and not as terminating."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(msgspec.Struct, frozen=True, rename="camel"):
    """One endpoint: its first address counts."""

    addresses: tuple[str, ...] = ()
    conditions: Conditions | None = None
    node_name: str | None = None


class EndpointPort(msgspec.Struct, frozen=True):
    """A port of every endpoint of a slice."""

    port: int | None = None
    name: str | None = None
    protocol: str | None = None


class EndpointSlice(msgspec.Struct, frozen=True, rename="camel"):
    """Some endpoints of a Service."""

    metadata: Meta = Meta()
    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None


class NodeAddress(msgspec.Struct, frozen=True):
    """One address of a node."""

    type: str = ""
    address: str = ""


class NodeCondition(msgspec.Struct, frozen=True):
    """One condition of a node."""

    type: str = ""
    status: str = ""


class NodeSpec(msgspec.Struct, frozen=True, rename={"pod_cidr": "podCIDR"}):
    """`spec` of a Node."""

    pod_cidr: str | None = None


class NodeStatus(msgspec.Struct, frozen=True):
    """`status` of a Node."""

    addresses: tuple[NodeAddress, ...] | None = None
    conditions: tuple[NodeCondition, ...] | None = None


class Node(msgspec.Struct, frozen=True):
    """A Node."""

    metadata: Meta = Meta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def internal_ip(self) -> str:
        """Its address in the lab's network; "" where it has told none."""
        found = (entry.address for entry in self.status.addresses or () if entry.type == "InternalIP")
        return next((address for address in found if "." in address), "")

    @property
    def unreachable(self) -> bool:
        """Whether the cluster holds it for dead: nothing is known of it."""
        return any(entry.type == "Ready" and entry.status == "Unknown" for entry in self.status.conditions or ())

"""The fields of Service and EndpointSlice that controllers read, as frozen views.

Source of names: Kubernetes' API reference (core/v1, discovery/v1).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import field

from labctl.kube.meta import ObjectMeta, Reference
from labctl.kube.resources import ENDPOINT_SLICES, SERVICES
from master.controllers.protocol import Kind
from master.controllers.views import View


class ServicePort(View, frozen=True):
    """A port of a Service; `target_port` is a number, a container port's name, or absent (as `port`)."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target_port: int | str = 0
    node_port: int = 0


class ServiceSpec(View, frozen=True):
    """What was asked for."""

    type: str = "ClusterIP"
    cluster_ip: str = field(name="clusterIP", default="")
    ip_families: tuple[str, ...] = ()
    selector: Mapping[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    publish_not_ready_addresses: bool = False
    allocate_load_balancer_node_ports: bool = True


class Service(View, frozen=True):
    """A Service."""

    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()


class EndpointConditions(View, frozen=True):
    """Whether to send traffic there."""

    ready: bool = True
    serving: bool = True
    terminating: bool = False


class Endpoint(View, frozen=True, omit_defaults=True):
    """A pod behind a Service."""

    addresses: tuple[str, ...]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    target_ref: Reference | None = None


class EndpointPort(View, frozen=True, omit_defaults=True):
    """A port on every endpoint of a slice."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSlice(View, frozen=True):
    """Up to 100 endpoints."""

    metadata: ObjectMeta
    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


SERVICES_KIND = Kind(SERVICES, Service)
ENDPOINT_SLICES_KIND = Kind(ENDPOINT_SLICES, EndpointSlice)

"""The variables that tell containers of services, as upstream and Docker's links before it. Pure.

Source: k/k `pkg/kubelet/envvars/envvars.go`.
"""

from __future__ import annotations

from collections.abc import Iterable

from agents.kubelet.views import View
from labctl.kube.meta import ObjectMeta


class ServicePort(View, frozen=True):
    """A port of a service."""

    name: str = ""
    port: int = 0
    protocol: str = "TCP"


class ServiceSpec(View, frozen=True):
    """`spec` of a service."""

    cluster_ip: str = ""
    ports: tuple[ServicePort, ...] = ()


class Service(View, frozen=True):
    """A service, as far as variables tell of it."""

    metadata: ObjectMeta = ObjectMeta()
    spec: ServiceSpec = ServiceSpec()


def service_env(services: Iterable[Service]) -> dict[str, str]:
    """`WEB_SERVICE_HOST`, `WEB_SERVICE_PORT` and so on, for every service that has an address."""
    found: dict[str, str] = {}
    for service in services:
        address, ports = service.spec.cluster_ip, service.spec.ports
        if not address or address == "None" or not ports:
            continue
        name = _variable(service.metadata.name)
        host = f"[{address}]" if ":" in address else address
        found[f"{name}_SERVICE_HOST"] = address
        found[f"{name}_SERVICE_PORT"] = str(ports[0].port)
        found[f"{name}_PORT"] = f"{ports[0].protocol.lower()}://{host}:{ports[0].port}"
        for port in ports:
            if port.name:
                found[f"{name}_SERVICE_PORT_{_variable(port.name)}"] = str(port.port)
            link = f"{name}_PORT_{port.port}_{port.protocol}"
            found[link] = f"{port.protocol.lower()}://{host}:{port.port}"
            found |= {f"{link}_PROTO": port.protocol.lower(), f"{link}_PORT": str(port.port), f"{link}_ADDR": address}
    return found


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")

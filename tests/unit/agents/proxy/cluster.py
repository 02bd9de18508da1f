"""Objects as the API gives them, in one line each."""

from __future__ import annotations

from typing import Any

import msgspec

from agents.proxy.plan import Plan, plan
from agents.proxy.views import EndpointSlice, Node, Service


def service(name: str = "web", *, ip: str = "10.96.0.10", ports: Any = None, **spec: Any) -> Service:
    """A Service; `spec` in Kubernetes' own field names."""
    document = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": ip, "ports": ports or [{"port": 80}], **spec},
    }
    return msgspec.convert(document, Service)


def endpoint(address: str, node: str = "a", /, **conditions: Any) -> dict[str, Any]:
    """An endpoint, ready unless said otherwise."""
    return {"addresses": [address], "nodeName": node, "conditions": {"ready": True, **conditions}}


def pieces(*endpoints: dict[str, Any], name: str = "web", ports: Any = None, **more: Any) -> EndpointSlice:
    """A slice of a Service."""
    document = {
        "metadata": {"name": f"{name}-x", "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": ports or [{"port": 8080}],
        **more,
    }
    return msgspec.convert(document, EndpointSlice)


def node(name: str, cidr: str | None = None, address: str = "", *, ready: str = "True") -> Node:
    """A Node."""
    addresses = [
        {"type": "Hostname", "address": name},
        *([{"type": "InternalIP", "address": address}] if address else []),
    ]
    status = {"addresses": addresses, "conditions": [{"type": "Ready", "status": ready}]}
    return msgspec.convert({"metadata": {"name": name}, "spec": {"podCIDR": cidr}, "status": status}, Node)


def planned(*objects: Any) -> Plan:
    """The plan of node `a` for a mixture of objects."""

    def of(kind: type) -> list[Any]:
        return [entry for entry in objects if isinstance(entry, kind)]

    return plan(of(Service), of(EndpointSlice), of(Node), node_name="a")

"""Small objects for tests."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def pod(name: str = "p", *, node: str = "", labels: Document | None = None, **spec: Any) -> Document:
    spec = {"containers": [{"name": "c", "image": "busybox:1"}], **spec}
    if node:
        spec["nodeName"] = node
    return {"metadata": {"name": name, **({"labels": labels} if labels else {})}, "spec": spec}


def config_map(name: str = "m", **data: str) -> Document:
    return {"metadata": {"name": name}, "data": data}


def deployment(name: str = "d", *, replicas: int = 2, **spec: Any) -> Document:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "busybox:1"}]},
    }
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


def service(name: str = "s", **spec: Any) -> Document:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}

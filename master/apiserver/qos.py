"""A pod's quality of service class. Pure. Source: `pkg/apis/core/v1/helper/qos/qos.go`."""

from __future__ import annotations

from typing import Any

from labctl.kube.quantity import parse

Document = dict[str, Any]


def qos_class(spec: Document) -> str:
    """Guaranteed, Burstable or BestEffort."""
    guaranteed, any_set = True, False
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            limit, request = parse(limits.get(name, 0)), parse(requests.get(name, limits.get(name, 0)))
            any_set = any_set or bool(limit) or bool(request)
            guaranteed = guaranteed and bool(limit) and limit == request
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"

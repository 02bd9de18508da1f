"""What becomes of a Service before it is judged: linked fields kept in step, fields of another type dropped. Pure.

Source: `pkg/registry/core/service/strategy.go` (dropTypeDependentFields), `storage/storage.go` (normalizeClusterIPs).
"""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

_WITH_NODE_PORTS = frozenset({"NodePort", "LoadBalancer"})


def created(document: Document) -> None:
    """A new Service that names one address names it in the list too."""
    spec = document.get("spec") or {}
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]


def updated(new: Document, old: Document) -> None:
    """Keep `clusterIPs` in step; drop what only the old type needed and the writer left as it was."""
    spec, was = new.setdefault("spec", {}), old.get("spec") or {}
    _in_step(spec, was)
    if was.get("type") != "ExternalName" and spec.get("type") == "ExternalName":
        same = spec.get("clusterIP") == was.get("clusterIP") and spec.get("clusterIPs") == was.get("clusterIPs")
        if same:
            _drop(spec, "clusterIP", "clusterIPs")
        for key in ("ipFamilies", "ipFamilyPolicy"):
            if spec.get(key) == was.get(key):
                _drop(spec, key)
    if was.get("type") in _WITH_NODE_PORTS and spec.get("type") not in _WITH_NODE_PORTS and _ports(spec) <= _ports(was):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)
    if was.get("type") == "LoadBalancer" and spec.get("type") != "LoadBalancer":
        for key in ("allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"):
            if spec.get(key) == was.get(key):
                _drop(spec, key)
    if _outside(was) and not _outside(spec) and spec.get("externalTrafficPolicy") == was.get("externalTrafficPolicy"):
        _drop(spec, "externalTrafficPolicy")
    if spec.get("type") != "LoadBalancer" and "loadBalancer" in (new.get("status") or {}):
        new["status"] = {**new["status"], "loadBalancer": {}}


def _in_step(spec: Document, was: Document) -> None:
    before, after = was.get("clusterIP") or "", spec.get("clusterIP") or ""
    if was.get("clusterIPs") and not spec.get("clusterIPs") and before == after:
        spec["clusterIPs"] = was["clusterIPs"]
    elif before != after and (spec.get("clusterIPs") or []) == (was.get("clusterIPs") or []):
        _drop(spec, "clusterIPs")
        if after:
            spec["clusterIPs"] = [after]


def _ports(spec: Document) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


def _outside(spec: Document) -> bool:
    """Whether the Service can be reached from outside the cluster."""
    return spec.get("type") in _WITH_NODE_PORTS or bool(spec.get("externalIPs"))


def _drop(spec: Document, *keys: str) -> None:
    for key in keys:
        spec.pop(key, None)

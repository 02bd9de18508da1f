"""Discovery: the aggregated documents (apidiscovery.k8s.io/v2) and the older per-group ones, from the registry."""

from __future__ import annotations

from typing import Any

from labctl.kube.resources import Resource
from master.apiserver.registry import Kind, Registry

Document = dict[str, Any]

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

_UPDATE = ("get", "patch", "update")
_READ_WRITE = {
    "status": _UPDATE,
    "scale": _UPDATE,
    "approval": _UPDATE,
    "ephemeralcontainers": _UPDATE,
    "resize": _UPDATE,
}
_CONNECT = ("create", "get")
_PROXY = ("create", "delete", "get", "patch", "update")
_SCALE = ("autoscaling", "v1", "Scale")
# Subresources whose kind is not their parent's: (group, version, kind), verbs.
_SUBRESOURCES: dict[str, tuple[tuple[str, str, str], tuple[str, ...]]] = {
    "scale": (_SCALE, _UPDATE),
    "binding": (("", "v1", "Binding"), ("create",)),
    "eviction": (("policy", "v1", "Eviction"), ("create",)),
    "token": (("authentication.k8s.io", "v1", "TokenRequest"), ("create",)),
    "log": (("", "v1", "Pod"), ("get",)),
    "attach": (("", "v1", "PodAttachOptions"), _CONNECT),
    "exec": (("", "v1", "PodExecOptions"), _CONNECT),
    "portforward": (("", "v1", "PodPortForwardOptions"), _CONNECT),
    "finalize": (("", "v1", "Namespace"), ("update",)),
}
_PROXY_KINDS = {"pods": "PodProxyOptions", "services": "ServiceProxyOptions", "nodes": "NodeProxyOptions"}
_OTHER_GROUP = frozenset({"scale", "eviction", "token"})  # the legacy document names their group and version


def _subresource(resource: Resource, name: str) -> tuple[tuple[str, str, str], tuple[str, ...]]:
    if name == "proxy":
        return ("", "v1", _PROXY_KINDS[resource.plural]), _PROXY
    own = (resource.group, resource.version, resource.kind)
    return _SUBRESOURCES.get(name, (own, _READ_WRITE.get(name, _UPDATE)))


def _aggregated_kind(kind: Kind) -> Document:
    resource = kind.resource
    found: Document = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        found["shortNames"] = list(resource.short_names)
    if resource.categories:
        found["categories"] = list(resource.categories)
    if resource.subresources:
        found["subresources"] = []
        for name in resource.subresources:
            (group, version, answer), verbs = _subresource(resource, name)
            response = {"group": group, "version": version, "kind": answer}
            found["subresources"].append({"subresource": name, "responseKind": response, "verbs": list(verbs)})
    return found


def aggregated(registry: Registry, *, core: bool) -> Document:
    """APIGroupDiscoveryList of /api (core) or /apis."""
    items = []
    for group, versions in registry.groups().items():
        if (group == "") != core:
            continue
        served = [
            {
                "version": version,
                "resources": [_aggregated_kind(kind) for kind in registry.kinds(group, version)],
                "freshness": "Current",
            }
            for version in versions
        ]
        metadata: Document = {"creationTimestamp": None}
        if group:
            metadata["name"] = group
        items.append({"metadata": metadata, "versions": served})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def core_versions(address: str) -> Document:
    """APIVersions of /api."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def group(name: str, versions: list[str]) -> Document:
    """One APIGroup."""
    served = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": served, "preferredVersion": served[0]}


def group_list(registry: Registry) -> Document:
    """APIGroupList of /apis."""
    groups = [group(name, versions) for name, versions in registry.groups().items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def resource_list(registry: Registry, name: str, version: str) -> Document | None:
    """APIResourceList of a group version; None where it is not served."""
    kinds = registry.kinds(name, version)
    if not kinds:
        return None
    resources: list[Document] = []
    for kind in kinds:
        resources.append(_legacy_kind(kind.resource))
        resources += [_legacy_subresource(kind.resource, sub) for sub in kind.resource.subresources]
    group_version = f"{name}/{version}" if name else version
    found: Document = {"kind": "APIResourceList", "groupVersion": group_version, "resources": resources}
    return found | {"apiVersion": "v1"} if name else found


def _legacy_kind(resource: Resource) -> Document:
    found: Document = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        found["shortNames"] = list(resource.short_names)
    if resource.categories:
        found["categories"] = list(resource.categories)
    return found


def _legacy_subresource(resource: Resource, name: str) -> Document:
    (group_name, version, kind), verbs = _subresource(resource, name)
    found: Document = {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": kind,
        "verbs": list(verbs),
    }
    if name in _OTHER_GROUP:
        found |= {"group": group_name, "version": version}
    return found

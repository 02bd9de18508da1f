"""Rules of ConfigMap, Secret, Namespace, Node, LimitRange and ResourceQuota. Pure.

Source: `pkg/apis/core/validation/validation.go`.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from labctl.kube.quantity import parse
from master.apiserver import names
from master.apiserver.problems import duplicate, forbidden_field, invalid, required, too_long
from master.apiserver.validation.affinity import taints
from master.apiserver.validation.container import resource_name
from master.apiserver.validation.values import IMMUTABLE, Document, Found, formed, quantity, unchanged

_MOST_BYTES = 1024 * 1024
_FIXED = "field is immutable when `immutable` is set"
_NEEDED = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_ACCOUNT = "kubernetes.io/service-account.name"
_LIMIT_TYPES = frozenset({"Pod", "Container", "PersistentVolumeClaim"})
_SCOPES = frozenset({
    "Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
})  # fmt: skip
_EXCLUSIVE = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
_PODS_ONLY = frozenset({
    "pods", "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage",
    "limits.cpu", "limits.memory", "limits.ephemeral-storage",
})  # fmt: skip
STANDARD_QUOTA = _PODS_ONLY | {
    "requests.storage", "resourcequotas", "services", "replicationcontrollers", "secrets", "persistentvolumeclaims",
    "configmaps", "services.nodeports", "services.loadbalancers",
}  # fmt: skip


def config_map(document: Document, found: Found) -> None:
    """core/v1 ConfigMap."""
    data, binary = document.get("data") or {}, document.get("binaryData") or {}
    size = 0
    for field, values in (("data", data), ("binaryData", binary)):
        for key, value in values.items():
            formed(key, f"{field}[{key}]", names.config_key, found)
            size += len(value) if field == "data" else len(value) * 3 // 4
    for key in data:
        if key in binary:
            found.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
    if size > _MOST_BYTES:
        found.append(too_long("", _MOST_BYTES))


def secret(document: Document, found: Found) -> None:
    """core/v1 Secret, and what its type needs."""
    data, kind = document.get("data") or {}, document.get("type", "")
    size = 0
    for key, value in data.items():
        formed(key, f"data[{key}]", names.config_key, found)
        size += len(value) * 3 // 4
    if size > _MOST_BYTES:
        found.append(too_long("data", _MOST_BYTES))
    if kind == "kubernetes.io/service-account-token":
        if not (document["metadata"].get("annotations") or {}).get(_ACCOUNT):
            found.append(required(f"metadata.annotations[{_ACCOUNT}]"))
    elif kind == "kubernetes.io/basic-auth" and "username" not in data and "password" not in data:
        found += [required("data[username]"), required("data[password]")]
    for key in _NEEDED.get(kind, ()):
        if key not in data or (kind == "kubernetes.io/ssh-auth" and not data[key]):
            found.append(required(f"data[{key}]"))
        elif "docker" in kind:
            _json(data[key], f"data[{key}]", found)


def _json(encoded: str, field: str, found: Found) -> None:
    try:
        msgspec.json.decode(base64.b64decode(encoded), type=dict[str, Any])
    except ValueError as error:
        found.append(invalid(field, "<secret contents redacted>", str(error)))


def frozen_data(new: Document, old: Document, found: Found) -> None:
    """A ConfigMap or Secret that says `immutable` stays as it is."""
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        found.append(forbidden_field("immutable", _FIXED))
    for field in ("data", "binaryData"):
        if (new.get(field) or {}) != (old.get(field) or {}):
            found.append(forbidden_field(field, _FIXED))


def secret_changes(new: Document, old: Document, found: Found) -> None:
    """A Secret keeps its type, too."""
    unchanged(new, old, ("type",), found)
    frozen_data(new, old, found)


def namespace(document: Document, found: Found) -> None:
    """core/v1 Namespace."""
    for entry in (document.get("spec") or {}).get("finalizers") or ():
        formed(entry, "spec.finalizers", names.key, found)
        if "/" not in entry and entry != "kubernetes":
            told = "name is neither a standard finalizer name nor is it fully qualified"
            found.append(invalid("spec.finalizers", entry, told))


def node(document: Document, found: Found) -> None:
    """core/v1 Node."""
    spec = document.get("spec") or {}
    if given := spec.get("taints"):
        taints(given, "metadata.taints", found)  # upstream's own path
    blocks = spec.get("podCIDRs") or []
    for at, block in enumerate(blocks):
        formed(block, f"spec.podCIDRs[{at}]", names.network, found)
    if len(blocks) > 2 or (len(blocks) == 2 and (":" in blocks[0]) == (":" in blocks[1])):
        found.append(invalid("spec.podCIDRs", blocks, "may specify no more than one CIDR for each IP family"))


def node_changes(new: Document, old: Document, found: Found) -> None:
    """A node keeps the addresses of its pods and its provider's name, once it has them."""
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    told = 'node updates may not change podCIDR except from "" to valid'
    after = spec.get("podCIDRs") or [*filter(None, [spec.get("podCIDR")])]
    before = was.get("podCIDRs") or [*filter(None, [was.get("podCIDR")])]
    if before and after != before:
        found.append(forbidden_field("spec.podCIDRs", told))
    had = was.get("providerID")
    if had and spec.get("providerID") != had:
        verb = "cleared" if not spec.get("providerID") else "modified"
        found.append(invalid("spec.providerID", None, f"field cannot be {verb} once set"))


def limit_range(document: Document, found: Found) -> None:
    """core/v1 LimitRange."""
    kinds: set[str] = set()
    for at, limit in enumerate((document.get("spec") or {}).get("limits") or ()):
        path, kind = f"spec.limits[{at}]", limit.get("type", "")
        formed(kind, f"{path}.type", names.key, found)
        if kind and "/" not in kind and kind not in _LIMIT_TYPES:
            found.append(invalid(f"{path}.type", kind, "must be a standard limit type or fully qualified"))
        if kind in kinds:
            found.append(duplicate(f"{path}.type", kind))
        kinds.add(kind)
        _limit(limit, kind, path, found)


def _limit(limit: Document, kind: str, path: str, found: Found) -> None:
    keys = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
    for field in keys:
        amounts = limit.get(field) or {}
        if kind == "Pod" and amounts and field.startswith("default"):
            found.append(forbidden_field(f"{path}.{field}", "may not be specified when `type` is 'Pod'"))
            continue
        for name in amounts if kind in {"Pod", "Container"} else ():
            resource_name(name, f"{path}.{field}[{name}]", found)
    if kind == "PersistentVolumeClaim" and not any("storage" in (limit.get(field) or {}) for field in ("min", "max")):
        told = "either minimum or maximum storage value is required, but neither was provided"
        found.append(required(f"{path}.limits", told))
    for name in dict.fromkeys(name for field in keys for name in limit.get(field) or {}):
        _limit_of(name, {field: (limit.get(field) or {}).get(name) for field in keys}, path, found)


_ORDERED = (  # (lesser, greater, the field the error names, words)
    ("min", "max", "min", "min value {} is greater than max value {}"),
    ("min", "defaultRequest", "defaultRequest", "min value {} is greater than default request value {}"),
    ("defaultRequest", "max", "defaultRequest", "default request value {} is greater than max value {}"),
    ("defaultRequest", "default", "defaultRequest", "default request value {} is greater than default limit value {}"),
    ("min", "default", "default", "min value {} is greater than default value {}"),
    ("default", "max", "default", "default value {} is greater than max value {}"),
)  # fmt: skip


def _limit_of(name: str, given: dict[str, Any], path: str, found: Found) -> None:
    for low, high, field, told in _ORDERED:
        lesser, greater = given[low], given[high]
        if lesser is not None and greater is not None and parse(lesser) > parse(greater):
            shown = given[field] if field != "default" else {"min": lesser, "default": greater}[low]
            found.append(invalid(f"{path}.{field}[{name}]", shown, told.format(lesser, greater)))
    ratio = given["maxLimitRequestRatio"]
    if ratio is None:
        return
    field = f"{path}.maxLimitRequestRatio[{name}]"
    if parse(ratio) < 1:
        found.append(invalid(field, ratio, f"ratio {ratio} is less than 1"))
    if given["min"] is not None and given["max"] is not None and parse(given["min"]):
        span = float(parse(given["max"]) / parse(given["min"]))
        if float(parse(ratio)) > span:
            found.append(invalid(field, ratio, f"ratio {ratio} is greater than max/min = {span:f}"))


def resource_quota(document: Document, found: Found) -> None:
    """core/v1 ResourceQuota."""
    spec = document.get("spec") or {}
    hard = spec.get("hard") or {}
    for name, amount in hard.items():
        field = f"spec.hard[{name}]"
        formed(name, field, names.key, found)
        if (
            "/" not in name
            and name not in STANDARD_QUOTA
            and not name.startswith(("hugepages-", "requests.hugepages-"))
        ):
            found.append(invalid(field, name, "must be a standard resource for quota"))
        quantity(name, amount, field, found)
    scopes = spec.get("scopes") or []
    for scope in scopes:
        if scope not in _SCOPES:
            found.append(invalid("spec.scopes", scopes, "unsupported scope"))
        elif any(name in STANDARD_QUOTA and not scope_fits(scope, name) for name in hard):
            found.append(invalid("spec.scopes", scopes, "unsupported scope applied to resource"))
    if any(set(pair) <= set(scopes) for pair in _EXCLUSIVE):
        found.append(invalid("spec.scopes", scopes, "conflicting scopes"))
    _scope_selector((spec.get("scopeSelector") or {}).get("matchExpressions") or (), hard, found)


def _scope_selector(entries: Any, hard: Document, found: Found) -> None:
    path = "spec.scopeSelector.matchExpressions"
    for entry in entries:
        scope, operator, values = entry.get("scopeName", ""), entry.get("operator", ""), entry.get("values") or []
        if scope not in _SCOPES:
            found.append(invalid(f"{path}.scopeName", scope, "unsupported scope"))
        elif any(name in STANDARD_QUOTA and not scope_fits(scope, name) for name in hard):
            found.append(invalid(path, entry, "unsupported scope applied to resource"))
        if scope in _SCOPES - {"PriorityClass", "VolumeAttributesClass"} and operator != "Exists":
            told = (
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating,"
                " ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or"
                " ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            found.append(invalid(f"{path}.operator", operator, told))
        if operator in {"In", "NotIn"}:
            if not values:
                told = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                found.append(required(f"{path}.values", told))
        elif operator in {"Exists", "DoesNotExist"}:
            if values:
                told = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                found.append(invalid(f"{path}.values", values, told))
        else:
            found.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))


def scope_fits(scope: str, name: str) -> bool:
    """Whether a quota of that scope can count the resource."""
    if scope == "BestEffort":
        return name == "pods"
    if scope == "VolumeAttributesClass":
        return name in {"persistentvolumeclaims", "requests.storage"}
    return name in _PODS_ONLY


def resource_quota_changes(new: Document, old: Document, found: Found) -> None:
    """A quota keeps its scopes."""
    after, before = ((side.get("spec") or {}).get("scopes") or [] for side in (new, old))
    if set(after) != set(before):
        found.append(invalid("spec.scopes", after, IMMUTABLE))

"""Rules of RBAC's kinds, PodDisruptionBudget, PriorityClass, RuntimeClass, Lease and HorizontalPodAutoscaler. Pure.

Sources: `pkg/apis/{rbac,policy,scheduling,node,coordination,autoscaling}/validation/validation.go`.
"""

from __future__ import annotations

from typing import Any

from master.apiserver import names
from master.apiserver.metadata import label_errors
from master.apiserver.problems import duplicate, forbidden_field, invalid, required, unsupported
from master.apiserver.validation.affinity import tolerations
from master.apiserver.validation.container import resource_name
from master.apiserver.validation.values import (
    IMMUTABLE,
    Document,
    Found,
    at_most_all,
    choice,
    formed,
    int_or_percent,
    named,
    optional_choice,
    quantity,
    selector,
    unchanged,
    whole,
)

_RBAC = "rbac.authorization.k8s.io"
_HIGHEST = 1_000_000_000
_SYSTEM = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_METRICS = ("ContainerResource", "External", "Object", "Pods", "Resource")
_SOURCES = {
    "ContainerResource": "containerResource", "External": "external", "Object": "object", "Pods": "pods",
    "Resource": "resource",
}  # fmt: skip


def role(document: Document, found: Found) -> None:
    """Role: rules on resources of its namespace."""
    for at, rule in enumerate(document.get("rules") or ()):
        _rule(rule, f"rules[{at}]", found, namespaced=True)


def cluster_role(document: Document, found: Found) -> None:
    """ClusterRole: rules on everything, or the sum of other roles."""
    for at, rule in enumerate(document.get("rules") or ()):
        _rule(rule, f"rules[{at}]", found, namespaced=False)
    if (aggregated := document.get("aggregationRule")) is not None:
        path = "aggregationRule.clusterRoleSelectors"
        if not aggregated.get("clusterRoleSelectors"):
            told = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            found.append(required(path, told))
        for at, entry in enumerate(aggregated.get("clusterRoleSelectors") or ()):
            selector(entry, f"{path}[{at}]", found)


def _rule(rule: Document, path: str, found: Found, *, namespaced: bool) -> None:
    if not rule.get("verbs"):
        found.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs")
    if urls:
        if namespaced:
            told = "namespaced rules cannot apply to non-resource URLs"
            found.append(invalid(f"{path}.nonResourceURLs", urls, told))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            told = "rules cannot apply to both regular resources and non-resource URLs"
            found.append(invalid(f"{path}.nonResourceURLs", urls, told))
        return
    if not rule.get("apiGroups"):
        found.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        found.append(required(f"{path}.resources", "resource rules must supply at least one resource"))


def role_binding(document: Document, found: Found) -> None:
    """RoleBinding."""
    _binding(document, ("Role", "ClusterRole"), found, namespaced=True)


def cluster_role_binding(document: Document, found: Found) -> None:
    """ClusterRoleBinding."""
    _binding(document, ("ClusterRole",), found, namespaced=False)


def _binding(document: Document, kinds: tuple[str, ...], found: Found, *, namespaced: bool) -> None:
    ref = document.get("roleRef") or {}
    if ref.get("apiGroup", "") != _RBAC:
        found.append(unsupported("roleRef.apiGroup", ref.get("apiGroup", ""), (_RBAC,)))
    if ref.get("kind") not in kinds:
        found.append(unsupported("roleRef.kind", ref.get("kind", ""), kinds))
    named(ref.get("name", ""), "roleRef.name", names.path_segment, found)
    for at, subject in enumerate(document.get("subjects") or ()):
        _subject(subject, f"subjects[{at}]", found, namespaced=namespaced)


def _subject(subject: Document, path: str, found: Found, *, namespaced: bool) -> None:
    name, kind, group = subject.get("name", ""), subject.get("kind", ""), subject.get("apiGroup", "")
    if not name:
        found.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        if name:
            formed(name, f"{path}.name", names.subdomain, found)
        if group:
            found.append(unsupported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            found.append(required(f"{path}.namespace"))
    elif kind in {"User", "Group"}:
        if group != _RBAC:
            found.append(unsupported(f"{path}.apiGroup", group, (_RBAC,)))
    else:
        found.append(unsupported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))


def binding_changes(new: Document, old: Document, found: Found) -> None:
    """A binding keeps the role it binds."""
    unchanged(new, old, ("roleRef",), found)


def disruption_budget(document: Document, found: Found) -> None:
    """policy/v1 PodDisruptionBudget."""
    spec = document.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        found.append(invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for key in ("minAvailable", "maxUnavailable"):
        if key in spec:
            int_or_percent(spec[key], f"spec.{key}", found)
            at_most_all(spec[key], f"spec.{key}", found)
    selector(spec.get("selector"), "spec.selector", found)
    policy = spec.get("unhealthyPodEvictionPolicy")
    optional_choice(policy, "spec.unhealthyPodEvictionPolicy", ("AlwaysAllow", "IfHealthyBudget"), found)


def priority_class(document: Document, found: Found) -> None:
    """scheduling.k8s.io/v1 PriorityClass; names that begin with `system-` are Kubernetes' own."""
    name, value = document["metadata"].get("name", ""), document.get("value", 0)
    if name.startswith("system-"):
        if why := _not_system(name, value, default=bool(document.get("globalDefault"))):
            told = "priority class names with 'system-' prefix are reserved for system use only. error: "
            found.append(forbidden_field("metadata.name", told + why))
    elif value > _HIGHEST:
        found.append(forbidden_field("value", f"maximum allowed value of a user defined priority is {_HIGHEST}"))
    policy = document.get("preemptionPolicy")
    optional_choice(policy, "preemptionPolicy", ("PreemptLowerPriority", "Never"), found)


def _not_system(name: str, value: int, *, default: bool) -> str:
    if name not in _SYSTEM:
        return f"{name} is not a known system priority class"
    if value != _SYSTEM[name]:
        return f"value of {name} PriorityClass must be {_SYSTEM[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if default else ""


def priority_class_changes(new: Document, old: Document, found: Found) -> None:
    """A class keeps its value and its preemption policy."""
    if new.get("value", 0) != old.get("value", 0):
        found.append(forbidden_field("value", "may not be changed in an update."))
    after, before = new.get("preemptionPolicy"), old.get("preemptionPolicy")
    if after != before:
        found.append(invalid("preemptionPolicy", after, IMMUTABLE))


def runtime_class(document: Document, found: Found) -> None:
    """node.k8s.io/v1 RuntimeClass."""
    named(document.get("handler", ""), "handler", names.label, found)
    for name, amount in ((document.get("overhead") or {}).get("podFixed") or {}).items():
        resource_name(name, f"overhead.limits[{name}]", found)
        quantity(name, amount, f"overhead.limits[{name}]", found)
    if scheduling := document.get("scheduling"):
        found += label_errors(scheduling.get("nodeSelector") or {}, "scheduling.nodeSelector")
        given = scheduling.get("tolerations") or []
        tolerations(given, "scheduling.tolerations", found)
        for at, entry in enumerate(given):
            if entry in given[:at]:
                found.append(duplicate(f"scheduling.tolerations[{at}]", entry))


def runtime_class_changes(new: Document, old: Document, found: Found) -> None:
    """A class keeps its handler."""
    unchanged(new, old, ("handler",), found)


def lease(document: Document, found: Found) -> None:
    """coordination.k8s.io/v1 Lease."""
    spec = document.get("spec") or {}
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        found.append(invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    whole(spec, "spec", "leaseTransitions", found=found)
    if spec.get("preferredHolder") and not spec.get("strategy"):
        told = "may only be specified if `strategy` is defined"
        found.append(forbidden_field("spec.preferredHolder", told))


def autoscaler(document: Document, found: Found) -> None:
    """autoscaling/v2 HorizontalPodAutoscaler."""
    spec = document.get("spec") or {}
    low, high = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if low is not None and low < 1:
        found.append(invalid("spec.minReplicas", low, "must be greater than or equal to 1"))
    if high == 0:
        found.append(required("spec.maxReplicas", "must be set and greater than 0"))
    elif high < 0:
        found.append(invalid("spec.maxReplicas", high, "must be greater than or equal to 1"))
    if low is not None and high < low:
        found.append(invalid("spec.maxReplicas", high, "must be greater than or equal to `minReplicas`"))
    target = spec.get("scaleTargetRef") or {}
    for key in ("kind", "name"):
        named(target.get(key, ""), f"spec.scaleTargetRef.{key}", names.path_segment, found)
    for at, metric in enumerate(spec.get("metrics") or ()):
        _metric(metric, f"spec.metrics[{at}]", found)
    behavior = spec.get("behavior") or {}
    for key in ("scaleUp", "scaleDown"):
        if key in behavior:
            _scaling(behavior[key] or {}, f"spec.behavior.{key}", found)


def _metric(metric: Document, path: str, found: Found) -> None:
    kind = metric.get("type", "")
    if not kind:
        found.append(required(f"{path}.type", "must specify a metric source type"))
    if kind not in _SOURCES:
        found.append(unsupported(f"{path}.type", kind, _METRICS))
        return
    source, place = metric.get(_SOURCES[kind]), f"{path}.{_SOURCES[kind]}"
    if source is None:
        found.append(required(place, "must populate information for the given metric source"))
        return
    for other in _SOURCES.values():
        if other in metric and other != _SOURCES[kind]:
            told = "must populate the given metric source only"
            found.append(forbidden_field(f"{path}.{other}", told))
    if kind in {"Resource", "ContainerResource"} and not source.get("name"):
        found.append(required(f"{place}.name", "must specify a resource name"))
    if kind == "ContainerResource" and not source.get("container"):
        found.append(required(f"{place}.container", "must specify a container"))
    _target(source.get("target") or {}, f"{place}.target", found, resource="esource" in kind)


def _target(target: Document, path: str, found: Found, *, resource: bool) -> None:
    kind = target.get("type", "")
    if not kind:
        found.append(required(f"{path}.type", "must specify a metric target type"))
    elif kind not in {"AverageValue", "Utilization", "Value"}:
        told = "must be either Utilization, Value, or AverageValue"
        found.append(invalid(f"{path}.type", kind, told))
    used = target.get("averageUtilization")
    if used is not None and used < 1:
        found.append(invalid(f"{path}.averageUtilization", used, "must be greater than 0"))
    if resource and used is None and "averageValue" not in target:
        told = "must set either a target raw value or a target utilization"
        found.append(required(f"{path}.averageUtilization", told))
    if used is not None and "averageValue" in target:
        told = "may not set both a target raw value and a target utilization"
        found.append(forbidden_field(f"{path}.averageValue", told))


def _scaling(rules: Document, path: str, found: Found) -> None:
    window: Any = rules.get("stabilizationWindowSeconds")
    if window is not None and window < 0:
        found.append(invalid(f"{path}.stabilizationWindowSeconds", window, "must be greater than or equal to zero"))
    if window is not None and window > 3600:
        found.append(invalid(f"{path}.stabilizationWindowSeconds", window, "must be less than or equal to 3600"))
    optional_choice(rules.get("selectPolicy"), f"{path}.selectPolicy", ("Disabled", "Max", "Min"), found)
    if not rules.get("policies"):
        found.append(required(f"{path}.policies", "must specify at least one Policy"))
    for at, policy in enumerate(rules.get("policies") or ()):
        place, seconds = f"{path}.policies[{at}]", policy.get("periodSeconds", 0)
        choice(policy.get("type"), f"{place}.type", ("Percent", "Pods"), found)
        if policy.get("value", 0) <= 0:
            found.append(invalid(f"{place}.value", policy.get("value", 0), "must be greater than zero"))
        if seconds <= 0:
            found.append(invalid(f"{place}.periodSeconds", seconds, "must be greater than zero"))
        if seconds > 1800:
            found.append(invalid(f"{place}.periodSeconds", seconds, "must be less than or equal to 1800"))

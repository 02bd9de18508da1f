"""What objects use of a ResourceQuota, and which quotas count them. Pure; shared by admission and the controller.

Source: `pkg/quota/v1/evaluator/core`, `staging/src/k8s.io/apiserver/pkg/quota/v1`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from labctl.kube.quantity import family, parse, written

Document = Mapping[str, Any]
Amounts = dict[str, str]  # resource -> canonical quantity

_BY_NAME = frozenset({
    "configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "resourcequotas", "secrets", "services",
})  # fmt: skip
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_REQUIRED = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})
_OWN = {
    ("", "pods"): frozenset(
        {*_REQUIRED, "ephemeral-storage", "requests.ephemeral-storage", "limits.ephemeral-storage"}
    ),
    ("", "services"): frozenset({"services.nodeports", "services.loadbalancers"}),
    ("", "persistentvolumeclaims"): frozenset({"requests.storage"}),
}
_STORAGE_CLASS = ".storageclass.storage.k8s.io/"


def plus(first: Mapping[str, str], second: Mapping[str, str]) -> Amounts:
    """The sum, name by name."""
    total = dict(first)
    for name, amount in second.items():
        had = total.get(name)
        if had is None or not parse(had):
            total[name] = amount
        else:
            total[name] = written(parse(had) + parse(amount), family(had))
    return total


def minus(first: Mapping[str, str], second: Mapping[str, str]) -> Amounts:
    """What of `first` is more than in `second`; nothing below zero."""
    rest: Amounts = {}
    for name, amount in first.items():
        more = parse(amount) - parse(second.get(name, "0"))
        if more > 0:
            rest[name] = written(more, family(amount))
    return rest


def _most(first: Mapping[str, str], second: Mapping[str, str]) -> Amounts:
    found = dict(first)
    for name, amount in second.items():
        if name not in found or parse(amount) > parse(found[name]):
            found[name] = amount
    return found


def pod_totals(spec: Document, key: str) -> Amounts:
    """A pod's `requests` or `limits`: containers together, or what starting it needs at once if that is more."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        total = plus(total, (container.get("resources") or {}).get(key) or {})
    beside: Amounts = {}
    starting: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = (container.get("resources") or {}).get(key) or {}
        if container.get("restartPolicy") == "Always":
            total, beside = plus(total, own), plus(beside, own)
            starting = _most(starting, beside)
        else:
            starting = _most(starting, plus(own, beside))
    total = _most(total, starting)
    for name, amount in ((spec.get("resources") or {}).get(key) or {}).items():
        if name in {"cpu", "memory"}:
            total[name] = amount
    return total


def counts(group: str, plural: str, names: Iterable[str]) -> set[str]:
    """Those of a quota's resource names that objects of this kind count towards."""
    whole = f"count/{plural}.{group}" if group else f"count/{plural}"
    own = _OWN.get((group, plural), frozenset())
    found = {name for name in names if name == whole or name in own}
    if not group and plural in _BY_NAME:
        found |= {name for name in names if name == plural}
    if (group, plural) == ("", "pods"):
        found |= {name for name in names if name.startswith(("requests.", "hugepages-")) and name != "requests.storage"}
    if (group, plural) == ("", "persistentvolumeclaims"):
        found |= {name for name in names if _STORAGE_CLASS in name}
    return found


def usage(group: str, plural: str, document: Document) -> Amounts:
    """What one object uses."""
    used: Amounts = {f"count/{plural}.{group}" if group else f"count/{plural}": "1"}
    if (group, plural) == ("", "pods"):
        return used | (_pod(document.get("spec") or {}) if is_live(document) else {})
    if not group and plural in _BY_NAME:
        used[plural] = "1"
    if (group, plural) == ("", "services"):
        used |= _service(document.get("spec") or {})
    if (group, plural) == ("", "persistentvolumeclaims"):
        used |= _claim(document.get("spec") or {})
    return used


def is_live(pod: Document) -> bool:
    """Whether a pod still uses something: it has not ended."""
    return (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}


def _pod(spec: Document) -> Amounts:
    used = _compute(pod_totals(spec, "requests"), pod_totals(spec, "limits"))
    return {"pods": "1", **used}


def _compute(requests: Mapping[str, str], limits: Mapping[str, str]) -> Amounts:
    used: Amounts = {}
    for name in _COMPUTE:
        if name in requests:
            used[name] = used[f"requests.{name}"] = requests[name]
        if name in limits:
            used[f"limits.{name}"] = limits[name]
    for name, amount in requests.items():
        if name.startswith("hugepages-"):
            used[name] = amount
        if name.startswith("hugepages-") or "/" in name:
            used[f"requests.{name}"] = amount
    return used


def _service(spec: Document) -> Amounts:
    ports = spec.get("ports") or ()
    kind = spec.get("type")
    if kind == "LoadBalancer":
        given = [port for port in ports if port.get("nodePort")]
        counted = given if spec.get("allocateLoadBalancerNodePorts") is False else ports
        return {"services.loadbalancers": "1", "services.nodeports": str(len(counted))}
    return {"services.loadbalancers": "0", "services.nodeports": str(len(ports)) if kind == "NodePort" else "0"}


def _claim(spec: Document) -> Amounts:
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    used: Amounts = {"requests.storage": size} if size else {}
    if name := spec.get("storageClassName"):
        used[f"{name}{_STORAGE_CLASS}persistentvolumeclaims"] = "1"
        if size:
            used[f"{name}{_STORAGE_CLASS}requests.storage"] = size
    return used


def matches(quota_spec: Document, group: str, plural: str, document: Document) -> bool:
    """Whether a quota's scopes let it count the object; only pods have scopes."""
    terms = [{"scopeName": scope, "operator": "Exists"} for scope in quota_spec.get("scopes") or ()]
    terms += list((quota_spec.get("scopeSelector") or {}).get("matchExpressions") or ())
    if not terms:
        return True
    return (group, plural) == ("", "pods") and all(_in_scope(term, document.get("spec") or {}) for term in terms)


def _in_scope(term: Document, spec: Document) -> bool:
    scope = term.get("scopeName")
    if scope in {"Terminating", "NotTerminating"}:
        return bool((spec.get("activeDeadlineSeconds") is not None) == (scope == "Terminating"))
    if scope in {"BestEffort", "NotBestEffort"}:
        return bool(_best_effort(spec) == (scope == "BestEffort"))
    if scope == "PriorityClass":
        name, values = spec.get("priorityClassName") or "", term.get("values") or ()
        wanted = {"In": name in values, "NotIn": name not in values, "Exists": bool(name), "DoesNotExist": not name}
        return wanted.get(str(term.get("operator")), False)
    if scope == "CrossNamespacePodAffinity":
        return _crosses(spec.get("affinity") or {})
    return False


def _best_effort(spec: Document) -> bool:
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources = container.get("resources") or {}
        for key in ("requests", "limits"):
            if any(parse((resources.get(key) or {}).get(name, 0)) for name in ("cpu", "memory")):
                return False
    return True


def _crosses(affinity: Document) -> bool:
    for kind in ("podAffinity", "podAntiAffinity"):
        given = affinity.get(kind) or {}
        terms = list(given.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        preferred = given.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [term.get("podAffinityTerm") or {} for term in preferred]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False


def missing(names: Iterable[str], spec: Document) -> str:
    """What a pod's containers must say because a quota counts it, in upstream's words; "" where nothing is missing."""
    if (spec.get("resources") or {}).get("requests") or (spec.get("resources") or {}).get("limits"):
        return ""
    absent: dict[str, list[str]] = {}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources = container.get("resources") or {}
        said = _compute(resources.get("requests") or {}, resources.get("limits") or {})
        for name in _REQUIRED.intersection(names) - set(said):
            absent.setdefault(name, []).append(container.get("name", ""))
    if not absent:
        return ""
    return "must specify " + "; ".join(f"{name} for: {','.join(sorted(absent[name]))}" for name in sorted(absent))


def exceeded(new: Mapping[str, str], hard: Mapping[str, str]) -> list[str]:
    """The names of which `new` is more than `hard` allows."""
    return sorted(name for name, amount in new.items() if name in hard and parse(amount) > parse(hard[name]))


def shown(amounts: Mapping[str, str], names: Iterable[str] | None = None) -> str:
    """`cpu=1,pods=2`."""
    return ",".join(f"{name}={amounts.get(name, '0')}" for name in sorted(amounts if names is None else names))


def zero(names: Iterable[str]) -> Amounts:
    """Nothing used of any of the names."""
    return dict.fromkeys(names, written(Decimal(0)))

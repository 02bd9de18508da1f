"""Rules that a schema cannot say: required values, formats, what may change. Pure. Source: `pkg/apis/*/validation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labctl.kube.resources import Resource
from master.apiserver.metadata import label_errors
from master.apiserver.problems import FieldError, duplicate, forbidden_field, invalid, required, unsupported
from master.apiserver.validation_pod import immutable_pod, pod_spec
from master.apiserver.validation_workload import cron_job, deployment, job, stateful_set_changes, workload

Document = dict[str, Any]
Rules = Callable[[Document], list[FieldError]]
Changes = Callable[[Document, Document], list[FieldError]]

_IMMUTABLE = "field is immutable"
_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',"
    "  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)


def validate(resource: Resource, document: Document) -> list[FieldError]:
    """Every broken rule of a new object."""
    rules = _RULES.get((resource.group, resource.plural))
    return rules(document) if rules else []


def validate_update(resource: Resource, new: Document, old: Document, subresource: str) -> list[FieldError]:
    """Every broken rule of a change."""
    if subresource:
        return []
    key = (resource.group, resource.plural)
    found = [
        invalid(path, _at(new, path), _IMMUTABLE)
        for path in _FIXED.get(key, ())
        if _at(old, path) not in (None, "") and _at(new, path) != _at(old, path)
    ]
    if changes := _CHANGES.get(key):
        found += changes(new, old)
    return found + validate(resource, new)


def _at(document: Document, path: str) -> Any:
    node: Any = document
    for part in path.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _pod(document: Document) -> list[FieldError]:
    return pod_spec(document.get("spec") or {}, "spec")


def _service(document: Document) -> list[FieldError]:
    spec = document.get("spec") or {}
    kind, ports = spec.get("type"), spec.get("ports") or []
    found: list[FieldError] = []
    if kind not in {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}:
        found.append(unsupported("spec.type", kind, ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")))
    if kind == "ExternalName" and not spec.get("externalName"):
        found.append(required("spec.externalName"))
    if not ports and kind != "ExternalName" and spec.get("clusterIP") != "None":
        found.append(required("spec.ports"))
    if spec.get("sessionAffinity") not in {"None", "ClientIP"}:
        found.append(unsupported("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None")))
    names: set[str] = set()
    for at, port in enumerate(ports):
        path = f"spec.ports[{at}]"
        found += _service_port(port, path, several=len(ports) > 1)
        if port.get("name") and port["name"] in names:
            found.append(duplicate(f"{path}.name", port["name"]))
        names.add(port.get("name", ""))
    return found + label_errors(spec.get("selector") or {}, "spec.selector")


def _service_port(port: Document, path: str, *, several: bool) -> list[FieldError]:
    found: list[FieldError] = []
    if several and not port.get("name"):
        found.append(required(f"{path}.name"))
    number = port.get("port") or 0
    if not 1 <= number <= 65535:
        found.append(invalid(f"{path}.port", number, "must be between 1 and 65535, inclusive"))
    if port.get("protocol") not in {"TCP", "UDP", "SCTP"}:
        found.append(unsupported(f"{path}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP")))
    target = port.get("targetPort")
    if isinstance(target, int) and not 1 <= target <= 65535:
        found.append(invalid(f"{path}.targetPort", target, "must be between 1 and 65535, inclusive"))
    return found


def _service_changes(new: Document, old: Document) -> list[FieldError]:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    had = before.get("clusterIP")
    if "ExternalName" in {spec.get("type"), before.get("type")} or not had:
        return []
    if spec.get("clusterIP") not in {None, "", had}:
        return [invalid("spec.clusterIPs[0]", [spec["clusterIP"]], "may not change once set")]
    return []


def _config_map(document: Document) -> list[FieldError]:
    found: list[FieldError] = []
    size = 0
    for field in ("data", "binaryData"):
        for key, value in (document.get(field) or {}).items():
            size += len(value)
            found += _data_key(key, f"{field}[{key}]")
    if size > 1024 * 1024:
        found.append(FieldError("FieldValueTooLong", "", "Too long: may not be more than 1048576 bytes"))
    return found


def _data_key(key: str, path: str) -> list[FieldError]:
    if (
        not key
        or len(key) > 253
        or not all(letter.isalnum() or letter in "-_." for letter in key)
        or key in {".", ".."}
    ):
        return [
            invalid(
                path,
                key,
                _KEY_RULE,
            )
        ]
    return []


def _config_map_changes(new: Document, old: Document) -> list[FieldError]:
    """Of a ConfigMap or Secret."""
    if not old.get("immutable"):
        return []
    return [
        forbidden_field(field, "field is immutable when `immutable` is set")
        for field in ("immutable", "data", "binaryData")
        if new.get(field) != old.get(field)
    ]


def _priority_class(document: Document) -> list[FieldError]:
    name, value = document["metadata"]["name"], document.get("value", 0)
    if not name.startswith("system-") and value > 1_000_000_000:
        return [forbidden_field("value", "maximum allowed value of a user defined priority is 1000000000")]
    return []


def _binding(document: Document) -> list[FieldError]:
    ref = document.get("roleRef") or {}
    found = [] if ref.get("name") else [required("roleRef.name")]
    kind = ref.get("kind")
    return (
        found
        if kind in {"Role", "ClusterRole"}
        else [*found, unsupported("roleRef.kind", kind, ("ClusterRole", "Role"))]
    )


def _lease(document: Document) -> list[FieldError]:
    seconds = (document.get("spec") or {}).get("leaseDurationSeconds")
    if isinstance(seconds, int) and seconds <= 0:
        return [invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0")]
    return []


def _endpoint_slice(document: Document) -> list[FieldError]:
    found: list[FieldError] = []
    kind = document.get("addressType")
    if not kind:
        found.append(required("addressType"))
    elif kind not in {"IPv4", "IPv6", "FQDN"}:
        found.append(unsupported("addressType", kind, ("FQDN", "IPv4", "IPv6")))
    endpoints = document.get("endpoints") or []
    if len(endpoints) > 1000:
        found.append(
            FieldError("FieldValueTooMany", "endpoints", f"Too many: {len(endpoints)}: must have at most 1000 items")
        )
    for at, endpoint in enumerate(endpoints):
        if not endpoint.get("addresses"):
            found.append(required(f"endpoints[{at}].addresses", "must contain at least 1 address"))
    return found


def _node_changes(new: Document, old: Document) -> list[FieldError]:
    before, after = (old.get("spec") or {}).get("podCIDR"), (new.get("spec") or {}).get("podCIDR")
    if before and after != before:
        return [forbidden_field("spec.podCIDR", 'node updates may not change podCIDR except from "" to valid')]
    return []


_RULES: dict[tuple[str, str], Rules] = {
    ("", "pods"): _pod,
    ("", "services"): _service,
    ("", "configmaps"): _config_map,
    ("", "secrets"): _config_map,
    ("apps", "deployments"): deployment,
    ("apps", "replicasets"): workload,
    ("apps", "statefulsets"): workload,
    ("apps", "daemonsets"): workload,
    ("batch", "jobs"): job,
    ("batch", "cronjobs"): cron_job,
    ("coordination.k8s.io", "leases"): _lease,
    ("discovery.k8s.io", "endpointslices"): _endpoint_slice,
    ("scheduling.k8s.io", "priorityclasses"): _priority_class,
    ("rbac.authorization.k8s.io", "rolebindings"): _binding,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): _binding,
}
_FIXED: dict[tuple[str, str], tuple[str, ...]] = {
    ("apps", "deployments"): ("spec.selector",),
    ("apps", "replicasets"): ("spec.selector",),
    ("apps", "daemonsets"): ("spec.selector",),
    ("batch", "jobs"): ("spec.selector", "spec.completionMode", "spec.template"),
    ("", "secrets"): ("type",),
    ("discovery.k8s.io", "endpointslices"): ("addressType",),
    ("rbac.authorization.k8s.io", "rolebindings"): ("roleRef",),
    ("rbac.authorization.k8s.io", "clusterrolebindings"): ("roleRef",),
    ("scheduling.k8s.io", "priorityclasses"): ("value", "preemptionPolicy"),
    ("storage.k8s.io", "storageclasses"): ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"),
}


_CHANGES: dict[tuple[str, str], Changes] = {
    ("", "pods"): immutable_pod,
    ("", "nodes"): _node_changes,
    ("", "services"): _service_changes,
    ("", "configmaps"): _config_map_changes,
    ("", "secrets"): _config_map_changes,
    ("apps", "statefulsets"): stateful_set_changes,
}

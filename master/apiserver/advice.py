"""Warnings that go with an answer: deprecated kinds and fields, and what is allowed but surely a mistake. Pure.

Sources: `pkg/api/pod/warnings.go`, `pkg/registry/core/service/strategy.go`, prerelease-lifecycle markers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labctl.kube.resources import Resource

Document = dict[str, Any]

_DEPRECATED = {
    ("", "endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ("", "componentstatuses"): "v1 ComponentStatus is deprecated in v1.19+",
}
_OLD_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_OLD_VOLUMES = {
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
}
_OLD_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": (
        'non-functional in v1.16+; use the "priorityClassName" field instead'
    ),
    "seccomp.security.alpha.kubernetes.io/pod": ('non-functional in v1.27+; use the "seccompProfile" field instead'),
}


def of_kind(resource: Resource) -> str:
    """What to say of a deprecated kind; "" for others."""
    return _DEPRECATED.get((resource.group, resource.plural), "")


def of_object(resource: Resource, document: Document, old: Document | None = None) -> list[str]:
    """What to say of an object that is written; nothing where what it is made of did not change."""
    look = _LOOKS.get((resource.group, resource.plural))
    if look is None or (old is not None and old.get("spec") == document.get("spec")):
        return []
    return look(document)


def _pod(document: Document) -> list[str]:
    return _pod_spec(document.get("spec") or {}, document.get("metadata") or {}, "spec", "metadata")


def _template(path: str) -> Callable[[Document], list[str]]:
    def look(document: Document) -> list[str]:
        node: Any = document
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        given = node if isinstance(node, dict) else {}
        return _pod_spec(given.get("spec") or {}, given.get("metadata") or {}, f"{path}.spec", f"{path}.metadata")

    return look


def _pod_spec(spec: Document, metadata: Document, path: str, meta_path: str) -> list[str]:
    told = [
        f"{path}.nodeSelector[{key}]: {_OLD_LABELS[key]}"
        for key in spec.get("nodeSelector") or ()
        if key in _OLD_LABELS
    ]
    for key in metadata.get("annotations") or ():
        if key in _OLD_ANNOTATIONS:
            told.append(f"{meta_path}.annotations[{key}]: {_OLD_ANNOTATIONS[key]}")
    for at, volume in enumerate(spec.get("volumes") or ()):
        told += [f"{path}.volumes[{at}].{kind}: {_OLD_VOLUMES[kind]}" for kind in volume if kind in _OLD_VOLUMES]
    told += _twice(spec.get("imagePullSecrets") or (), f"{path}.imagePullSecrets", "name", "imagePullSecrets")
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        told.append(
            f"{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        )
    for field in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(field) or ()):
            told += _container(container, f"{path}.{field}[{at}]")
    return told


def _container(container: Document, path: str) -> list[str]:
    told: list[str] = []
    seen: set[str] = set()
    for at, variable in enumerate(container.get("env") or ()):
        name = variable.get("name", "")
        if name in seen:
            told.append(
                f'{path}.env[{at}]: hides previous definition of "{name}", which may be dropped when using apply'
            )
        seen.add(name)
    ports: dict[tuple[Any, Any, Any], int] = {}
    for at, port in enumerate(container.get("ports") or ()):
        claim = (port.get("containerPort"), port.get("protocol", "TCP"), f"{port.get('hostIP')}:{port.get('hostPort')}")
        if claim in ports:
            told.append(f"{path}.ports[{at}]: duplicate port definition with {path}.ports[{ports[claim]}]")
        ports.setdefault(claim, at)
    for key in ("requests", "limits"):
        for name, amount in ((container.get("resources") or {}).get(key) or {}).items():
            if name in {"memory", "ephemeral-storage"} and str(amount).endswith("m"):
                told.append(
                    f'{path}.resources.{key}[{name}]: fractional byte value "{amount}" is invalid, must be an integer'
                )
    return told


def _twice(entries: Any, path: str, key: str, what: str) -> list[str]:
    told: list[str] = []
    seen: set[str] = set()
    for at, entry in enumerate(entries):
        name = entry.get(key, "")
        if not name:
            told.append(f'{path}[{at}].{key}: invalid empty name ""')
        elif name in seen:
            told.append(f'{path}[{at}].{key}: duplicate {what} "{name}"')
        seen.add(name)
    return told


def _service(document: Document) -> list[str]:
    spec = document.get("spec") or {}
    told: list[str] = []
    if spec.get("clusterIP") == "None":
        told += [
            f"spec.{key} is ignored for headless services" for key in ("loadBalancerIP", "externalIPs") if spec.get(key)
        ]
        if spec.get("sessionAffinity") not in (None, "None"):
            told.append("spec.SessionAffinity is ignored for headless services")
    if spec.get("externalIPs"):
        told.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
        if spec.get("type") == "ExternalName":
            told.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if spec.get("externalName") and spec.get("type") != "ExternalName":
        told.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        told.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return told


_LOOKS: dict[tuple[str, str], Callable[[Document], list[str]]] = {
    ("", "pods"): _pod,
    ("", "services"): _service,
    ("", "podtemplates"): _template("template"),
    ("", "replicationcontrollers"): _template("spec.template"),
    ("apps", "deployments"): _template("spec.template"),
    ("apps", "replicasets"): _template("spec.template"),
    ("apps", "statefulsets"): _template("spec.template"),
    ("apps", "daemonsets"): _template("spec.template"),
    ("batch", "jobs"): _template("spec.template"),
    ("batch", "cronjobs"): _template("spec.jobTemplate.spec.template"),
}

"""Upstream's defaults for Pods and for the Pod templates of workloads. Source: `pkg/apis/core/v1/defaults.go`.

Functions change the document they are given, and only where a field is absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]

_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_FILE_MODE = 420  # 0644


def fill(document: Document, **values: Any) -> None:
    """Set each field that is absent, or empty where its default is a word."""
    for key, value in values.items():
        if key not in document or (document[key] == "" and isinstance(value, str)):
            document[key] = value


def pod(document: Document) -> None:
    """A Pod itself: its spec, and what only Pods get."""
    spec = document.setdefault("spec", {})
    pod_spec(spec)
    if isinstance(grace := spec.get("terminationGracePeriodSeconds"), int) and grace < 0:
        spec["terminationGracePeriodSeconds"] = 1
    fill(spec, enableServiceLinks=True)
    for container in containers(spec):
        _requests_from_limits(container)
        if spec.get("hostNetwork") is True:
            for port in container.get("ports") or ():
                port["hostPort"] = port.get("hostPort") or port.get("containerPort", 0)
    fill(document.setdefault("status", {}), phase="Pending")


def template(document: Document) -> None:
    """A workload's `template`."""
    document.setdefault("metadata", {})
    pod_spec(document.setdefault("spec", {}))


def containers(spec: Document) -> Iterator[Document]:
    """Every container that runs from the start: init containers and the others."""
    for field in ("initContainers", "containers"):
        yield from (entry for entry in spec.get(field) or () if isinstance(entry, dict))


def pod_spec(spec: Document) -> None:
    """What Pods and templates share."""
    fill(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    if "serviceAccountName" in spec:
        fill(spec, serviceAccount=spec["serviceAccountName"])
    elif "serviceAccount" in spec:
        spec["serviceAccountName"] = spec["serviceAccount"]
    for container in (*containers(spec), *(spec.get("ephemeralContainers") or ())):
        _container(container)
    for volume in spec.get("volumes") or ():
        _volume(volume)
    for constraint in spec.get("topologySpreadConstraints") or ():
        fill(constraint, nodeAffinityPolicy="Honor", nodeTaintsPolicy="Ignore")


def _container(container: Document) -> None:
    fill(
        container,
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        imagePullPolicy=pull_policy(str(container.get("image", ""))),
    )
    for port in container.get("ports") or ():
        fill(port, protocol="TCP")
    for variable in container.get("env") or ():
        _field_ref(variable.get("valueFrom") or {})
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(name):
            fill(probe, **_PROBE)
            _handler(probe)
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _handler(handler)


def _handler(handler: Document) -> None:
    if isinstance(get := handler.get("httpGet"), dict):
        fill(get, path="/", scheme="HTTP")
    if isinstance(grpc := handler.get("grpc"), dict):
        fill(grpc, service="")


def _field_ref(source: Document) -> None:
    if isinstance(ref := source.get("fieldRef"), dict):
        fill(ref, apiVersion="v1")
    if isinstance(ref := source.get("resourceFieldRef"), dict):
        fill(ref, divisor="0")


def pull_policy(image: str) -> str:
    """Always for `latest` or no tag at all, else IfNotPresent; a digest counts as a tag."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in {"", "latest"} else "IfNotPresent"


def _volume(volume: Document) -> None:
    if not any(key != "name" for key in volume):
        volume["emptyDir"] = {}
    for kind in ("secret", "configMap", "downwardAPI", "projected"):
        if isinstance(source := volume.get(kind), dict):
            fill(source, defaultMode=_FILE_MODE)
            for item in (source.get("items") or ()) if kind == "downwardAPI" else ():
                _field_ref(item)
    if isinstance(path := volume.get("hostPath"), dict):
        fill(path, type="")
    for source in (volume.get("projected") or {}).get("sources") or ():
        if isinstance(token := source.get("serviceAccountToken"), dict):
            fill(token, expirationSeconds=3600)
        for item in (source.get("downwardAPI") or {}).get("items") or ():
            _field_ref(item)


def _requests_from_limits(container: Document) -> None:
    resources = container.get("resources") or {}
    if limits := resources.get("limits"):
        requests = resources.setdefault("requests", {})
        for name, value in limits.items():
            requests.setdefault(name, value)

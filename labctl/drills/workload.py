"""The workload under test: a labelled Deployment and Service of the lab's, else one of our own, removed afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from labctl.drills.actions import DeleteObject
from labctl.drills.records import PodSeen
from labctl.drills.target import Api
from labctl.kube.errors import AlreadyExists, Document
from labctl.kube.resources import DEPLOYMENTS, NAMESPACES, SERVICES
from labctl.runtime.errors import LabError

LABEL = "labctl.dev/drill-target"
NAMESPACE = "labctl-drill"
IMAGE = "lab.local/web:1"


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What our own workload runs: a web server that answers `GET /`."""

    name: str = IMAGE
    port: int = 8080


_SELECTOR = {"app": "labctl-drill-web"}


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment and the NodePort Service in front of it."""

    namespace: str
    deployment: str
    service: str
    node_port: int
    replicas: int
    selector: Mapping[str, str]

    def covers(self, pod: PodSeen) -> bool:
        """Whether the pod belongs to it."""
        return pod.namespace == self.namespace and self.selector.items() <= pod.labels.items()


# What `deploy` makes, before the API server has given it a node port.
OWN = Workload(namespace=NAMESPACE, deployment="web", service="web", node_port=0, replicas=3, selector=_SELECTOR)


def find(api: Api) -> Workload | None:
    """The first Deployment labelled `labctl.dev/drill-target` with a NodePort Service of the same label; else None."""
    services = [msgspec.json.decode(raw) for raw in api.list(SERVICES, label_selector=LABEL).items]
    for raw in api.list(DEPLOYMENTS, label_selector=LABEL).items:
        deployment = msgspec.json.decode(raw)
        for service in services:
            if _match(deployment, service) and (port := node_port(service)):
                return _workload(deployment, service, port)
    return None


def own_cleanups() -> tuple[DeleteObject, ...]:
    """Removes what `deploy` makes; to be on disk before it is called."""
    return (DeleteObject(plural="namespaces", group="", namespace="", name=NAMESPACE),)


def deploy(api: Api, image: Image | None = None, *, replicas: int = OWN.replicas) -> Workload:
    """Make our own workload (a small web server, by default the image that every lab has); LabError where it fails."""
    deployment = _deployment(replicas, image or Image())
    for resource, body, namespace in (
        (NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, ""),
        (DEPLOYMENTS, deployment, NAMESPACE),
        (SERVICES, _service(), NAMESPACE),
    ):
        try:
            made = api.create(resource, body, namespace)
        except AlreadyExists as error:
            raise LabError(
                f"{NAMESPACE}: an earlier drill's workload is still there: {error}",
                hint=f"wait until `labctl kubectl -- get ns {NAMESPACE}` says NotFound, or delete it",
            ) from error
    port = node_port(made)
    if not port:
        raise LabError(f"the API server gave the service {NAMESPACE}/web no node port")
    return _workload(deployment, made, port)


def _match(deployment: Document, service: Document) -> bool:
    left, right = deployment["metadata"], service["metadata"]
    return bool(left["namespace"] == right["namespace"] and left["labels"][LABEL] == right["labels"][LABEL])


def node_port(service: Document) -> int:
    """The first node port of a Service; 0 where it has none."""
    ports: list[dict[str, Any]] = service["spec"].get("ports") or []
    return next((int(port["nodePort"]) for port in ports if port.get("nodePort")), 0)


def _workload(deployment: Document, service: Document, port: int) -> Workload:
    replicas = deployment["spec"].get("replicas")
    return Workload(
        namespace=service["metadata"]["namespace"],
        deployment=deployment["metadata"]["name"],
        service=service["metadata"]["name"],
        node_port=port,
        replicas=1 if replicas is None else int(replicas),
        selector=dict(service["spec"].get("selector") or {}),
    )


def _deployment(replicas: int, image: Image) -> Document:
    container = {
        "name": "web",
        "image": image.name,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": image.port}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": NAMESPACE, "labels": {**_SELECTOR, LABEL: "own"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": _SELECTOR},
            "template": {
                "metadata": {"labels": _SELECTOR},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [container]},
            },
        },
    }


def _service() -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": NAMESPACE, "labels": {**_SELECTOR, LABEL: "own"}},
        "spec": {
            "type": "NodePort",
            "selector": _SELECTOR,
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    }

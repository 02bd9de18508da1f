"""What must exist before anything else: the system's namespaces, priority classes, the Service `kubernetes`.

Idempotent; run at every start. Source: `pkg/controlplane/controller/{systemnamespaces,kubernetesservice}`.
"""

from __future__ import annotations

import contextlib
from typing import Any

from labctl.kube.errors import AlreadyExists, NotFound
from labctl.kube.resources import ENDPOINT_SLICES, NAMESPACES, PRIORITY_CLASSES, SERVICES, Resource, builtin
from master.apiserver import bootstrap_rbac
from master.apiserver.context import Context
from master.apiserver.request import Request, Target, User
from master.apiserver.write import create_object

Document = dict[str, Any]

_SYSTEM = User("system:apiserver", ("system:masters", "system:authenticated"))
_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease", "default")
_CLASSES = (
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
)


def run(context: Context) -> None:
    """Create what is missing; release addresses and ports that nothing holds."""
    for name in _NAMESPACES:
        _create(context, NAMESPACES, "", {"metadata": {"name": name}})
    for name, value, description in _CLASSES:
        _create(context, PRIORITY_CLASSES, "", {"metadata": {"name": name}, "value": value, "description": description})
    cidr = builtin("servicecidrs", "networking.k8s.io")
    _create(context, cidr, "", {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": [context.config.service_cidr]}})
    _kubernetes_service(context)
    context.allocation.repair()
    bootstrap_rbac.run(context)


def _create(context: Context, resource: Resource, namespace: str, document: Document) -> None:
    kind = context.registry.of(resource)
    if context.storage.find(kind, namespace, document["metadata"]["name"]) is not None:
        return
    target = Target(resource.group, resource.version, resource.plural, namespace)
    options = {"fieldManager": "kube-apiserver"}
    request = Request(
        method="POST", path=resource.path(namespace), query=options, headers={}, user=_SYSTEM, target=target
    )
    head = {"kind": resource.kind, "apiVersion": resource.api_version}
    with contextlib.suppress(AlreadyExists):  # another API server was faster
        create_object(context, request, kind, head | document, namespace)


def _kubernetes_service(context: Context) -> None:
    labels = {"component": "apiserver", "provider": "kubernetes"}
    port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": context.config.port}
    spec = {"clusterIP": context.allocation.first_address, "ports": [port], "type": "ClusterIP"}
    _create(context, SERVICES, "default", {"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec})
    endpoints: Document = {
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [context.config.advertise_address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": context.config.port, "protocol": "TCP"}],
    }
    _create(context, ENDPOINT_SLICES, "default", endpoints)
    _advertise(context)


def _advertise(context: Context) -> None:
    """This server's address stands among the endpoints; others' stay."""
    address = context.config.advertise_address
    kind = context.registry.of(ENDPOINT_SLICES)

    def change(old: Document) -> Document:
        known = [one for entry in old.get("endpoints") or () for one in entry.get("addresses") or ()]
        if address not in known:
            old["endpoints"] = [*(old.get("endpoints") or ()), {"addresses": [address], "conditions": {"ready": True}}]
        return old

    try:
        context.storage.change(kind, "default", "kubernetes", change)
    except NotFound:
        return  # deleted under our hands: the next start makes it again

"""What must exist before anything else: the system's namespaces, priority classes, the Service `kubernetes`.

Idempotent; run at every start. Source: `pkg/controlplane/controller/{systemnamespaces,kubernetesservice}`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from labctl.kube.errors import AlreadyExists, ApiError, NotFound
from labctl.kube.resources import ENDPOINT_SLICES, NAMESPACES, PRIORITY_CLASSES, SERVICES, Resource, builtin
from labctl.kube.timing import KUBERNETES
from master.apiserver import bootstrap_rbac
from master.apiserver.api_endpoints import ApiLease, endpoints_of, serving, slice_of
from master.apiserver.context import Context
from master.apiserver.request import Request, Target, User
from master.apiserver.write import create_object
from master.store.protocol import StoreError

Document = dict[str, Any]

_log = logging.getLogger(__name__)

_LOOK_EVERY = 10
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


def keep_endpoints(context: Context) -> None:
    """From now on until the server stops: the Service `kubernetes` leads to every API server that serves, and to this.

    A write only where that changes, and a look at it all now and then, in case somebody else changed it.
    """
    store, config = context.storage.store, context.config
    # With one etcd member there is one API server: nobody waits to see it given up, and a renewal costs etcd two calls.
    ttl_s = (config.timing if len(config.etcd_servers) > 1 else KUBERNETES).api_lease_s
    lease = ApiLease(store, config.advertise_address, ttl_s)
    published: tuple[str, ...] = ()
    passes = 0
    while not context.stop.is_set():
        try:
            lease.renew()
            if (addresses := serving(store)) != published or passes % _LOOK_EVERY == 0:
                _kubernetes_service(context)
                publish(context, addresses)
                published = addresses
            passes += 1
        except (StoreError, ApiError) as error:
            _log.warning("cannot say that this server serves", extra={"kv": {"error": error}})
        context.stop.wait_s(ttl_s / 3)
    with contextlib.suppress(StoreError, ApiError):
        lease.withdraw()
        publish(context, serving(store))


def _kubernetes_service(context: Context) -> None:
    labels = {"component": "apiserver", "provider": "kubernetes"}
    port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": context.config.port}
    spec = {"clusterIP": context.allocation.first_address, "ports": [port], "type": "ClusterIP"}
    _create(context, SERVICES, "default", {"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec})


def publish(context: Context, addresses: Sequence[str]) -> None:
    """Write who serves into EndpointSlice and Endpoints `kubernetes`, where it is not there yet; never nobody."""
    if not addresses:
        return
    port = context.config.port
    head = {"kubernetes.io/service-name": "kubernetes"}
    _fields(context, ENDPOINT_SLICES, head, {"addressType": "IPv4", **slice_of(addresses, port)})
    head = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    _fields(context, builtin("endpoints"), head, endpoints_of(addresses, port))


def _fields(context: Context, resource: Resource, labels: Mapping[str, str], fields: Document) -> None:
    """See that `default/kubernetes` of this resource has these fields."""
    _create(context, resource, "default", {"metadata": {"name": "kubernetes", "labels": labels}, **fields})
    with contextlib.suppress(NotFound):  # deleted under our hands: made again next time
        context.storage.change(context.registry.of(resource), "default", "kubernetes", lambda old: {**old, **fields})

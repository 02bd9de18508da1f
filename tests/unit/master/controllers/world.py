"""Build worlds in one line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from labctl.kube.resources import DEPLOYMENTS, ENDPOINT_SLICES, LEASES, NODES, PODS, REPLICA_SETS, SERVICES, Resource
from labctl.runtime.clock import rfc3339
from master.controllers import views, views_deployments, views_services
from master.controllers.protocol import Action, Failure, Patch, Plan, Settings, World

NOW = datetime(2026, 6, 1, tzinfo=UTC)
VIEWS: dict[Resource, Any] = {
    PODS: views.Pod,
    NODES: views.Node,
    LEASES: views.Lease,
    SERVICES: views_services.Service,
    ENDPOINT_SLICES: views_services.EndpointSlice,
    REPLICA_SETS: views_deployments.ReplicaSet,
    DEPLOYMENTS: views_deployments.Deployment,
}


def ago(seconds: float) -> str:
    """A stamp before NOW."""
    return rfc3339(NOW - timedelta(seconds=seconds))


def meta(name: str, namespace: str = "default", **more: Any) -> dict[str, Any]:
    """Metadata with a uid that follows from the name."""
    return {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": "1", **more}


def owned_by(kind: str, name: str) -> list[dict[str, Any]]:
    """A controller reference."""
    return [{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": f"uid-{name}", "controller": True}]


def pod(
    name: str,
    *,
    node: str = "",
    ready: bool = False,
    phase: str = "",
    labels: dict[str, str] | None = None,
    owner: str = "",
    spec: dict[str, Any] | None = None,
    ready_s: float = 100.0,
    ip: str = "",
    **more: Any,
) -> dict[str, Any]:
    """A pod as the API has it."""
    if owner:
        more["ownerReferences"] = owned_by("ReplicaSet", owner)
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": ago(ready_s)}
    return {
        "metadata": meta(name, labels={"app": "web"} if labels is None else labels, **more),
        "spec": {"nodeName": node, **(spec or {})},
        "status": {"phase": phase or ("Running" if ready else "Pending"), "conditions": [condition], "podIP": ip},
    }


def node(name: str, ready: str = "True", taints: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """A node; taints as `key:effect`. `ready` "" has never reported."""
    status: dict[str, Any] = {}
    if ready:
        pressures = [{"type": kind, "status": "Unknown" if ready == "Unknown" else "False"} for kind in PRESSURES]
        status = {"conditions": [{"type": "Ready", "status": ready}, *pressures]}
    listed = [{"key": key, "effect": effect} for key, _, effect in (taint.rpartition(":") for taint in taints)]
    unschedulable = more.pop("unschedulable", False)
    return {
        "metadata": meta(name, "", **more),
        "spec": {"taints": listed, "unschedulable": unschedulable},
        "status": status,
    }


PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")


def lease(name: str, renewed: str) -> dict[str, Any]:
    """A node's heartbeat."""
    return {"metadata": meta(name, "kube-node-lease"), "spec": {"holderIdentity": name, "renewTime": renewed}}


def world(
    objects: dict[Resource, list[dict[str, Any]]],
    *,
    now_s: float = 1000.0,
    steady_since_s: float = 0.0,
    settings: Settings | None = None,
    failures: dict[str, Failure] | None = None,
    kinds: dict[Resource, Any] | None = None,
) -> World:
    """A world of documents, each decoded as the informers do."""
    known = VIEWS | (kinds or {})
    decoded: dict[Resource, dict[str, Any]] = {}
    for resource, documents in objects.items():
        items = [msgspec.json.decode(msgspec.json.encode(document), type=known[resource]) for document in documents]
        decoded[resource] = {item.metadata.key: item for item in items}
    return World(
        now_s=now_s,
        now=NOW,
        steady_since_s=steady_since_s,
        settings=settings or Settings(),
        objects=decoded,
        failures=failures or {},
    )


def actions(plan: Plan, kind: type[Action] | None = None) -> list[Any]:
    """Every action of a plan, of one type where asked."""
    found = [action for step in plan.steps for action in step.actions]
    return found if kind is None else [action for action in found if isinstance(action, kind)]


def statuses(plan: Plan, resource: Resource) -> dict[str, Any]:
    """The status each object of a kind is given."""
    return {
        action.name: action.body["status"]
        for action in actions(plan, Patch)
        if action.resource == resource and action.subresource == "status"
    }

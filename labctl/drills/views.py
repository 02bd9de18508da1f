"""Reading API objects into a drill's records. Pure: bytes in, record out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from labctl.drills.records import EndpointSeen, LeaseSeen, NodeSeen, PodSeen, Seen, SetSeen, SliceSeen
from labctl.kube.fencing import CONDITION

SERVICE_LABEL = "kubernetes.io/service-name"


class _Owner(msgspec.Struct, frozen=True, rename="camel"):
    kind: str = ""
    name: str = ""
    controller: bool = False


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    deletion_timestamp: str | None = None
    labels: Mapping[str, str] | None = None
    owner_references: tuple[_Owner, ...] | None = None


class _Condition(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    status: str = ""
    reason: str = ""


class _Taint(msgspec.Struct, frozen=True):
    key: str
    effect: str = ""


class _Address(msgspec.Struct, frozen=True):
    type: str
    address: str


class _NodeSpec(msgspec.Struct, frozen=True, rename={"pod_cidr": "podCIDR"}):
    taints: tuple[_Taint, ...] | None = None
    pod_cidr: str = ""


class _NodeStatus(msgspec.Struct, frozen=True):
    conditions: tuple[_Condition, ...] | None = None
    addresses: tuple[_Address, ...] | None = None


class _Node(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _NodeSpec = _NodeSpec()
    status: _NodeStatus = _NodeStatus()


class _Toleration(msgspec.Struct, frozen=True, rename="camel"):
    key: str = ""
    operator: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class _PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""
    tolerations: tuple[_Toleration, ...] | None = None


class _PodStatus(msgspec.Struct, frozen=True, rename={"pod_ip": "podIP"}):
    phase: str = ""
    reason: str = ""
    pod_ip: str = ""
    conditions: tuple[_Condition, ...] | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()


class _Ready(msgspec.Struct, frozen=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Ref(msgspec.Struct, frozen=True):
    name: str = ""


class _Endpoint(msgspec.Struct, frozen=True, rename="camel"):
    addresses: tuple[str, ...] = ()
    node_name: str | None = None
    target_ref: _Ref | None = None
    conditions: _Ready = _Ready()


class _Slice(msgspec.Struct, frozen=True):
    metadata: _Meta
    endpoints: tuple[_Endpoint, ...] | None = None


class _LeaseSpec(msgspec.Struct, frozen=True, rename="camel"):
    renew_time: str | None = None
    holder_identity: str | None = None


class _Lease(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _LeaseSpec = _LeaseSpec()


class _SetSpec(msgspec.Struct, frozen=True):
    replicas: int | None = None


class _SetStatus(msgspec.Struct, frozen=True, rename="camel"):
    observed_generation: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0


class _Set(msgspec.Struct, frozen=True):
    metadata: _Meta
    spec: _SetSpec = _SetSpec()
    status: _SetStatus = _SetStatus()


class Headed(msgspec.Struct, frozen=True):
    """Any object's metadata."""

    metadata: _Meta


_node, _pod, _slice, _lease, _set, _headed = (
    msgspec.json.Decoder(_Node), msgspec.json.Decoder(_Pod), msgspec.json.Decoder(_Slice),
    msgspec.json.Decoder(_Lease), msgspec.json.Decoder(_Set), msgspec.json.Decoder(Headed),
)  # fmt: skip


def revision_of(raw: msgspec.Raw) -> str:
    """The object's resourceVersion."""
    return _headed.decode(raw).metadata.resource_version


def identity_of(raw: msgspec.Raw) -> tuple[str, str]:
    """(`namespace/name` or `name`, resourceVersion)."""
    meta = _headed.decode(raw).metadata
    return (f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name), meta.resource_version


def node(event: str, raw: msgspec.Raw) -> NodeSeen:
    """A Node."""
    found = _node.decode(raw)
    ready = _condition(found.status.conditions, "Ready")
    addresses = {entry.type: entry.address for entry in found.status.addresses or ()}
    return NodeSeen(
        event=event,
        rv=found.metadata.resource_version,
        name=found.metadata.name,
        ready=ready.status,
        reason=ready.reason,
        taints=tuple(f"{taint.key}:{taint.effect}" for taint in found.spec.taints or ()),
        pod_cidr=found.spec.pod_cidr,
        address=addresses.get("InternalIP", ""),
        fenced=_condition(found.status.conditions, CONDITION).status == "True",
    )


def pod(event: str, raw: msgspec.Raw) -> PodSeen:
    """A Pod."""
    found = _pod.decode(raw)
    meta, conditions = found.metadata, found.status.conditions
    owner = next((entry for entry in meta.owner_references or () if entry.controller), _Owner())
    disruption = _condition(conditions, "DisruptionTarget")
    return PodSeen(
        event=event,
        rv=meta.resource_version,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        node=found.spec.node_name,
        phase=found.status.phase,
        ready=_condition(conditions, "Ready").status == "True",
        deleting=meta.deletion_timestamp is not None,
        disruption=disruption.reason if disruption.status == "True" else "",
        reason=found.status.reason,
        owner=f"{owner.kind}/{owner.name}" if owner.kind else "",
        address=found.status.pod_ip,
        labels=dict(meta.labels or {}),
        tolerates_s={
            entry.key: entry.toleration_seconds
            for entry in found.spec.tolerations or ()
            if entry.effect in {"", "NoExecute"}
        },
    )


def endpoint_slice(event: str, raw: msgspec.Raw) -> SliceSeen:
    """An EndpointSlice; an unknown `ready` counts as ready, as the API's documentation asks of readers."""
    found = _slice.decode(raw)
    return SliceSeen(
        event=event,
        rv=found.metadata.resource_version,
        namespace=found.metadata.namespace,
        name=found.metadata.name,
        service=(found.metadata.labels or {}).get(SERVICE_LABEL, ""),
        endpoints=tuple(
            EndpointSeen(
                address=address,
                node=entry.node_name or "",
                pod=entry.target_ref.name if entry.target_ref else "",
                ready=entry.conditions.ready is not False,
                serving=entry.conditions.serving is not False,
                terminating=bool(entry.conditions.terminating),
            )
            for entry in found.endpoints or ()
            for address in entry.addresses
        ),
    )


def lease(event: str, raw: msgspec.Raw) -> LeaseSeen:
    """A Lease."""
    found = _lease.decode(raw)
    return LeaseSeen(
        event=event,
        rv=found.metadata.resource_version,
        name=found.metadata.name,
        renewed=found.spec.renew_time or "",
        holder=found.spec.holder_identity or "",
        namespace=found.metadata.namespace,
    )


def set_like(kind: str, raw: msgspec.Raw) -> SetSeen:
    """A Deployment or StatefulSet."""
    found = _set.decode(raw)
    return SetSeen(
        kind=kind,
        namespace=found.metadata.namespace,
        name=found.metadata.name,
        desired=1 if found.spec.replicas is None else found.spec.replicas,
        updated=found.status.updated_replicas,
        ready=found.status.ready_replicas,
        available=found.status.available_replicas,
        observed=found.status.observed_generation >= found.metadata.generation,
    )


def _condition(conditions: tuple[_Condition, ...] | None, kind: str) -> _Condition:
    return next((entry for entry in conditions or () if entry.type == kind), _Condition())


READERS: Mapping[str, Callable[[str, msgspec.Raw], Seen]] = {
    "nodes": node,
    "pods": pod,
    "endpointslices": endpoint_slice,
    "leases": lease,
    "leaders": lease,
}


def read(stream: str, event: str, raw: msgspec.Raw) -> Seen:
    """The record for an object of one of the streams."""
    return READERS[stream](event, raw)

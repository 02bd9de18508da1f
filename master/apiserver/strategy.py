"""What each kind does beyond its schema when it is written: status apart from spec, generations, derived fields. Pure.

Source: `pkg/registry/*/strategy.go` (PrepareForCreate, PrepareForUpdate).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labctl.kube.resources import Resource
from master.apiserver import strategy_service
from master.apiserver.qos import qos_class

Document = dict[str, Any]
Hook = Callable[[Document], None]

# Kinds whose metadata.generation counts changes of what is not metadata or status.
_GENERATION = frozenset({
    "pods", "replicationcontrollers", "deployments", "replicasets", "statefulsets", "daemonsets", "jobs", "cronjobs",
    "poddisruptionbudgets", "ingresses", "ingressclasses", "networkpolicies", "customresourcedefinitions",
    "mutatingwebhookconfigurations", "validatingwebhookconfigurations", "validatingadmissionpolicies",
    "validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "flowschemas",
    "prioritylevelconfigurations", "priorityclasses", "resourceslices", "deviceclasses",
})  # fmt: skip
# Kinds that may bring their status along when they are created.
_STATUS_ON_CREATE = frozenset({"nodes", "namespaces", "pods", "persistentvolumes"})
# Kinds whose status writers may change labels and annotations.
STATUS_METADATA = frozenset({"pods", "nodes"})
# Kinds that come back themselves when they are deleted at once; others answer with a Status.
RETURNS_DELETED = frozenset({
    "pods", "podtemplates", "serviceaccounts", "persistentvolumes", "persistentvolumeclaims", "services", "namespaces",
    "resourcequotas", "storageclasses", "csidrivers", "csinodes", "volumeattachments", "volumeattributesclasses",
    "deviceclasses", "resourceclaims", "resourceclaimtemplates", "resourceslices",
})  # fmt: skip


_RBAC = "rbac.authorization.k8s.io"
# Kinds that a PUT creates where there is none yet.
_CREATED_BY_UPDATE = frozenset({
    ("", "endpoints"), ("", "events"), ("", "limitranges"), ("", "services"), ("coordination.k8s.io", "leases"),
    ("node.k8s.io", "runtimeclasses"), (_RBAC, "roles"), (_RBAC, "rolebindings"), (_RBAC, "clusterroles"),
    (_RBAC, "clusterrolebindings"),
})  # fmt: skip
# Kinds that a PUT changes only if it says which version it saw.
_CONDITIONAL = frozenset({
    ("certificates.k8s.io", "clustertrustbundles"), ("certificates.k8s.io", "podcertificaterequests"),
    ("coordination.k8s.io", "leases"), ("node.k8s.io", "runtimeclasses"), ("policy", "poddisruptionbudgets"),
    ("storage.k8s.io", "csidrivers"), ("storage.k8s.io", "csinodes"), ("storage.k8s.io", "csistoragecapacities"),
    ("storage.k8s.io", "volumeattachments"), ("storagemigration.k8s.io", "storageversionmigrations"),
    *(("admissionregistration.k8s.io", plural) for plural in (
        "mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "mutatingwebhookconfigurations",
        "validatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingwebhookconfigurations",
    )),
})  # fmt: skip
# Subresources of pods that write a part of the spec.
PARTS = frozenset({"resize", "ephemeralcontainers"})


def is_created_by_update(resource: Resource) -> bool:
    """Whether a PUT creates the object where there is none."""
    return (resource.group, resource.plural) in _CREATED_BY_UPDATE


def is_conditional(resource: Resource) -> bool:
    """Whether a PUT must carry a resourceVersion."""
    return (resource.group, resource.plural) in _CONDITIONAL


def has_status(resource: Resource) -> bool:
    """Whether status is written through a subresource of its own."""
    return "status" in resource.subresources


def prepare_create(resource: Resource, document: Document) -> None:
    """Drop what a creator may not set, derive what follows from the rest."""
    if has_status(resource) and resource.plural not in _STATUS_ON_CREATE:
        document["status"] = {}
    if resource.plural in _GENERATION:
        document["metadata"]["generation"] = 1
    if hook := _ON_CREATE.get((resource.group, resource.plural)):
        hook(document)


def prepare_update(resource: Resource, new: Document, old: Document) -> None:
    """The main endpoint: status stays, generation counts."""
    if has_status(resource):
        if "status" in old:
            new["status"] = old["status"]
        else:
            new.pop("status", None)
    if (resource.group, resource.plural) == ("", "namespaces"):
        new["spec"] = old.get("spec", {})  # only /finalize changes it
        new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = new["metadata"]["name"]
    if hook := _ON_UPDATE.get((resource.group, resource.plural)):
        hook(new, old)
    if resource.plural in _GENERATION and _body(new) != _body(old):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    if resource.plural == "pods":
        new["status"] = _with_qos(new)


def prepare_part(subresource: str, new: Document, old: Document) -> Document:
    """/resize and /ephemeralcontainers of a pod: nothing but that part (and labels and annotations) is taken."""
    given, spec = new.get("spec") or {}, dict(old.get("spec") or {})
    if subresource == "ephemeralcontainers":
        spec["ephemeralContainers"] = given.get("ephemeralContainers") or []
        if not spec["ephemeralContainers"]:
            del spec["ephemeralContainers"]
    else:
        for field in ("containers", "initContainers"):
            if field in spec:
                wanted = {entry.get("name"): entry for entry in given.get(field) or ()}
                spec[field] = [_resized(entry, wanted.get(entry.get("name"))) for entry in spec[field]]
    result = {**old, "metadata": new["metadata"], "spec": spec}
    if spec != old.get("spec"):
        result["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return result


def _resized(container: Document, wanted: Document | None) -> Document:
    given = wanted or {}
    return container | {key: given[key] for key in ("resources", "resizePolicy") if key in given}


def prepare_status(resource: Resource, new: Document, old: Document) -> Document:
    """The /status endpoint: only status (and, for pods and nodes, metadata) is taken from `new`."""
    metadata = new["metadata"]
    if resource.plural not in STATUS_METADATA:
        metadata = old["metadata"]
    else:
        for key in ("ownerReferences", "finalizers"):
            if key in old["metadata"]:
                metadata[key] = old["metadata"][key]
            else:
                metadata.pop(key, None)
    result = {**old, "metadata": metadata, "status": new.get("status", {})}
    if resource.plural == "pods":
        result["status"] = _with_qos(result)
    return result


def _body(document: Document) -> Document:
    return {key: value for key, value in document.items() if key not in {"metadata", "status", "kind", "apiVersion"}}


def _with_qos(document: Document) -> Document:
    status = document.get("status") or {}
    return status if "qosClass" in status else {**status, "qosClass": qos_class(document.get("spec") or {})}


_GATED = "Scheduling is blocked due to non-empty scheduling gates"


def _pod_created(document: Document) -> None:
    document["status"] = {"phase": "Pending", "qosClass": qos_class(document["spec"])}
    if document["spec"].get("schedulingGates"):
        entry = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": _GATED}
        born = document["metadata"].get("creationTimestamp")
        document["status"]["conditions"] = [{**entry, "lastProbeTime": None, "lastTransitionTime": born}]


def _namespace_created(document: Document) -> None:
    document.setdefault("spec", {})
    finalizers = document["spec"].setdefault("finalizers", [])
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")
    document["status"] = {"phase": "Active"}


def _job_created(document: Document) -> None:
    """The selector that makes a Job's pods its own. Source: `pkg/registry/batch/job/strategy.go` (generateSelector)."""
    spec = document["spec"]
    if spec.get("manualSelector"):
        return
    uid, name = document["metadata"]["uid"], document["metadata"]["name"]
    labels = spec.setdefault("template", {}).setdefault("metadata", {}).setdefault("labels", {})
    labels |= {
        "batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name,
        "controller-uid": uid, "job-name": name,
    }  # fmt: skip
    selector = spec.setdefault("selector", {})
    selector.setdefault("matchLabels", {})["batch.kubernetes.io/controller-uid"] = uid


_ON_CREATE: dict[tuple[str, str], Hook] = {
    ("", "pods"): _pod_created,
    ("", "namespaces"): _namespace_created,
    ("", "services"): strategy_service.created,
    ("batch", "jobs"): _job_created,
}
_ON_UPDATE: dict[tuple[str, str], Callable[[Document, Document], None]] = {
    ("", "services"): strategy_service.updated,
}

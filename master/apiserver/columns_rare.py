"""The columns of kinds that few people list: webhooks, storage, flow control, devices. Source: `printers.go`."""

from __future__ import annotations

from typing import Any

from master.apiserver.columns import (
    AGE,
    Column,
    Shown,
    boolean,
    container_images,
    container_names,
    joined,
    labels,
    number,
    selector,
)

_ADMISSION = "admissionregistration.k8s.io"
_STORAGE = "storage.k8s.io"
_DEVICES = "resource.k8s.io"


def _at(path: str, default: Any = "") -> Any:
    return lambda shown: shown.at(path, default)


def _true_condition(shown: Shown, wanted: tuple[str, ...], default: str) -> str:
    found = default
    for condition in shown.status.get("conditions") or ():
        if condition.get("type") in wanted and condition.get("status") == "True":
            found = str(condition["type"])
    return found


def _dangling(shown: Shown) -> str:
    for condition in shown.status.get("conditions") or ():
        if condition.get("type") == "Dangling":
            return str(condition.get("status"))
    return "?"


def _parameters(shown: Shown) -> str:
    given = shown.spec.get("parameters")
    if not given:
        return "<none>"
    group = f".{given['apiGroup']}" if "apiGroup" in given else ""
    return f"{given.get('kind', '')}{group}/{given.get('name', '')}"


def _claim_state(shown: Shown) -> str:
    gone = bool(shown.metadata.get("deletionTimestamp"))
    states = ["deleted"] if gone else []
    if shown.status.get("allocation") is None:
        states += [] if gone else ["pending"]
    else:
        states.append("allocated")
        states += ["reserved"] if shown.status.get("reservedFor") else []
    return ",".join(states)


def _audiences(shown: Shown) -> str:
    requests = shown.spec.get("tokenRequests")
    return "<unset>" if requests is None else ",".join(entry.get("audience", "") for entry in requests)


def _migrated(shown: Shown) -> str:
    resource = shown.spec.get("resource") or {}
    return ".".join(filter(None, (resource.get("resource"), resource.get("group"))))


def _param_kind(shown: Shown) -> str:
    kind = shown.spec.get("paramKind")
    return f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else "<unset>"


def _param_ref(shown: Shown) -> str:
    ref = shown.spec.get("paramRef") or {}
    if ref.get("name"):
        return f"{ref.get('namespace') or '*'}/{ref['name']}"
    return selector(ref["selector"]) if ref.get("selector") is not None else "<unset>"


def _used(what: str, unit: str) -> Column:
    """What all containers of a pod, or the node, use of something, in `unit`."""

    def cell(shown: Shown) -> str:
        entries = shown.document.get("containers") or [shown.document]
        total = sum(int(entry["usage"][what].removesuffix(unit)) for entry in entries)
        return f"{total}{unit}" if total else "0"

    return Column(what, cell)


_USED = (_used("cpu", "n"), _used("memory", "Ki"), Column("window", _at("window")))
_WEBHOOKS = (number("Webhooks", lambda shown: len(shown.document.get("webhooks") or ())), AGE)
_QUEUING = "spec.limited.limitResponse.queuing"

COLUMNS: dict[tuple[str, str], tuple[Column, ...]] = {
    ("", "podtemplates"): (
        Column("Containers", lambda shown: container_names(shown, "template.spec.containers")),
        Column("Images", lambda shown: container_images(shown, "template.spec.containers")),
        Column("Pod Labels", lambda shown: labels(shown.at("template.metadata.labels"))),
    ),
    (_ADMISSION, "mutatingwebhookconfigurations"): _WEBHOOKS,
    (_ADMISSION, "validatingwebhookconfigurations"): _WEBHOOKS,
    (_ADMISSION, "validatingadmissionpolicies"): (
        number("Validations", lambda shown: len(shown.spec.get("validations") or ())),
        Column("ParamKind", _param_kind),
        AGE,
    ),
    (_ADMISSION, "validatingadmissionpolicybindings"): (
        Column("PolicyName", _at("spec.policyName")),
        Column("ParamRef", _param_ref),
        AGE,
    ),
    ("certificates.k8s.io", "clustertrustbundles"): (Column("SignerName", _at("spec.signerName", "<none>")),),
    ("certificates.k8s.io", "podcertificaterequests"): (
        Column("PodName", _at("spec.podName")),
        Column("ServiceAccountName", _at("spec.serviceAccountName")),
        Column("NodeName", _at("spec.nodeName")),
        Column("SignerName", _at("spec.signerName")),
        Column("State", lambda shown: _true_condition(shown, ("Issued", "Denied", "Failed"), "Pending")),
        Column("UnverifiedUserAnnotations", lambda shown: labels(shown.spec.get("unverifiedUserAnnotations"))),
    ),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): (
        Column("PriorityLevel", _at("spec.priorityLevelConfiguration.name")),
        Column("MatchingPrecedence", _at("spec.matchingPrecedence", 0)),
        Column("DistinguisherMethod", _at("spec.distinguisherMethod.type", "<none>")),
        AGE,
        Column("MissingPL", _dangling),
    ),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"): (
        Column("Type", _at("spec.type")),
        Column("NominalConcurrencyShares", _at("spec.limited.nominalConcurrencyShares", "<none>")),
        Column("Queues", _at(f"{_QUEUING}.queues", "<none>")),
        Column("HandSize", _at(f"{_QUEUING}.handSize", "<none>")),
        Column("QueueLengthLimit", _at(f"{_QUEUING}.queueLengthLimit", "<none>")),
        AGE,
    ),
    ("metrics.k8s.io", "nodes"): _USED,
    ("metrics.k8s.io", "pods"): _USED,
    ("networking.k8s.io", "ingressclasses"): (
        Column("Controller", _at("spec.controller")),
        Column("Parameters", _parameters),
        AGE,
    ),
    ("node.k8s.io", "runtimeclasses"): (Column("Handler", _at("handler")), AGE),
    (_DEVICES, "resourceclaims"): (Column("State", _claim_state), AGE),
    (_DEVICES, "resourceslices"): (
        Column("Node", _at("spec.nodeName")),
        Column("Driver", _at("spec.driver")),
        Column("Pool", _at("spec.pool.name")),
        AGE,
    ),
    (_DEVICES, "devicetaintrules"): (
        Column("Key", _at("spec.taint.key")),
        Column("Value", _at("spec.taint.value")),
        Column("Effect", _at("spec.taint.effect")),
        Column("TimeAdded", lambda shown: shown.since(shown.at("spec.taint.timeAdded"))),
        AGE,
    ),
    (_STORAGE, "csidrivers"): (
        boolean("AttachRequired", _at("spec.attachRequired", True)),
        boolean("PodInfoOnMount", _at("spec.podInfoOnMount", False)),
        boolean("StorageCapacity", _at("spec.storageCapacity", False)),
        Column("TokenRequests", _audiences),
        boolean("RequiresRepublish", _at("spec.requiresRepublish", False)),
        Column("Modes", lambda shown: joined(shown.spec.get("volumeLifecycleModes") or ())),
        AGE,
    ),
    (_STORAGE, "csinodes"): (number("Drivers", lambda shown: len(shown.spec.get("drivers") or ())), AGE),
    (_STORAGE, "csistoragecapacities"): (
        Column("StorageClassName", _at("storageClassName")),
        Column("Capacity", _at("capacity", "<unset>")),
    ),
    (_STORAGE, "volumeattachments"): (
        Column("Attacher", _at("spec.attacher")),
        Column("PV", _at("spec.source.persistentVolumeName")),
        Column("Node", _at("spec.nodeName")),
        boolean("Attached", _at("status.attached", False)),
        AGE,
    ),
    (_STORAGE, "volumeattributesclasses"): (Column("DriverName", _at("driverName")), AGE),
    ("storagemigration.k8s.io", "storageversionmigrations"): (
        Column("Resource", _migrated),
        Column("Status", lambda shown: _true_condition(shown, ("Running", "Failed", "Succeeded"), "Unknown")),
    ),
}

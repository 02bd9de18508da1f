"""The columns of the groups beyond core. Source: `printers.go`."""

from __future__ import annotations

from typing import Any

from labctl.runtime.clock import parse_time
from master.apiserver.columns import (
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
    Column,
    Shown,
    boolean,
    container_images,
    container_names,
    duration,
    joined,
    labels,
    number,
    selector,
    wide,
)

Document = dict[str, Any]


def _count(field: str, part: str = "status") -> Any:
    return lambda shown: (shown.document.get(part) or {}).get(field, 0)


def _of(*, ready: str, total: str) -> Any:
    return lambda shown: f"{shown.status.get(ready, 0)}/{shown.spec.get(total, 0)}"


def _job_status(shown: Shown) -> str:
    held = {entry.get("type") for entry in shown.status.get("conditions") or () if entry.get("status") == "True"}
    for condition, word in (
        ("Complete", "Complete"), ("Failed", "Failed"), ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"), ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):  # fmt: skip
        if condition in held:
            return word
    return "Terminating" if shown.metadata.get("deletionTimestamp") else "Running"


def _job_completions(shown: Shown) -> str:
    done = shown.status.get("succeeded", 0)
    if shown.spec.get("completions") is not None:
        return f"{done}/{shown.spec['completions']}"
    parallel = shown.spec.get("parallelism", 0)
    return f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"


def _job_duration(shown: Shown) -> str:
    began, ended = shown.status.get("startTime"), shown.status.get("completionTime")
    if not began:
        return ""
    if not ended:
        return shown.since(began)
    return duration((parse_time(ended) - parse_time(began)).total_seconds())


def _slice_ports(shown: Shown) -> str:
    ports = shown.document.get("ports")
    if not ports:
        return "<unset>"
    return joined("*" if port.get("port") is None else port["port"] for port in ports)


def _some(values: list[str], most: int = 3) -> str:
    if not values:
        return "<unset>"
    return ",".join(values[:most]) + (f" + {len(values) - most} more..." if len(values) > most else "")


def _slice_endpoints(shown: Shown) -> str:
    return _some(
        [address for entry in shown.document.get("endpoints") or () for address in entry.get("addresses") or ()]
    )


def _subjects(kind: str) -> Any:
    def cell(shown: Shown) -> str:
        found = []
        for subject in shown.document.get("subjects") or ():
            if subject.get("kind") == kind:
                prefix = f"{subject.get('namespace')}/" if kind == "ServiceAccount" else ""
                found.append(f"{prefix}{subject.get('name')}")
        return ", ".join(found)

    return cell


def _role(shown: Shown) -> str:
    ref = shown.document.get("roleRef") or {}
    return f"{ref.get('kind', '')}/{ref.get('name', '')}"


_BINDING = (
    Column("Role", _role),
    AGE,
    wide("Users", _subjects("User")),
    wide("Groups", _subjects("Group")),
    wide("ServiceAccounts", _subjects("ServiceAccount")),
)


def _ingress_hosts(shown: Shown) -> str:
    return _some([rule["host"] for rule in shown.spec.get("rules") or () if rule.get("host")]).replace("<unset>", "*")


def _ingress_address(shown: Shown) -> str:
    return ",".join(
        entry.get("ip") or entry.get("hostname") or "" for entry in shown.at("status.loadBalancer.ingress", ())
    )


def _budget(field: str) -> Any:
    return lambda shown: str(shown.spec[field]) if field in shown.spec else "N/A"


def _hpa_reference(shown: Shown) -> str:
    target = shown.spec.get("scaleTargetRef") or {}
    return f"{target.get('kind', '')}/{target.get('name', '')}"


def _hpa_targets(shown: Shown) -> str:
    found = []
    current = {
        (entry.get("resource") or {}).get("name"): (entry.get("resource") or {}).get("current") or {}
        for entry in shown.status.get("currentMetrics") or ()
    }
    for metric in shown.spec.get("metrics") or ():
        resource = metric.get("resource") or {}
        target, now = resource.get("target") or {}, current.get(resource.get("name"), {})
        if "averageUtilization" in target:
            seen = f"{now['averageUtilization']}%" if "averageUtilization" in now else "<unknown>"
            found.append(f"{resource.get('name')}: {seen}/{target['averageUtilization']}%")
        elif "averageValue" in target:
            found.append(f"{resource.get('name')}: {now.get('averageValue', '<unknown>')}/{target['averageValue']}")
    return ", ".join(found[:2]) + (f" + {len(found) - 2} more..." if len(found) > 2 else "") if found else "<none>"


def _revision_owner(shown: Shown) -> str:
    for owner in shown.metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            kind = str(owner.get("kind", "")).lower()
            group = str(owner.get("apiVersion", "")).rpartition("/")[0]
            return f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return "<none>"


def _pod_selector(shown: Shown) -> str:
    return labels((shown.spec.get("podSelector") or {}).get("matchLabels"))


def _parent(shown: Shown) -> str:
    parent = shown.spec.get("parentRef") or {}
    parts = (parent.get("group"), parent.get("resource"), parent.get("namespace"), parent.get("name"))
    return "/".join(str(part) for part in parts if part)


def _signed_for(shown: Shown) -> str:
    seconds = shown.spec.get("expirationSeconds")
    return "<none>" if seconds is None else duration(seconds)


def _signing(shown: Shown) -> str:
    held = {entry.get("type") for entry in shown.status.get("conditions") or ()}
    words = ["Denied" if "Denied" in held else "Approved" if "Approved" in held else "Pending"]
    words += ["Failed"] if "Failed" in held else []
    words += ["Issued"] if shown.status.get("certificate") else []
    return ",".join(words)


_HPA = (
    Column("Reference", _hpa_reference),
    Column("Targets", _hpa_targets),
    Column("MinPods", lambda shown: str(shown.spec.get("minReplicas", "<unset>"))),
    Column("MaxPods", _count("maxReplicas", "spec")),
    Column("Replicas", _count("currentReplicas")),
    AGE,
)

COLUMNS: dict[tuple[str, str], tuple[Column, ...]] = {
    ("apps", "deployments"): (
        Column("Ready", _of(ready="readyReplicas", total="replicas")),
        Column("Up-to-date", _count("updatedReplicas")),
        Column("Available", _count("availableReplicas")),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    ("apps", "replicasets"): (
        number("Desired", _count("replicas", "spec")),
        number("Current", _count("replicas")),
        number("Ready", _count("readyReplicas")),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    ("apps", "statefulsets"): (
        Column("Ready", _of(ready="readyReplicas", total="replicas")),
        AGE,
        CONTAINERS,
        IMAGES,
    ),
    ("apps", "daemonsets"): (
        number("Desired", _count("desiredNumberScheduled")),
        number("Current", _count("currentNumberScheduled")),
        number("Ready", _count("numberReady")),
        number("Up-to-date", _count("updatedNumberScheduled")),
        number("Available", _count("numberAvailable")),
        Column("Node Selector", lambda shown: labels(shown.at("spec.template.spec.nodeSelector"))),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    ("apps", "controllerrevisions"): (
        Column("Controller", _revision_owner),
        number("Revision", lambda shown: shown.document.get("revision", 0)),
        AGE,
    ),
    ("batch", "jobs"): (
        Column("Status", _job_status),
        Column("Completions", _job_completions),
        Column("Duration", _job_duration),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ),
    ("batch", "cronjobs"): (
        Column("Schedule", lambda shown: shown.spec.get("schedule", "")),
        Column("Timezone", lambda shown: shown.spec.get("timeZone") or "<none>"),
        boolean("Suspend", lambda shown: str(bool(shown.spec.get("suspend")))),
        number("Active", lambda shown: len(shown.status.get("active") or ())),
        Column(
            "Last Schedule",
            lambda shown: (
                shown.since(shown.status["lastScheduleTime"]) if shown.status.get("lastScheduleTime") else "<none>"
            ),
        ),
        AGE,
        wide("Containers", lambda shown: container_names(shown, "spec.jobTemplate.spec.template.spec.containers")),
        wide("Images", lambda shown: container_images(shown, "spec.jobTemplate.spec.template.spec.containers")),
        wide("Selector", lambda shown: selector(shown.at("spec.jobTemplate.spec.selector"))),
    ),
    ("autoscaling", "horizontalpodautoscalers"): _HPA,
    ("certificates.k8s.io", "certificatesigningrequests"): (
        AGE,
        Column("SignerName", lambda shown: shown.spec.get("signerName") or "<none>"),
        Column("Requestor", lambda shown: shown.spec.get("username", "")),
        Column("RequestedDuration", _signed_for),
        Column("Condition", _signing),
    ),
    ("coordination.k8s.io", "leases"): (Column("Holder", lambda shown: shown.spec.get("holderIdentity", "")), AGE),
    ("discovery.k8s.io", "endpointslices"): (
        Column("AddressType", lambda shown: shown.document.get("addressType", "")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_endpoints),
        AGE,
    ),
    ("networking.k8s.io", "ingresses"): (
        Column("Class", lambda shown: shown.spec.get("ingressClassName") or "<none>"),
        Column("Hosts", _ingress_hosts),
        Column("Address", _ingress_address),
        Column("Ports", lambda shown: "80, 443" if shown.spec.get("tls") else "80"),
        AGE,
    ),
    ("networking.k8s.io", "networkpolicies"): (
        Column("Pod-Selector", _pod_selector),
        AGE,
    ),
    ("networking.k8s.io", "ipaddresses"): (Column("ParentRef", _parent),),
    ("networking.k8s.io", "servicecidrs"): (Column("CIDRs", lambda shown: joined(shown.spec.get("cidrs") or ())), AGE),
    ("policy", "poddisruptionbudgets"): (
        Column("Min Available", _budget("minAvailable")),
        Column("Max Unavailable", _budget("maxUnavailable")),
        number("Allowed Disruptions", _count("disruptionsAllowed")),
        AGE,
    ),
    ("rbac.authorization.k8s.io", "rolebindings"): _BINDING,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): _BINDING,
    ("rbac.authorization.k8s.io", "roles"): (
        Column("Created At", lambda shown: shown.metadata.get("creationTimestamp", "")),
    ),
    ("rbac.authorization.k8s.io", "clusterroles"): (
        Column("Created At", lambda shown: shown.metadata.get("creationTimestamp", "")),
    ),
    ("scheduling.k8s.io", "priorityclasses"): (
        number("Value", lambda shown: shown.document.get("value", 0)),
        boolean("Global-Default", lambda shown: str(bool(shown.document.get("globalDefault"))).lower()),
        AGE,
        Column("PreemptionPolicy", lambda shown: shown.document.get("preemptionPolicy", "")),
    ),
    ("storage.k8s.io", "storageclasses"): (
        Column("Provisioner", lambda shown: shown.document.get("provisioner", "")),
        Column("ReclaimPolicy", lambda shown: shown.document.get("reclaimPolicy", "Delete")),
        Column("VolumeBindingMode", lambda shown: shown.document.get("volumeBindingMode", "Immediate")),
        Column("AllowVolumeExpansion", lambda shown: str(bool(shown.document.get("allowVolumeExpansion"))).lower()),
        AGE,
    ),
}

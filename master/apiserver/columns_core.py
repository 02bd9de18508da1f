"""The columns of the core group, apart from Pods. Source: `printers.go`."""

from __future__ import annotations

from typing import Any

from master.apiserver.columns import (
    AGE,
    CONTAINERS,
    IMAGES,
    Column,
    Shown,
    joined,
    labels,
    number,
    wide,
)

Document = dict[str, Any]


def _node_status(shown: Shown) -> str:
    words = []
    for condition in shown.status.get("conditions") or ():
        if condition.get("type") == "Ready":
            words.append("Ready" if condition.get("status") == "True" else "NotReady")
    words = words or ["Unknown"]
    if shown.spec.get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_roles(shown: Shown) -> str:
    found = set()
    for key, value in (shown.metadata.get("labels") or {}).items():
        if key.startswith("node-role.kubernetes.io/"):
            found.add(key.removeprefix("node-role.kubernetes.io/"))
        elif key == "kubernetes.io/role" and value:
            found.add(value)
    return joined(sorted(found))


def _node_address(kind: str) -> Any:
    def address(shown: Shown) -> str:
        for entry in shown.status.get("addresses") or ():
            if entry.get("type") == kind:
                return str(entry.get("address"))
        return "<none>"

    return address


def _node_info(field: str) -> Any:
    return lambda shown: shown.at(f"status.nodeInfo.{field}") or "<unknown>"


def _external_ip(shown: Shown) -> str:
    found = [entry.get("ip") or entry.get("hostname") or "" for entry in shown.at("status.loadBalancer.ingress", ())]
    found += shown.spec.get("externalIPs") or []
    if found:
        return ",".join(found)
    kind = shown.spec.get("type")
    if kind == "ExternalName":
        return str(shown.spec.get("externalName", ""))
    return "<pending>" if kind == "LoadBalancer" else "<none>"


def _cluster_ip(shown: Shown) -> str:
    addresses = shown.spec.get("clusterIPs") or [shown.spec.get("clusterIP")]
    return str(addresses[0] or "<none>")


def _ports(shown: Shown) -> str:
    return joined(
        f"{port.get('port')}:{port['nodePort']}/{port.get('protocol')}"
        if port.get("nodePort")
        else f"{port.get('port')}/{port.get('protocol')}"
        for port in shown.spec.get("ports") or ()
    )


def _endpoints(shown: Shown) -> str:
    found: list[str] = []
    for subset in shown.document.get("subsets") or ():
        addresses = [entry.get("ip", "") for entry in subset.get("addresses") or ()]
        ports = [port.get("port") for port in subset.get("ports") or ()]
        found += [f"{ip}:{port}" for port in ports for ip in addresses] if ports else addresses
    return ",".join(found[:3]) + (f" + {len(found) - 3} more..." if len(found) > 3 else "") or "<none>"


def _event_object(shown: Shown) -> str:
    about = shown.document.get("involvedObject") or shown.document.get("regarding") or {}
    kind = str(about.get("kind", "")).lower()
    return f"{kind}/{about.get('name', '')}" if about.get("name") else kind


def _event_source(shown: Shown) -> str:
    source = shown.document.get("source") or shown.document.get("deprecatedSource") or {}
    if not source.get("component"):
        return str(shown.document.get("reportingComponent") or shown.document.get("reportingController") or "")
    return ", ".join(filter(None, (source.get("component"), source.get("host"))))


def _event_seen(shown: Shown, which: str) -> str:
    names = {
        "first": ("firstTimestamp", "deprecatedFirstTimestamp"),
        "last": ("lastTimestamp", "deprecatedLastTimestamp"),
    }
    if which == "last" and (series := shown.document.get("series")):
        return shown.since(series.get("lastObservedTime"))
    for name in names[which]:
        if stamp := shown.document.get(name):
            return shown.since(stamp)
    return shown.since(shown.document.get("eventTime") or shown.metadata.get("creationTimestamp"))


_EVENT = (
    Column("Last Seen", lambda shown: _event_seen(shown, "last")),
    Column("Type", lambda shown: shown.document.get("type", "")),
    Column("Reason", lambda shown: shown.document.get("reason", "")),
    Column("Object", _event_object),
    wide(
        "Subobject",
        lambda shown: (shown.document.get("involvedObject") or shown.document.get("regarding") or {}).get(
            "fieldPath", ""
        ),
    ),
    wide("Source", _event_source),
    Column("Message", lambda shown: str(shown.document.get("message") or shown.document.get("note") or "").strip()),
    wide("First Seen", lambda shown: _event_seen(shown, "first")),
    wide(
        "Count",
        lambda shown: str(
            (shown.document.get("series") or {}).get("count")
            or shown.document.get("count")
            or shown.document.get("deprecatedCount")
            or 1
        ),
    ),
    wide("Name", lambda shown: shown.name),
)

_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _modes(found: Any) -> str:
    return ",".join(_MODES.get(mode, mode) for mode in found or ())


def _claim(shown: Shown) -> str:
    ref = shown.spec.get("claimRef")
    return f"{ref.get('namespace')}/{ref.get('name')}" if ref else ""


def _data_count(shown: Shown) -> int:
    return len(shown.document.get("data") or ()) + len(shown.document.get("binaryData") or ())


def _phase(shown: Shown) -> str:
    if shown.metadata.get("deletionTimestamp") and shown.document.get("kind", "").startswith("PersistentVolume"):
        return "Terminating"
    return str(shown.status.get("phase", ""))


COLUMNS: dict[tuple[str, str], tuple[Column, ...]] = {
    ("", "configmaps"): (Column("Data", _data_count), AGE),
    ("", "secrets"): (
        Column("Type", lambda shown: shown.document.get("type", "")),
        Column("Data", lambda shown: len(shown.document.get("data") or ())),
        AGE,
    ),
    ("", "namespaces"): (Column("Status", _phase), AGE),
    ("", "nodes"): (
        Column("Status", _node_status),
        Column("Roles", _node_roles),
        AGE,
        Column("Version", lambda shown: shown.at("status.nodeInfo.kubeletVersion", "")),
        wide("Internal-IP", _node_address("InternalIP")),
        wide("External-IP", _node_address("ExternalIP")),
        wide("OS-Image", _node_info("osImage")),
        wide("Kernel-Version", _node_info("kernelVersion")),
        wide("Container-Runtime", _node_info("containerRuntimeVersion")),
    ),
    ("", "services"): (
        Column("Type", lambda shown: shown.spec.get("type", "")),
        Column("Cluster-IP", _cluster_ip),
        Column("External-IP", _external_ip),
        Column("Port(s)", _ports),
        AGE,
        wide("Selector", lambda shown: labels(shown.spec.get("selector"))),
    ),
    ("", "endpoints"): (Column("Endpoints", _endpoints), AGE),
    ("", "events"): _EVENT,
    ("events.k8s.io", "events"): _EVENT,
    ("", "serviceaccounts"): (AGE,),
    ("", "replicationcontrollers"): (
        number("Desired", lambda shown: shown.spec.get("replicas", 0)),
        number("Current", lambda shown: shown.status.get("replicas", 0)),
        number("Ready", lambda shown: shown.status.get("readyReplicas", 0)),
        AGE,
        CONTAINERS,
        IMAGES,
        wide("Selector", lambda shown: labels(shown.spec.get("selector"))),
    ),
    ("", "persistentvolumes"): (
        Column("Capacity", lambda shown: shown.at("spec.capacity.storage", "")),
        Column("Access Modes", lambda shown: _modes(shown.spec.get("accessModes"))),
        Column("Reclaim Policy", lambda shown: shown.spec.get("persistentVolumeReclaimPolicy", "")),
        Column("Status", _phase),
        Column("Claim", _claim),
        Column("StorageClass", lambda shown: shown.spec.get("storageClassName", "")),
        Column("VolumeAttributesClass", lambda shown: shown.spec.get("volumeAttributesClassName") or "<unset>"),
        Column("Reason", lambda shown: shown.status.get("reason", "")),
        AGE,
        wide("VolumeMode", lambda shown: shown.spec.get("volumeMode") or "<unset>"),
    ),
    ("", "persistentvolumeclaims"): (
        Column("Status", _phase),
        Column("Volume", lambda shown: shown.spec.get("volumeName", "")),
        Column(
            "Capacity", lambda shown: shown.at("status.capacity.storage", "") if shown.spec.get("volumeName") else ""
        ),
        Column(
            "Access Modes",
            lambda shown: _modes(shown.status.get("accessModes")) if shown.spec.get("volumeName") else "",
        ),
        Column("StorageClass", lambda shown: shown.spec.get("storageClassName", "")),
        Column("VolumeAttributesClass", lambda shown: shown.spec.get("volumeAttributesClassName") or "<unset>"),
        AGE,
        wide("VolumeMode", lambda shown: shown.spec.get("volumeMode") or "<unset>"),
    ),
    ("", "resourcequotas"): (
        Column("Request", lambda shown: _quota(shown, limits=False)),
        Column("Limit", lambda shown: _quota(shown, limits=True)),
        AGE,
    ),
    ("", "limitranges"): (Column("Created At", lambda shown: shown.metadata.get("creationTimestamp", "")),),
}


def _quota(shown: Shown, *, limits: bool) -> str:
    hard, used = shown.status.get("hard") or {}, shown.status.get("used") or {}
    return ", ".join(
        f"{name}: {used.get(name, '0')}/{value}"
        for name, value in sorted(hard.items())
        if name.startswith("limits.") == limits
    )

"""Objects of the table, from short forms.

Every object: `owner: Kind/name`, `owners`, `labels`, `annotations`, `finalizers`, `age_s`, `deleting`, `namespace`,
`generation`, `count` (so many, numbered), and `spec`, `status`, `metadata` laid over the defaults.
Workloads: `image` of the template; a ControllerRevision's `image` is that of the template it keeps.
Pods: `node`, `ready_s` (Ready since then), `phase`, `ip`, `index`, `exit`, `ended_s`.
Nodes: `ready` ("True", "False", "Unknown"), `taints` ("key:Effect").
"""

from __future__ import annotations

from typing import Any

from labctl.kube.resources import Resource
from tests.unit.master.controllers.world import ago

Document = dict[str, Any]

TRACKED = "batch.kubernetes.io/job-tracking"
_INDEX = "batch.kubernetes.io/job-completion-index"
_GROUPS = {"Job": "batch/v1", "CronJob": "batch/v1", "Node": "v1", "Pod": "v1", "Service": "v1", "ConfigMap": "v1"}
_WORKLOADS = {"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"}


def build(resource: Resource, name: str, short: Document) -> Document:
    """The object that `short` stands for."""
    document: Document = {"metadata": _metadata(resource, name, short), "spec": {}, "status": {}}
    if resource.kind in _WORKLOADS:
        _workload(resource.kind, name, document, short)
    elif resource.kind == "ControllerRevision":
        document["data"] = {"spec": {"template": {**_template(short), "$patch": "replace"}}}
    elif resource.kind == "Pod":
        _pod(document, short)
    elif resource.kind == "Node":
        _node(document, short)
    for key in ("metadata", "spec", "status"):
        document[key] = laid(document[key], short.get(key) or {})
    for key in ("data", "revision", "endpoints", "ports", "addressType"):
        if key in short:
            document[key] = short[key]
    return document


def laid(under: Any, over: Any) -> Any:
    """`over` laid over `under`, key by key."""
    if isinstance(under, dict) and isinstance(over, dict):
        return {**under, **{key: laid(under.get(key), value) for key, value in over.items()}}
    return over


def _metadata(resource: Resource, name: str, short: Document) -> Document:
    labels = {"app": "web"} if resource.kind == "Pod" or resource.kind in _WORKLOADS else {}
    found: Document = {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "generation": short.get("generation", 1),
        "creationTimestamp": ago(short.get("age_s", 3_600)),
        "labels": {**labels, **(short.get("labels") or {})},
        "annotations": dict(short.get("annotations") or {}),
        "finalizers": list(short.get("finalizers") or ()),
        "ownerReferences": [],
    }
    if resource.namespaced:
        found["namespace"] = short.get("namespace", "default")
    if short.get("deleting"):
        found["deletionTimestamp"] = ago(1)
    owners = [short["owner"]] if "owner" in short else short.get("owners") or ()
    for number, owner in enumerate(owners):
        kind, _, owner_name = owner.partition("/")
        version = _GROUPS.get(kind, "apps/v1")
        entry = {"apiVersion": version, "kind": kind, "name": owner_name, "uid": f"uid-{owner_name}"}
        found["ownerReferences"].append({**entry, "controller": number == 0, "blockOwnerDeletion": True})
    return found


def _workload(kind: str, name: str, document: Document, short: Document) -> None:
    labels = {"app": "web"}
    selector = dict(labels)
    if kind == "ReplicaSet" and short.get("owner"):
        selector["pod-template-hash"] = labels["pod-template-hash"] = name
        document["metadata"]["labels"] |= labels
    template = _template(short, **labels)
    if kind == "Job":
        template["spec"]["restartPolicy"] = "Never"
    document["spec"] = {"selector": {"matchLabels": selector}, "template": template}
    if kind == "ReplicaSet":
        document["status"] = {"observedGeneration": document["metadata"]["generation"]}


def _template(short: Document, **labels: str) -> Document:
    containers = [{"name": "c", "image": short.get("image", "one")}]
    return {"metadata": {"labels": {"app": "web", **labels}}, "spec": {"containers": containers}}


def _pod(document: Document, short: Document) -> None:
    ready_s = short.get("ready_s")
    phase = short.get("phase") or ("Pending" if ready_s is None else "Running")
    entry = {"type": "Ready", "status": "False" if ready_s is None else "True", "lastTransitionTime": ago(ready_s or 0)}
    document["spec"] = {"nodeName": short.get("node", ""), "containers": [{"name": "c"}]}
    document["status"] = {"phase": phase, "conditions": [entry], "podIP": short.get("ip", "")}
    if short.get("owner", "").startswith("Job/"):
        document["metadata"]["finalizers"].append(TRACKED)
    if "index" in short:
        document["metadata"]["annotations"][_INDEX] = str(short["index"])
    if "exit" in short:
        ended = {"exitCode": short["exit"], "finishedAt": ago(short.get("ended_s", 0))}
        document["status"]["containerStatuses"] = [{"name": "c", "restartCount": 0, "state": {"terminated": ended}}]


def _node(document: Document, short: Document) -> None:
    ready = short.get("ready", "True")
    pressure = "Unknown" if ready == "Unknown" else "False"
    kinds = (("Ready", ready), *((kind, pressure) for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")))
    document["status"] = {"conditions": [{"type": kind, "status": status} for kind, status in kinds]}
    pairs = [taint.rpartition(":") for taint in short.get("taints") or ()]
    document["spec"] = {"taints": [{"key": key, "effect": effect} for key, _, effect in pairs]}

"""Upstream's defaults by kind: one function a kind, which changes what it is given.

Source: `pkg/apis/*/v1/defaults.go`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from master.apiserver.defaults_more import DEFAULTS as MORE
from master.apiserver.defaults_more import autoscaler_behavior
from master.apiserver.defaults_pod import fill, pod, template

Document = dict[str, Any]
_RBAC = "rbac.authorization.k8s.io"


def _spec(document: Document) -> Document:
    spec: Document = document.setdefault("spec", {})
    return spec


def _templated(document: Document) -> Document:
    spec = _spec(document)
    if isinstance(spec.get("template"), dict):
        template(spec["template"])
    return spec


def deployment(document: Document) -> None:
    """apps/v1 Deployment."""
    spec = _templated(document)
    fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec.setdefault("strategy", {})
    fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(strategy.setdefault("rollingUpdate", {}), maxUnavailable="25%", maxSurge="25%")


def replica_set(document: Document) -> None:
    """apps/v1 ReplicaSet."""
    fill(_templated(document), replicas=1)


def replication_controller(document: Document) -> None:
    """core/v1 ReplicationController: selector and labels come from the template."""
    spec = _templated(document)
    fill(spec, replicas=1)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        fill(spec, selector=dict(labels))
        fill(document["metadata"], labels=dict(labels))


def stateful_set(document: Document) -> None:
    """apps/v1 StatefulSet."""
    spec = _templated(document)
    fill(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    fill(spec.setdefault("persistentVolumeClaimRetentionPolicy", {}), whenDeleted="Retain", whenScaled="Retain")
    strategy = spec.setdefault("updateStrategy", {})
    fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(strategy.setdefault("rollingUpdate", {}), partition=0)
    for claim in spec.get("volumeClaimTemplates") or ():
        fill(claim, kind="PersistentVolumeClaim", apiVersion="v1")
        persistent_volume_claim(claim)


def daemon_set(document: Document) -> None:
    """apps/v1 DaemonSet."""
    spec = _templated(document)
    fill(spec, revisionHistoryLimit=10)
    strategy = spec.setdefault("updateStrategy", {})
    fill(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        fill(strategy.setdefault("rollingUpdate", {}), maxUnavailable=1, maxSurge=0)


def job(document: Document) -> None:
    """batch/v1 Job."""
    spec = _templated(document)
    _job_spec(spec)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        fill(document["metadata"], labels=dict(labels))


def _job_spec(spec: Document) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    fill(spec, parallelism=1, backoffLimit=2**31 - 1 if "backoffLimitPerIndex" in spec else 6)
    fill(spec, completionMode="NonIndexed", suspend=False, manualSelector=False)
    fill(spec, podReplacementPolicy="Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    _failure_conditions(spec)


def _failure_conditions(spec: Document) -> None:
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            fill(pattern, status="True")


def cron_job(document: Document) -> None:
    """batch/v1 CronJob."""
    spec = _spec(document)
    fill(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    inner = (spec.get("jobTemplate") or {}).get("spec")
    if isinstance(inner, dict) and isinstance(inner.get("template"), dict):
        template(inner["template"])
        _failure_conditions(inner)


def service(document: Document) -> None:
    """core/v1 Service."""
    spec = _spec(document)
    fill(spec, sessionAffinity="None", type="ClusterIP")
    if spec["sessionAffinity"] == "ClientIP":
        fill(spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {}), timeoutSeconds=10800)
    for port in spec.get("ports") or ():
        fill(port, protocol="TCP")
        if port.get("targetPort") in (None, 0, "") and "port" in port:
            port["targetPort"] = port["port"]
    kind = spec["type"]
    if kind in {"NodePort", "LoadBalancer"}:
        fill(spec, externalTrafficPolicy="Cluster")
    if kind == "LoadBalancer":
        fill(spec, allocateLoadBalancerNodePorts=True)
    if kind != "ExternalName":
        fill(spec, internalTrafficPolicy="Cluster")


def endpoints(document: Document) -> None:
    """core/v1 Endpoints."""
    for subset in document.get("subsets") or ():
        for port in subset.get("ports") or ():
            fill(port, protocol="TCP")


def endpoint_slice(document: Document) -> None:
    """discovery.k8s.io/v1 EndpointSlice."""
    for port in document.get("ports") or ():
        fill(port, name="", protocol="TCP")


def secret(document: Document) -> None:
    """core/v1 Secret; `stringData` goes into `data`."""
    fill(document, type="Opaque")
    if isinstance(plain := document.pop("stringData", None), dict):
        data = document.setdefault("data", {})
        for key, value in plain.items():
            data[key] = base64.b64encode(str(value).encode()).decode()


def namespace(document: Document) -> None:
    """core/v1 Namespace: the label by which selectors name it."""
    metadata = document["metadata"]
    if name := metadata.get("name"):
        metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = name
    fill(document.setdefault("status", {}), phase="Active")


def node(document: Document) -> None:
    """core/v1 Node: allocatable is the capacity unless said otherwise."""
    status = document.setdefault("status", {})
    if "capacity" in status:
        fill(status, allocatable=dict(status["capacity"]))


def persistent_volume(document: Document) -> None:
    """core/v1 PersistentVolume."""
    fill(_spec(document), persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")
    if isinstance(path := document["spec"].get("hostPath"), dict):
        fill(path, type="")
    fill(document.setdefault("status", {}), phase="Pending")


def persistent_volume_claim(document: Document) -> None:
    """core/v1 PersistentVolumeClaim."""
    fill(_spec(document), volumeMode="Filesystem")
    fill(document.setdefault("status", {}), phase="Pending")


def horizontal_pod_autoscaler(document: Document) -> None:
    """autoscaling/v2 HorizontalPodAutoscaler."""
    spec = _spec(document)
    fill(spec, minReplicas=1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    autoscaler_behavior(spec)


def priority_class(document: Document) -> None:
    """scheduling.k8s.io/v1 PriorityClass."""
    fill(document, preemptionPolicy="PreemptLowerPriority")


def storage_class(document: Document) -> None:
    """storage.k8s.io/v1 StorageClass."""
    fill(document, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def network_policy(document: Document) -> None:
    """networking.k8s.io/v1 NetworkPolicy."""
    spec = _spec(document)
    fill(spec, policyTypes=["Ingress", *(["Egress"] if spec.get("egress") else [])])
    for rule in (*(spec.get("ingress") or ()), *(spec.get("egress") or ())):
        for port in rule.get("ports") or ():
            fill(port, protocol="TCP")


def role_binding(document: Document) -> None:
    """RoleBinding and ClusterRoleBinding."""
    if isinstance(ref := document.get("roleRef"), dict):
        fill(ref, apiGroup=_RBAC)
    for subject in document.get("subjects") or ():
        fill(subject, apiGroup="" if subject.get("kind") == "ServiceAccount" else _RBAC)
        if not subject["apiGroup"]:
            del subject["apiGroup"]


def pod_template(document: Document) -> None:
    """core/v1 PodTemplate."""
    template(document.setdefault("template", {}))


DEFAULTS: dict[tuple[str, str], Callable[[Document], None]] = {
    **MORE,
    ("", "pods"): pod,
    ("", "podtemplates"): pod_template,
    ("", "services"): service,
    ("", "endpoints"): endpoints,
    ("", "secrets"): secret,
    ("", "namespaces"): namespace,
    ("", "nodes"): node,
    ("", "persistentvolumes"): persistent_volume,
    ("", "persistentvolumeclaims"): persistent_volume_claim,
    ("", "replicationcontrollers"): replication_controller,
    ("apps", "deployments"): deployment,
    ("apps", "replicasets"): replica_set,
    ("apps", "statefulsets"): stateful_set,
    ("apps", "daemonsets"): daemon_set,
    ("batch", "jobs"): job,
    ("batch", "cronjobs"): cron_job,
    ("autoscaling", "horizontalpodautoscalers"): horizontal_pod_autoscaler,
    ("discovery.k8s.io", "endpointslices"): endpoint_slice,
    ("networking.k8s.io", "networkpolicies"): network_policy,
    ("scheduling.k8s.io", "priorityclasses"): priority_class,
    ("storage.k8s.io", "storageclasses"): storage_class,
    (_RBAC, "rolebindings"): role_binding,
    (_RBAC, "clusterrolebindings"): role_binding,
}

"""Rules that a schema cannot say: required values, formats, what may change, by kind. Pure.

A rule is a function that adds what it finds to a list of errors. What an update leaves alone is not looked at again.
Source: `pkg/apis/*/validation/validation.go`; the messages are upstream's.
"""

from __future__ import annotations

from collections.abc import Callable

from labctl.kube.resources import Resource
from master.apiserver.problems import FieldError
from master.apiserver.validation import batch, core, network, pod, pod_changes, policy, service, storage, workload
from master.apiserver.validation.values import Document, Found

Rules = Callable[[Document, Found], None]
Changes = Callable[[Document, Document, Found], None]

_RBAC = "rbac.authorization.k8s.io"
_NETWORK = "networking.k8s.io"
_ASIDE = frozenset({"metadata", "status", "kind", "apiVersion"})


def validate(resource: Resource, document: Document) -> list[FieldError]:
    """Every broken rule of a new object, its metadata's aside."""
    key, found = (resource.group, resource.plural), list[FieldError]()
    if rules := _ON_CREATE.get(key) or _RULES.get(key):
        rules(document, found)
    return found


def validate_update(resource: Resource, new: Document, old: Document, subresource: str) -> list[FieldError]:
    """Every broken rule of a change, its metadata's aside."""
    key, found = (resource.group, resource.plural), list[FieldError]()
    if subresource:
        if changes := _SUBRESOURCES.get((*key, subresource)):
            changes(new, old, found)
        if subresource in {"status", "approval"}:
            return found
    elif changes := _CHANGES.get(key):
        changes(new, old, found)
    if (rules := _RULES.get(key)) and not _alike(new, old):
        rules(new, found)
    return found


def _alike(new: Document, old: Document) -> bool:
    """Whether nothing but metadata and status changed."""
    return all(new.get(key) == old.get(key) for key in {*new, *old} if key not in _ASIDE)


_RULES: dict[tuple[str, str], Rules] = {
    ("", "pods"): pod.pod,
    ("", "podtemplates"): workload.pod_template,
    ("", "replicationcontrollers"): workload.replication_controller,
    ("", "services"): service.service,
    ("", "endpoints"): service.endpoints,
    ("", "configmaps"): core.config_map,
    ("", "secrets"): core.secret,
    ("", "namespaces"): core.namespace,
    ("", "nodes"): core.node,
    ("", "limitranges"): core.limit_range,
    ("", "resourcequotas"): core.resource_quota,
    ("", "persistentvolumes"): storage.volume,
    ("", "persistentvolumeclaims"): storage.claim,
    ("apps", "deployments"): workload.deployment,
    ("apps", "replicasets"): workload.replica_set,
    ("apps", "statefulsets"): workload.stateful_set,
    ("apps", "daemonsets"): workload.daemon_set,
    ("apps", "controllerrevisions"): workload.controller_revision,
    ("batch", "jobs"): batch.job,
    ("batch", "cronjobs"): batch.cron_job,
    ("autoscaling", "horizontalpodautoscalers"): policy.autoscaler,
    ("coordination.k8s.io", "leases"): policy.lease,
    ("discovery.k8s.io", "endpointslices"): service.endpoint_slice,
    (_NETWORK, "ingresses"): network.ingress,
    (_NETWORK, "ingressclasses"): network.ingress_class,
    (_NETWORK, "networkpolicies"): network.network_policy,
    ("node.k8s.io", "runtimeclasses"): policy.runtime_class,
    ("policy", "poddisruptionbudgets"): policy.disruption_budget,
    ("scheduling.k8s.io", "priorityclasses"): policy.priority_class,
    ("storage.k8s.io", "storageclasses"): storage.storage_class,
    (_RBAC, "roles"): policy.role,
    (_RBAC, "clusterroles"): policy.cluster_role,
    (_RBAC, "rolebindings"): policy.role_binding,
    (_RBAC, "clusterrolebindings"): policy.cluster_role_binding,
}
# Where a new object must keep more rules than a changed one.
_ON_CREATE: dict[tuple[str, str], Rules] = {
    ("", "pods"): pod.created_pod,
    ("batch", "cronjobs"): batch.created_cron_job,
    (_NETWORK, "ingresses"): network.created_ingress,
}
_CHANGES: dict[tuple[str, str], Changes] = {
    ("", "pods"): pod_changes.pod_update,
    ("", "services"): service.service_changes,
    ("", "configmaps"): core.frozen_data,
    ("", "secrets"): core.secret_changes,
    ("", "nodes"): core.node_changes,
    ("", "resourcequotas"): core.resource_quota_changes,
    ("", "persistentvolumes"): storage.volume_changes,
    ("", "persistentvolumeclaims"): storage.claim_changes,
    ("apps", "deployments"): workload.same_selector,
    ("apps", "replicasets"): workload.same_selector,
    ("apps", "daemonsets"): workload.same_selector,
    ("apps", "statefulsets"): workload.stateful_set_changes,
    ("apps", "controllerrevisions"): workload.same_data,
    ("batch", "jobs"): batch.job_changes,
    ("discovery.k8s.io", "endpointslices"): service.endpoint_slice_changes,
    (_NETWORK, "ingressclasses"): network.ingress_class_changes,
    ("node.k8s.io", "runtimeclasses"): policy.runtime_class_changes,
    ("scheduling.k8s.io", "priorityclasses"): policy.priority_class_changes,
    ("storage.k8s.io", "storageclasses"): storage.storage_class_changes,
    (_RBAC, "rolebindings"): policy.binding_changes,
    (_RBAC, "clusterrolebindings"): policy.binding_changes,
}
_SUBRESOURCES: dict[tuple[str, str, str], Changes] = {
    ("", "pods", "status"): pod_changes.status_update,
    ("", "pods", "resize"): pod_changes.resize_update,
    ("", "pods", "ephemeralcontainers"): pod_changes.ephemeral_update,
}

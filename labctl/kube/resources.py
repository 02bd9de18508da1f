"""Every built-in kind of Kubernetes 1.37's stable API groups: names, scope, verbs and subresources. Data only.

Source: the discovery documents of Kubernetes (`/api/v1`, `/apis/<group>/<version>`) and `registry/*/rest`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

_ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_NO_COLLECTION = tuple(verb for verb in _ALL if verb != "deletecollection")
_CREATE = ("create",)


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of the API, e.g. `pods` in the core group."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = _ALL
    subresources: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """`v1`, or `group/version`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        """The lower-case kind."""
        return self.kind.lower()

    @property
    def list_kind(self) -> str:
        """E.g. `PodList`."""
        return f"{self.kind}List"

    @property
    def qualified(self) -> str:
        """`plural.group`, as kubectl and error messages name it; the bare plural in the core group."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The request path; a namespaced resource without `namespace` spans all of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


def _group(
    group: str, version: str, rows: Iterable[tuple[str, str, bool, str, str, str]], *, verbs: tuple[str, ...] = _ALL
) -> list[Resource]:
    """Rows of (kind, plural, namespaced, short names, categories, subresources), the last three space-separated."""
    return [
        Resource(
            group=group,
            version=version,
            kind=kind,
            plural=plural,
            namespaced=namespaced,
            short_names=tuple(short.split()),
            categories=tuple(categories.split()),
            subresources=tuple(subresources.split()),
            verbs=verbs,
        )
        for kind, plural, namespaced, short, categories, subresources in rows
    ]


_POD_SUBRESOURCES = "attach binding ephemeralcontainers eviction exec log portforward proxy resize status"

BUILTIN: tuple[Resource, ...] = (
    *_group("", "v1", [
        ("ConfigMap", "configmaps", True, "cm", "", ""),
        ("Endpoints", "endpoints", True, "ep", "", ""),
        ("Event", "events", True, "ev", "", ""),
        ("LimitRange", "limitranges", True, "limits", "", ""),
        ("Node", "nodes", False, "no", "", "proxy status"),
        ("PersistentVolume", "persistentvolumes", False, "pv", "", "status"),
        ("PersistentVolumeClaim", "persistentvolumeclaims", True, "pvc", "", "status"),
        ("Pod", "pods", True, "po", "all", _POD_SUBRESOURCES),
        ("PodTemplate", "podtemplates", True, "", "", ""),
        ("ReplicationController", "replicationcontrollers", True, "rc", "all", "scale status"),
        ("ResourceQuota", "resourcequotas", True, "quota", "", "status"),
        ("Secret", "secrets", True, "", "", ""),
        ("Service", "services", True, "svc", "all", "proxy status"),
        ("ServiceAccount", "serviceaccounts", True, "sa", "", "token"),
    ]),
    *_group("", "v1", [("Namespace", "namespaces", False, "ns", "", "finalize status")], verbs=_NO_COLLECTION),
    *_group("", "v1", [("Binding", "bindings", True, "", "", "")], verbs=_CREATE),
    *_group("", "v1", [("ComponentStatus", "componentstatuses", False, "cs", "", "")], verbs=("get", "list")),
    *_group("admissionregistration.k8s.io", "v1", [
        ("MutatingAdmissionPolicy", "mutatingadmissionpolicies", False, "", "api-extensions", ""),
        ("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", False, "", "api-extensions", ""),
        ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", False, "", "api-extensions", ""),
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies", False, "", "api-extensions", "status"),
        ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", False, "", "api-extensions", ""),
        ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", False, "", "api-extensions", ""),
    ]),
    *_group("apiextensions.k8s.io", "v1", [
        ("CustomResourceDefinition", "customresourcedefinitions", False, "crd crds", "api-extensions", "status"),
    ]),
    *_group("apiregistration.k8s.io", "v1", [
        ("APIService", "apiservices", False, "", "api-extensions", "status"),
    ]),
    *_group("apps", "v1", [
        ("ControllerRevision", "controllerrevisions", True, "", "", ""),
        ("DaemonSet", "daemonsets", True, "ds", "all", "status"),
        ("Deployment", "deployments", True, "deploy", "all", "scale status"),
        ("ReplicaSet", "replicasets", True, "rs", "all", "scale status"),
        ("StatefulSet", "statefulsets", True, "sts", "all", "scale status"),
    ]),
    *_group("authentication.k8s.io", "v1", [
        ("SelfSubjectReview", "selfsubjectreviews", False, "", "", ""),
        ("TokenReview", "tokenreviews", False, "", "", ""),
    ], verbs=_CREATE),
    *_group("authorization.k8s.io", "v1", [
        ("LocalSubjectAccessReview", "localsubjectaccessreviews", True, "", "", ""),
        ("SelfSubjectAccessReview", "selfsubjectaccessreviews", False, "", "", ""),
        ("SelfSubjectRulesReview", "selfsubjectrulesreviews", False, "", "", ""),
        ("SubjectAccessReview", "subjectaccessreviews", False, "", "", ""),
    ], verbs=_CREATE),
    *_group("autoscaling", "v2", [
        ("HorizontalPodAutoscaler", "horizontalpodautoscalers", True, "hpa", "all", "status"),
    ]),
    *_group("autoscaling", "v1", [
        ("HorizontalPodAutoscaler", "horizontalpodautoscalers", True, "hpa", "all", "status"),
    ]),
    *_group("batch", "v1", [
        ("CronJob", "cronjobs", True, "cj", "all", "status"),
        ("Job", "jobs", True, "", "all", "status"),
    ]),
    *_group("certificates.k8s.io", "v1", [
        ("CertificateSigningRequest", "certificatesigningrequests", False, "csr", "", "approval status"),
        ("ClusterTrustBundle", "clustertrustbundles", False, "", "", ""),
        ("PodCertificateRequest", "podcertificaterequests", True, "", "", "status"),
    ]),
    *_group("coordination.k8s.io", "v1", [("Lease", "leases", True, "", "", "")]),
    *_group("discovery.k8s.io", "v1", [("EndpointSlice", "endpointslices", True, "", "", "")]),
    *_group("events.k8s.io", "v1", [("Event", "events", True, "ev", "", "")]),
    *_group("flowcontrol.apiserver.k8s.io", "v1", [
        ("FlowSchema", "flowschemas", False, "", "", "status"),
        ("PriorityLevelConfiguration", "prioritylevelconfigurations", False, "", "", "status"),
    ]),
    *_group("networking.k8s.io", "v1", [
        ("IPAddress", "ipaddresses", False, "ip", "", ""),
        ("Ingress", "ingresses", True, "ing", "", "status"),
        ("IngressClass", "ingressclasses", False, "", "", ""),
        ("NetworkPolicy", "networkpolicies", True, "netpol", "", ""),
        ("ServiceCIDR", "servicecidrs", False, "", "", "status"),
    ]),
    *_group("node.k8s.io", "v1", [("RuntimeClass", "runtimeclasses", False, "", "", "")]),
    *_group("policy", "v1", [("PodDisruptionBudget", "poddisruptionbudgets", True, "pdb", "", "status")]),
    *_group("rbac.authorization.k8s.io", "v1", [
        ("ClusterRole", "clusterroles", False, "", "", ""),
        ("ClusterRoleBinding", "clusterrolebindings", False, "", "", ""),
        ("Role", "roles", True, "", "", ""),
        ("RoleBinding", "rolebindings", True, "", "", ""),
    ]),
    *_group("resource.k8s.io", "v1", [
        ("DeviceClass", "deviceclasses", False, "", "", ""),
        ("DeviceTaintRule", "devicetaintrules", False, "", "", "status"),
        ("ResourceClaim", "resourceclaims", True, "", "", "status"),
        ("ResourceClaimTemplate", "resourceclaimtemplates", True, "", "", ""),
        ("ResourceSlice", "resourceslices", False, "", "", ""),
    ]),
    *_group("scheduling.k8s.io", "v1", [("PriorityClass", "priorityclasses", False, "pc", "", "")]),
    *_group("storage.k8s.io", "v1", [
        ("CSIDriver", "csidrivers", False, "", "", ""),
        ("CSINode", "csinodes", False, "", "", "status"),
        ("CSIStorageCapacity", "csistoragecapacities", True, "", "", ""),
        ("StorageClass", "storageclasses", False, "sc", "", ""),
        ("VolumeAttachment", "volumeattachments", False, "", "", "status"),
        ("VolumeAttributesClass", "volumeattributesclasses", False, "vac", "", ""),
    ]),
    *_group("storagemigration.k8s.io", "v1", [
        ("StorageVersionMigration", "storageversionmigrations", False, "", "", "status"),
    ]),
)  # fmt: skip

# Not of the API server's own: upstream's metrics-server adds it. Served all the same, computed when asked for.
METRICS: tuple[Resource, ...] = tuple(_group("metrics.k8s.io", "v1beta1", [
    ("NodeMetrics", "nodes", False, "", "", ""),
    ("PodMetrics", "pods", True, "", "", ""),
], verbs=("get", "list")))  # fmt: skip

_BY_NAME = {(resource.group, resource.plural, resource.version): resource for resource in BUILTIN}


def builtin(plural: str, group: str = "", version: str = "") -> Resource:
    """The built-in resource by its plural (and version, else the first served); KeyError where there is none."""
    if version:
        return _BY_NAME[group, plural, version]
    for resource in BUILTIN:
        if resource.group == group and resource.plural == plural:
            return resource
    raise KeyError(f"{plural}.{group}" if group else plural)


PODS = builtin("pods")
NODES = builtin("nodes")
NAMESPACES = builtin("namespaces")
SERVICES = builtin("services")
CONFIG_MAPS = builtin("configmaps")
SECRETS = builtin("secrets")
SERVICE_ACCOUNTS = builtin("serviceaccounts")
EVENTS = builtin("events")
DEPLOYMENTS = builtin("deployments", "apps")
REPLICA_SETS = builtin("replicasets", "apps")
STATEFUL_SETS = builtin("statefulsets", "apps")
DAEMON_SETS = builtin("daemonsets", "apps")
CONTROLLER_REVISIONS = builtin("controllerrevisions", "apps")
JOBS = builtin("jobs", "batch")
CRON_JOBS = builtin("cronjobs", "batch")
POD_DISRUPTION_BUDGETS = builtin("poddisruptionbudgets", "policy")
PERSISTENT_VOLUME_CLAIMS = builtin("persistentvolumeclaims")
LEASES = builtin("leases", "coordination.k8s.io")
ENDPOINT_SLICES = builtin("endpointslices", "discovery.k8s.io")
PRIORITY_CLASSES = builtin("priorityclasses", "scheduling.k8s.io")

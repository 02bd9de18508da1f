"""Every other kind people write: each broken rule answers with upstream's path and words."""

# ruff: noqa: E501 - whole messages read better than broken ones
from __future__ import annotations

from typing import Any

import pytest

from tests.unit.master.apiserver.judge import deployment, pod, told, told_of_change

Document = dict[str, Any]

RBAC = "rbac.authorization.k8s.io"
NET = "networking.k8s.io"
NOT_NEGATIVE = "must be greater than or equal to 0"
MISMATCH = "`selector` does not match template `labels`"
CONFIG_KEY = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',"
    "  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for"
    " validation is '[0-9]+%')"
)


def service(**spec: Any) -> Document:
    return {"spec": {"ports": [{"port": 80}], **spec}}


def stateful(**spec: Any) -> Document:
    return deployment(serviceName="s", **spec)


def job(restart: str = "Never", **spec: Any) -> Document:
    return {"spec": {"template": {"spec": pod(restartPolicy=restart)["spec"]}, **spec}}


def cron_job(schedule: str = "*/5 * * * *", **spec: Any) -> Document:
    return {"spec": {"schedule": schedule, "jobTemplate": job(), **spec}}


def claim(**spec: Any) -> Document:
    return {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}}


def volume(**spec: Any) -> Document:
    return {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, **spec}}


def binding(kind: str = "Role", **more: Any) -> Document:
    return {"roleRef": {"kind": kind, "name": "r", "apiGroup": RBAC}, **more}


def ingress(path: Document) -> Document:
    backend = {"service": {"name": "s", "port": {"number": 80}}}
    return {"spec": {"rules": [{"http": {"paths": [{"backend": backend, **path}]}}]}}


def autoscaler(**spec: Any) -> Document:
    return {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3, **spec}}


RIGHT: list[tuple[str, str, Document]] = [
    ("apps", "deployments", deployment()),
    ("apps", "replicasets", deployment()),
    ("apps", "statefulsets", stateful(volumeClaimTemplates=[claim() | {"metadata": {"name": "data"}}])),
    ("apps", "daemonsets", deployment()),
    ("batch", "jobs", job()),
    ("batch", "cronjobs", cron_job()),
    ("batch", "cronjobs", cron_job("@hourly")),
    ("batch", "cronjobs", cron_job("0 9-17/2 1,15 jan-mar mon")),
    ("", "services", service()),
    ("", "services", service(type="ExternalName", externalName="example.com", ports=None)),
    ("", "persistentvolumeclaims", claim()),
    ("", "persistentvolumes", volume(hostPath={"path": "/data"})),
    ("", "secrets", {"data": {"a": "YQ=="}}),
    ("", "limitranges", {"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}}),
    ("", "resourcequotas", {"spec": {"hard": {"pods": "2", "requests.cpu": "4", "count/deployments.apps": "1"}}}),
    ("storage.k8s.io", "storageclasses", {"provisioner": "example.com/disk"}),
    (NET, "ingresses", ingress({"path": "/", "pathType": "Prefix"})),
    (NET, "networkpolicies", {"spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}}),
    (RBAC, "roles", {"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
    (RBAC, "clusterrolebindings", binding("ClusterRole", subjects=[{"kind": "User", "name": "u"}])),
    ("policy", "poddisruptionbudgets", {"spec": {"minAvailable": "50%", "selector": {}}}),
    ("autoscaling", "horizontalpodautoscalers", autoscaler(behavior={"scaleUp": {}})),
    ("node.k8s.io", "runtimeclasses", {"handler": "runc"}),
    ("coordination.k8s.io", "leases", {"spec": {"leaseDurationSeconds": 15}}),
    ("discovery.k8s.io", "endpointslices", {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}),
    ("scheduling.k8s.io", "priorityclasses", {"value": 1000}),
]


@pytest.mark.parametrize(("group", "plural", "given"), RIGHT)
def test_what_is_right_is_not_refused(group: str, plural: str, given: Document) -> None:
    assert told(plural, given, group) == []


WRONG: list[tuple[str, str, Document, list[str]]] = [
    ("apps", "deployments", deployment(replicas=-1), [f"spec.replicas: Invalid value: -1: {NOT_NEGATIVE}"]),
    ("apps", "deployments", deployment(selector=None), ["spec.selector: Required value"]),
    ("apps", "deployments", deployment(selector={}), ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]),
    (
        "apps", "deployments", deployment(selector={"matchLabels": {"a": "c"}}),
        [f'spec.template.metadata.labels: Invalid value: {{"a":"b"}}: {MISMATCH}'],
    ),
    (
        "apps", "deployments", deployment(selector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
        ["spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"],
    ),
    (
        "apps", "deployments", deployment(strategy={"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}),
        ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
    ),
    (
        "apps", "deployments", deployment(strategy={"rollingUpdate": {"maxSurge": "many"}}),
        [f'spec.strategy.rollingUpdate.maxSurge: Invalid value: "many": {PERCENT}'],
    ),
    (
        "apps", "deployments", deployment(strategy={"type": "Recreate", "rollingUpdate": {}}),
        ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
    ),
    (
        "apps", "deployments", deployment({"restartPolicy": "Never"}),
        ['spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'],
    ),
    (
        "apps", "deployments", deployment(progressDeadlineSeconds=5, minReadySeconds=5),
        ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
    ),
    (
        "apps", "statefulsets", stateful(podManagementPolicy="Random"),
        ["spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'"],
    ),
    (
        "apps", "statefulsets", stateful(volumeClaimTemplates=[{"metadata": {"name": "d"}, "spec": {}}]),
        [
            "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
            "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
        ],
    ),
    (
        "apps", "daemonsets", deployment(updateStrategy={"rollingUpdate": {"maxUnavailable": 0}}),
        ["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"],
    ),
    (
        "batch", "jobs", job("Always"),
        ['spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'],
    ),
    (
        "batch", "jobs", job(completionMode="Indexed", parallelism=1),
        ["spec.completions: Required value: when completion mode is Indexed"],
    ),
    (
        "batch", "jobs", job(backoffLimitPerIndex=1),
        ["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
    ),
    (
        "batch", "cronjobs", cron_job("a b"),
        ['spec.schedule: Invalid value: "a b": expected exactly 5 fields, found 2: [a b]'],
    ),
    (
        "batch", "cronjobs", cron_job("60 * * * *"),
        ['spec.schedule: Invalid value: "60 * * * *": end of range (60) above maximum (59): 60'],
    ),
    (
        "batch", "cronjobs", cron_job() | {"metadata": {"name": "x" * 53}},
        [f'metadata.name: Invalid value: "{"x" * 53}": must be no more than 52 characters'],
    ),
    ("", "services", service(ports=[]), ["spec.ports: Required value"]),
    ("", "services", service(ports=[{"port": 0}]), ["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                                                    "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive"]),
    (
        "", "services", service(ports=[{"port": 1}, {"port": 2}]),
        ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
    ),
    (
        "", "services", service(ports=[{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]),
        ['spec.ports[1].name: Duplicate value: "a"'],
    ),
    (
        "", "services", service(type="Odd"),
        ['spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'],
    ),
    ("", "services", service(type="ExternalName"), ["spec.externalName: Required value"]),
    (
        "", "services", service(ports=[{"port": 1, "nodePort": 30000}]),
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    ),
    (
        "", "services", service(externalTrafficPolicy="Local"),
        ['spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services'],
    ),
    ("", "services", service(clusterIP="1.2.3"), [
        'spec.clusterIPs[0]: Invalid value: "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
    ]),
    ("", "configmaps", {"data": {"a b": "c"}}, [f'data[a b]: Invalid value: "a b": {CONFIG_KEY}']),
    ("", "configmaps", {"data": {"a": "x"}, "binaryData": {"a": "eA=="}}, [
        'data[a]: Invalid value: "a": duplicate of key present in binaryData'
    ]),
    ("", "configmaps", {"data": {"a": "x" * 1048577}}, [": Too long: may not be more than 1048576 bytes"]),
    ("", "secrets", {"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}, ["data[tls.key]: Required value"]),
    (
        "", "secrets", {"type": "kubernetes.io/service-account-token"},
        ["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
    ),
    (
        "", "nodes", {"spec": {"taints": [{"key": "a", "effect": "Odd"}]}},
        ['metadata.taints[0].effect: Unsupported value: "Odd": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'],
    ),
    ("", "persistentvolumeclaims", {"spec": {}}, [
        "spec.accessModes: Required value: at least 1 access mode is required", "spec.resources[storage]: Required value"
    ]),
    ("", "persistentvolumeclaims", claim(accessModes=["Odd"]), [
        'spec.accessModes: Unsupported value: "Odd": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce",'
        ' "ReadWriteOncePod"'
    ]),
    ("", "persistentvolumes", volume(), ["spec: Required value: must specify a volume type"]),
    ("", "persistentvolumes", volume(local={"path": "/d"}), [
        "spec.nodeAffinity: Required value: Local volume requires node affinity"
    ]),
    ("", "limitranges", {"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}, [
        'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
        'spec.limits[0].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default request value 1',
        'spec.limits[0].default[cpu]: Invalid value: "2": min value 2 is greater than default value 1',
    ]),
    ("", "resourcequotas", {"spec": {"hard": {"cheese": "1"}}}, [
        'spec.hard[cheese]: Invalid value: "cheese": must be a standard resource for quota'
    ]),
    ("", "resourcequotas", {"spec": {"hard": {"services": "1"}, "scopes": ["BestEffort"]}}, [
        'spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource'
    ]),
    ("storage.k8s.io", "storageclasses", {}, ["provisioner: Required value"]),
    (NET, "ingresses", {"spec": {}}, ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]),
    (NET, "ingresses", ingress({"path": "a", "pathType": "Exact"}), [
        'spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path'
    ]),
    (NET, "ingresses", ingress({"path": "/"}), [
        "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"
    ]),
    (NET, "networkpolicies", {"spec": {"podSelector": {}, "ingress": [{"from": [{}]}]}}, [
        "spec.ingress[0].from[0]: Required value: must specify a peer"
    ]),
    (NET, "networkpolicies", {"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}]}]}}, [
        'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "11.0.0.0/8": must be a strict subset of `cidr`'
    ]),
    (RBAC, "roles", {"rules": [{"verbs": ["get"], "resources": ["pods"]}]}, [
        "rules[0].apiGroups: Required value: resource rules must supply at least one api group"
    ]),
    (RBAC, "roles", {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}, [
        'rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs'
    ]),
    (RBAC, "clusterrolebindings", binding(), [
        'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"'
    ]),
    (RBAC, "rolebindings", binding(subjects=[{"kind": "Robot", "name": "r"}]), [
        'subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"'
    ]),
    ("policy", "poddisruptionbudgets", {"spec": {"minAvailable": 1, "maxUnavailable": 1}}, [
        'spec: Invalid value: {"minAvailable":1,"maxUnavailable":1}: minAvailable and maxUnavailable cannot be both set'
    ]),
    ("policy", "poddisruptionbudgets", {"spec": {"minAvailable": "101%"}}, [
        'spec.minAvailable: Invalid value: "101%": must not be greater than 100%'
    ]),
    ("autoscaling", "horizontalpodautoscalers", autoscaler(maxReplicas=1, minReplicas=2), [
        "spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`"
    ]),
    ("autoscaling", "horizontalpodautoscalers", {"spec": {"maxReplicas": 1}}, [
        "spec.scaleTargetRef.kind: Required value", "spec.scaleTargetRef.name: Required value"
    ]),
    ("node.k8s.io", "runtimeclasses", {}, ["handler: Required value"]),
    ("coordination.k8s.io", "leases", {"spec": {"leaseDurationSeconds": 0}}, [
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"
    ]),
    ("discovery.k8s.io", "endpointslices", {"endpoints": [{"addresses": []}]}, [
        "addressType: Required value", "endpoints[0].addresses: Required value: must contain at least 1 address"
    ]),
    ("discovery.k8s.io", "endpointslices", {"addressType": "IPv4", "endpoints": [{"addresses": ["169.254.0.1"]}]}, [
        'endpoints[0].addresses[0]: Invalid value: "169.254.0.1": may not be in the link-local range (169.254.0.0/16,'
        " fe80::/10)"
    ]),
    ("", "endpoints", {"subsets": [{}]}, ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]),
    ("scheduling.k8s.io", "priorityclasses", {"value": 2_000_000_000}, [
        "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"
    ]),
    ("scheduling.k8s.io", "priorityclasses", {"metadata": {"name": "system-mine"}, "value": 1}, [
        "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error:"
        " system-mine is not a known system priority class"
    ]),
    ("", "services", service() | {"metadata": {"name": "1a"}}, []),  # a label may begin with a digit since 1.36
    (RBAC, "roles", {"metadata": {"name": "a:b/c"}}, ["metadata.name: Invalid value: \"a:b/c\": may not contain '/'"]),
]  # fmt: skip


@pytest.mark.parametrize(("group", "plural", "given", "expected"), WRONG)
def test_a_broken_rule_is_told_with_its_path(group: str, plural: str, given: Document, expected: list[str]) -> None:
    assert told(plural, given, group) == expected


CHANGES: list[tuple[str, str, Document, Document, list[str]]] = [
    ("apps", "deployments", deployment(), deployment(replicas=3), []),
    (
        "apps", "statefulsets", stateful(), stateful(podManagementPolicy="Parallel"),
        ['spec.podManagementPolicy: Invalid value: "Parallel": field is immutable'],
    ),
    ("apps", "statefulsets", stateful(), deployment(serviceName="t"), [
        'spec.serviceName: Invalid value: "t": field is immutable'
    ]),
    ("batch", "cronjobs", cron_job(), cron_job("1 * * * *"), []),
    ("", "configmaps", {"immutable": True, "data": {"a": "1"}}, {"immutable": True, "data": {"a": "2"}}, [
        "data: Forbidden: field is immutable when `immutable` is set"
    ]),
    ("", "configmaps", {"immutable": True}, {}, ["immutable: Forbidden: field is immutable when `immutable` is set"]),
    ("", "secrets", {"type": "a/b"}, {"type": "a/c"}, ['type: Invalid value: "a/c": field is immutable']),
    ("", "persistentvolumeclaims", claim(), claim(volumeName="v"), []),
    ("", "persistentvolumeclaims", claim(volumeName="v"), claim(volumeName="w"), [
        "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for"
        " bound claims\n- volumeName: v\n+ volumeName: w"
    ]),
    (
        "", "persistentvolumeclaims", claim() | {"status": {"phase": "Bound"}},
        claim(resources={"requests": {"storage": "2Gi"}}), [],
    ),
    ("", "resourcequotas", {"spec": {"hard": {"pods": "1"}}}, {"spec": {"hard": {"pods": "1"}, "scopes": ["BestEffort"]}}, [
        'spec.scopes: Invalid value: ["BestEffort"]: field is immutable'
    ]),
    ("", "nodes", {"spec": {"podCIDRs": ["10.0.0.0/24"]}}, {"spec": {"podCIDRs": ["10.0.1.0/24"]}}, [
        'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'
    ]),
    (RBAC, "rolebindings", binding(), binding("ClusterRole"), [
        'roleRef: Invalid value: {"kind":"ClusterRole","name":"r","apiGroup":"rbac.authorization.k8s.io"}: field is immutable'
    ]),
    ("scheduling.k8s.io", "priorityclasses", {"value": 1}, {"value": 2}, [
        "value: Forbidden: may not be changed in an update."
    ]),
    ("storage.k8s.io", "storageclasses", {"provisioner": "a/b"}, {"provisioner": "a/c"}, [
        'provisioner: Invalid value: "a/c": field is immutable'
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("group", "plural", "old", "new", "expected"), CHANGES)
def test_what_may_not_change_is_told(
    group: str, plural: str, old: Document, new: Document, expected: list[str]
) -> None:
    assert told_of_change(plural, old, new, group) == expected

"""Pods and their templates: each broken rule answers with upstream's path and words."""

# ruff: noqa: E501 - whole messages read better than broken ones
from __future__ import annotations

from typing import Any

import pytest

from tests.unit.master.apiserver.judge import deployment, pod, told, told_of_change

Document = dict[str, Any]

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    r" '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
C = "spec.containers[0]"
PORTS = "must be between 1 and 65535, inclusive"
VOLUME = {"name": "v", "emptyDir": {}}


def test_what_is_right_is_not_refused() -> None:
    rich = pod(
        {
            "ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81, "hostPort": 8081}],
            "env": [{"name": "A_b.c-1", "value": "x"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}],
            "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a/b"}],
            "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "example.com/gpu": "2"}},
            "livenessProbe": {"httpGet": {"port": "http"}},
            "readinessProbe": {"exec": {"command": ["true"]}, "successThreshold": 2},
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        },
        volumes=[VOLUME, {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
        initContainers=[{"name": "i", "image": "i", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}}],
        tolerations=[{"operator": "Exists"}, {"key": "a", "effect": "NoExecute", "tolerationSeconds": 3}],
        topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        nodeSelector={"a": "b"},
    )  # fmt: skip
    assert told("pods", rich) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"spec": {}}, ["spec.containers: Required value"]),
        ({"spec": {"containers": [{"name": "c"}]}}, [f"{C}.image: Required value"]),
        (pod({"name": ""}), [f"{C}.name: Required value"]),
        (pod({"name": "C"}), [f'{C}.name: Invalid value: "C": {LABEL}']),
        (pod({"image": " i"}), [f'{C}.image: Invalid value: " i": must not have leading or trailing whitespace']),
        (
            pod({"imagePullPolicy": "Sometimes"}),
            [f'{C}.imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"'],
        ),
        (pod({"ports": [{}]}), [f"{C}.ports[0].containerPort: Required value"]),
        (pod({"ports": [{"containerPort": 70000}]}), [f"{C}.ports[0].containerPort: Invalid value: 70000: {PORTS}"]),
        (
            pod({"ports": [{"name": "a_b", "containerPort": 1}]}),
            [
                f'{C}.ports[0].name: Invalid value: "a_b": must contain only alpha-numeric characters (a-z, 0-9), and'
                " hyphens (-)"
            ],
        ),
        (
            pod({"ports": [{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]}),
            [f'{C}.ports[1].name: Duplicate value: "a"'],
        ),
        (
            pod({"ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]}),
            [f'{C}.ports[1].hostPort: Duplicate value: "TCP//9"'],
        ),
        (pod({"env": [{"value": "x"}]}), [f"{C}.env[0].name: Required value"]),
        (
            pod({"env": [{"name": "a=b"}]}),
            [
                f'{C}.env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable'
                " ASCII characters other than '='"
            ],
        ),
        (
            pod({"env": [{"name": "a", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            [f'{C}.env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty'],
        ),
        (
            pod({"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}),
            [
                f'{C}.env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field'
                " label not supported: spec.x"
            ],
        ),
        (pod({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}), [f'{C}.volumeMounts[0].name: Not found: "v"']),
        (
            pod({"volumeMounts": [{"name": "v"}]}, volumes=[VOLUME]),
            [f"{C}.volumeMounts[0].mountPath: Required value"],
        ),
        (
            pod(
                {"volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/v"}]}, volumes=[VOLUME]
            ),
            [f'{C}.volumeMounts[1].mountPath: Invalid value: "/v": must be unique'],
        ),
        (
            pod({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
            [f'{C}.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'],
        ),
        (
            pod({"resources": {"limits": {"memory": "-1"}}}),
            [
                f'{C}.resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0',
                f'{C}.resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0',
            ],
        ),
        (
            pod({"resources": {"limits": {"gpu": "1"}, "requests": {"gpu": "1"}}}),
            [
                f'{C}.resources.limits[gpu]: Invalid value: "gpu": must be a standard resource for containers',
                f'{C}.resources.requests[gpu]: Invalid value: "gpu": must be a standard resource for containers',
            ],
        ),
        (
            pod({"resources": {"requests": {"example.com/gpu": "1"}}}),
            [f"{C}.resources.limits: Required value: Limit must be set for non overcommitable resources"],
        ),
        (pod({"livenessProbe": {}}), [f"{C}.livenessProbe: Required value: must specify a handler type"]),
        (
            pod({"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}}),
            [f"{C}.livenessProbe.successThreshold: Invalid value: 2: must be 1"],
        ),
        (
            pod({"readinessProbe": {"httpGet": {"port": 0}, "periodSeconds": -1}}),
            [
                f"{C}.readinessProbe.httpGet.port: Invalid value: 0: {PORTS}",
                f"{C}.readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (
            pod({"readinessProbe": {"exec": {}, "tcpSocket": {"port": 1}}}),
            [
                f"{C}.readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                f"{C}.readinessProbe.exec.command: Required value",
            ],
        ),
        (
            pod(initContainers=[{"name": "c", "image": "i"}]),
            ['spec.initContainers[0].name: Duplicate value: "c"'],
        ),
        (
            pod(initContainers=[{"name": "i", "image": "i", "livenessProbe": {"exec": {"command": ["a"]}}}]),
            [
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without"
                " restartPolicy=Always"
            ],
        ),
        (pod(volumes=[{"name": "v", "secret": {}}]), ["spec.volumes[0].secret.secretName: Required value"]),
        (
            pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/a"}}]),
            ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (pod(volumes=[VOLUME, VOLUME]), ['spec.volumes[1].name: Duplicate value: "v"']),
        (
            pod(volumes=[{"name": "v", "hostPath": {"path": "/a/../b"}}]),
            ["spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
        ),
        (
            pod(restartPolicy="Sometimes"),
            ['spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"'],
        ),
        (
            pod(dnsPolicy="None"),
            ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            pod(activeDeadlineSeconds=0),
            ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        ),
        (pod(hostname="a.b"), [f'spec.hostname: Invalid value: "a.b": {LABEL}']),
        (
            pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
            [
                'spec.tolerations[0].operator: Invalid value: "b": value must be empty when `operator` is \'Exists\''
            ],
        ),
        (
            pod(tolerations=[{"key": "a", "tolerationSeconds": 1}]),
            [
                "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds`"
                " is set"
            ],
        ),
        (
            pod(tolerations=[{"key": "a", "effect": "Maybe"}]),
            [
                'spec.tolerations[0].effect: Unsupported value: "Maybe": supported values: "NoSchedule",'
                ' "PreferNoSchedule", "NoExecute"'
            ],
        ),
        (
            pod(
                affinity={
                    "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
                }
            ),
            [
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required"
                " value: must have at least one node selector term"
            ],
        ),
        (
            pod(
                affinity={
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {"weight": 0, "podAffinityTerm": {"topologyKey": "zone"}}
                        ]
                    }
                }
            ),
            [
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid"
                " value: 0: must be in the range 1-100"
            ],
        ),
        (
            pod(topologySpreadConstraints=[{"topologyKey": "z", "whenUnsatisfiable": "Never"}]),
            [
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                'spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Never": supported values:'
                ' "DoNotSchedule", "ScheduleAnyway"',
            ],
        ),
        (
            pod(schedulingGates=[{"name": "g"}], nodeName="n"),
            ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
        ),
        (
            pod(ephemeralContainers=[{"name": "e", "image": "i"}]),
            ["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
        (pod() | {"metadata": {"name": "A"}}, [f'metadata.name: Invalid value: "A": {SUBDOMAIN}']),
        (
            pod() | {"metadata": {"labels": {"a b": "c"}}},
            [
                "metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or"
                " '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or"
                " '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ],
        ),
        (
            pod() | {"metadata": {"labels": {"a": "x" * 64}}},
            [f'metadata.labels: Invalid value: "{"x" * 64}": must be no more than 63 bytes'],
        ),
        (
            pod() | {"metadata": {"annotations": {"a": "x" * 262144}}},
            ["metadata.annotations: Too long: may not be more than 262144 bytes"],
        ),
        (
            pod() | {"metadata": {"ownerReferences": [{"kind": "Pod", "name": "p", "uid": "u"}]}},
            ["metadata.ownerReferences[0].apiVersion: Required value: must not be empty"],
        ),
    ],
)  # fmt: skip
def test_a_broken_rule_is_told_with_its_path(given: Document, expected: list[str]) -> None:
    assert told("pods", given) == expected


def test_a_template_keeps_the_same_rules_at_its_own_path() -> None:
    given = deployment({"containers": [{"name": "c"}], "activeDeadlineSeconds": 5})
    assert told("deployments", given, "apps") == [
        "spec.template.spec.containers[0].image: Required value",
        "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
    ]


CHANGEABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (pod(), pod({"image": "i:2"}), []),
        (pod(), pod(activeDeadlineSeconds=9), []),
        (pod(activeDeadlineSeconds=9), pod(activeDeadlineSeconds=8), []),
        (
            pod(activeDeadlineSeconds=9),
            pod(activeDeadlineSeconds=10),
            ["spec.activeDeadlineSeconds: Invalid value: 10: must be less than or equal to previous value"],
        ),
        (pod(), pod(tolerations=[{"operator": "Exists"}]), []),
        (
            pod(tolerations=[{"operator": "Exists"}]),
            pod(),
            ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"],
        ),
        (pod(schedulingGates=[{"name": "g"}]), pod(nodeSelector={"a": "b"}), []),
        (
            pod(),
            pod(schedulingGates=[{"name": "g"}]),
            ["spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'"],
        ),
        (
            pod(),
            {"spec": {"containers": [*pod()["spec"]["containers"], {"name": "d", "image": "i"}]}},
            ["spec.containers: Forbidden: pod updates may not add or remove containers"],
        ),
        (pod(), pod(nodeName="n"), [f"spec: Forbidden: {CHANGEABLE}\n+ nodeName: n"]),
        (
            pod(),
            pod({"command": ["a"]}),
            [f"spec: Forbidden: {CHANGEABLE}\n+ containers[0].command: ['a']"],
        ),
    ],
)  # fmt: skip
def test_a_pod_changes_only_where_it_may(old: Document, new: Document, expected: list[str]) -> None:
    assert told_of_change("pods", old, new) == expected


def sized(**amounts: Document) -> Document:
    return pod({"resources": amounts})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (sized(requests={"cpu": "1"}), sized(requests={"cpu": "2"}), []),
        (
            sized(requests={"cpu": "1", "memory": "1Gi"}),
            sized(requests={"cpu": "1"}),
            ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"],
        ),
        (
            sized(requests={"cpu": "1"}),
            sized(requests={"cpu": "1"}, limits={"cpu": "2"}),
            [],
        ),
        (
            sized(requests={"cpu": "1"}),
            pod({"resources": {"requests": {"cpu": "1"}}, "command": ["a"]}),
            ["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (pod(), sized(requests={"cpu": "1"}), [
            'spec: Invalid value: "": Pod QOS Class may not change as a result of resizing'
        ]),
    ],
)  # fmt: skip
def test_a_resize_changes_sizes_alone(old: Document, new: Document, expected: list[str]) -> None:
    before, after = ({**document, "status": {}} for document in (old, new))
    assert told_of_change("pods", before, after, subresource="resize") == expected


def test_ephemeral_containers_are_only_ever_added() -> None:
    one = {"name": "e", "image": "i:1", "terminationMessagePolicy": "File"}
    assert told_of_change("pods", pod(), pod(ephemeralContainers=[one]), subresource="ephemeralcontainers") == []
    gone = told_of_change("pods", pod(ephemeralContainers=[one]), pod(), subresource="ephemeralcontainers")
    assert gone == ['spec.ephemeralContainers: Forbidden: existing ephemeral containers "e" may not be removed\n']
    bad = {"name": "c", "image": "i:1", "targetContainerName": "none", "ports": [{"containerPort": 1}]}
    assert told_of_change("pods", pod(), pod(ephemeralContainers=[bad]), subresource="ephemeralcontainers") == [
        'spec.ephemeralContainers[0].name: Duplicate value: "c"',
        'spec.ephemeralContainers[0].targetContainerName: Not found: "none"',
        "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
    ]


def test_a_pod_keeps_its_quality_of_service() -> None:
    old = pod() | {"status": {"qosClass": "BestEffort"}}
    new = pod() | {"status": {"qosClass": "Burstable"}}
    assert told_of_change("pods", old, new, subresource="status") == [
        'status.qosClass: Invalid value: "Burstable": field is immutable'
    ]

"""What people type every day, with kubectl 1.32 and 1.37 against our API server over a real etcd."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from labctl.kube.resources import BUILTIN
from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from tests.e2e.apiserver import Kubectl

pytestmark = pytest.mark.etcd

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: lab.local/web:1
        ports: [{containerPort: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80}]
"""


def test_api_resources_lists_every_built_in_kind(kubectl: Kubectl) -> None:
    shown = set(kubectl.run("api-resources", "-o", "name").split())
    assert {resource.qualified for resource in BUILTIN} <= shown


def test_apply_creates_changes_and_leaves_alone(kubectl: Kubectl) -> None:
    assert kubectl.run("apply", "-f-", stdin=WEB).splitlines() == ["deployment.apps/web created", "service/web created"]
    assert kubectl.run("apply", "-f-", stdin=WEB).splitlines() == [
        "deployment.apps/web unchanged",
        "service/web unchanged",
    ]
    more = WEB.replace("replicas: 3", "replicas: 4").replace("web:1", "web:2")
    assert "deployment.apps/web configured" in kubectl.run("apply", "-f-", stdin=more)
    spec = kubectl.json("get", "deployment", "web")["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (4, "lab.local/web:2")


def test_apply_refuses_a_field_that_does_not_exist(kubectl: Kubectl) -> None:
    said = kubectl.run("apply", "-f-", stdin=WEB.replace("replicas: 3", "replica: 3"), check=False)
    assert 'strict decoding error: unknown field "spec.replica"' in said


def test_diff_shows_what_apply_would_change(kubectl: Kubectl) -> None:
    kubectl.run("apply", "-f-", stdin=WEB)
    said = kubectl.run("diff", "-f-", stdin=WEB.replace("replicas: 3", "replicas: 5"), check=False)
    assert "-  replicas: 3" in said
    assert "+  replicas: 5" in said


def test_get_shows_upstreams_columns(kubectl: Kubectl) -> None:
    kubectl.run("apply", "-f-", stdin=WEB)
    header, row = kubectl.run("get", "deployment", "-o", "wide").splitlines()
    assert header.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    assert row.split()[:4] == ["web", "0/3", "0", "0"]
    header, row = kubectl.run("get", "service").splitlines()
    assert header.split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert row.split()[1] == "NodePort"
    kubectl.run("run", "one", "--image=x:1")
    header, row = kubectl.run("get", "pods", "-o", "wide").splitlines()
    columns = "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"
    assert " ".join(header.split()) == columns
    assert row.split()[:4] == ["one", "0/1", "Pending", "0"]
    assert "kube-system" in kubectl.run("get", "namespaces")


def test_get_all_covers_the_category(kubectl: Kubectl) -> None:
    kubectl.run("apply", "-f-", stdin=WEB)
    shown = kubectl.run("get", "all", "-o", "name").split()
    assert shown == ["service/web", "deployment.apps/web"]


def test_every_patch_type_and_its_friends(kubectl: Kubectl) -> None:
    kubectl.run("apply", "-f-", stdin=WEB)
    kubectl.run("patch", "deployment", "web", "-p", '{"spec":{"replicas":4}}')
    kubectl.run("patch", "deployment", "web", "--type=merge", "-p", '{"metadata":{"labels":{"a":"b"}}}')
    operation = '[{"op":"remove","path":"/metadata/labels/tier"}]'
    kubectl.run("patch", "deployment", "web", "--type=json", "-p", operation)
    kubectl.run("label", "deployment", "web", "c=d")
    kubectl.run("annotate", "deployment", "web", "note=hello")
    kubectl.run("set", "image", "deployment/web", "web=lab.local/web:9")
    kubectl.run("scale", "deployment/web", "--replicas=6")
    found = kubectl.json("get", "deployment", "web")
    assert found["metadata"]["labels"] == {"a": "b", "c": "d"}
    assert found["metadata"]["annotations"]["note"] == "hello"
    assert found["spec"]["replicas"] == 6
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "lab.local/web:9"


def test_edit_sends_what_the_editor_left(kubectl: Kubectl) -> None:
    kubectl.run("create", "configmap", "c", "--from-literal=a=before")
    argv = ["env", "KUBE_EDITOR=sed -i s/before/after/", *kubectl.argv("edit", "configmap", "c")]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    assert kubectl.json("get", "configmap", "c")["data"] == {"a": "after"}


def test_replace_and_delete_by_selector(kubectl: Kubectl) -> None:
    kubectl.run("apply", "-f-", stdin=WEB)
    kubectl.run("replace", "-f-", stdin=WEB.replace("replicas: 3", "replicas: 1"))
    assert kubectl.json("get", "deployment", "web")["spec"]["replicas"] == 1
    assert "deleted" in kubectl.run("delete", "deployment", "-l", "tier=front")
    assert "NotFound" in kubectl.run("get", "deployment", "web", check=False)


GENERATORS = (
    ("configmap", "x", "--from-literal=a=b"),
    ("secret", "generic", "x", "--from-literal=a=b"),
    ("deployment", "x", "--image=i:1", "--replicas=0"),
    ("job", "x", "--image=i:1"),
    ("cronjob", "x", "--image=i:1", "--schedule=* * * * *"),
    ("serviceaccount", "x"),
    ("role", "x", "--verb=get", "--resource=pods"),
    ("rolebinding", "x", "--role=x", "--user=u"),
    ("quota", "x", "--hard=pods=1"),
    ("poddisruptionbudget", "x", "--selector=a=b", "--min-available=1"),
    ("ingress", "x", "--rule=h/p=s:80"),
    ("service", "clusterip", "x", "--tcp=80"),
    ("token", "default-user"),
)


def test_create_works_for_every_kind_that_kubectl_can_make(kubectl: Kubectl) -> None:
    kubectl.run("create", "serviceaccount", "default-user")
    for arguments in GENERATORS:
        kubectl.run("create", *arguments)
    cluster_wide = kubectl.namespace
    for arguments in (
        ("clusterrole", cluster_wide, "--verb=get", "--resource=pods"),
        ("clusterrolebinding", cluster_wide, f"--clusterrole={cluster_wide}", "--user=u"),
        ("priorityclass", cluster_wide, "--value=7"),
    ):
        kubectl.run("create", *arguments)
        kubectl.run("delete", arguments[0], cluster_wide)
    assert kubectl.json("get", "deployment", "x")["spec"]["replicas"] == 0


def test_explain_knows_fields_and_their_words(kubectl: Kubectl) -> None:
    shown = kubectl.run("explain", "deployment.spec.strategy")
    assert "DeploymentStrategy" in shown
    assert "rollingUpdate" in kubectl.run("explain", "deployment.spec", "--recursive")


def test_auth_tells_what_we_may_do_and_who_we_are(kubectl: Kubectl) -> None:
    assert kubectl.run("auth", "can-i", "delete", "pods").strip() == "yes"
    assert "kubernetes-admin" in kubectl.run("auth", "whoami")
    assert "*.*" in kubectl.run("auth", "can-i", "--list")


@contextmanager
def watching(kubectl: Kubectl, *arguments: str) -> Iterator[list[str]]:
    """Lines of a running `kubectl get -w`."""
    import threading  # noqa: PLC0415

    lines: list[str] = []
    process = subprocess.Popen(kubectl.argv("get", *arguments, "-w"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)  # type: ignore[union-attr]
    reader.start()
    try:
        yield lines
    finally:
        process.terminate()
        process.wait(timeout=10)
        reader.join(timeout=10)


def test_get_watch_shows_changes_as_they_come(kubectl: Kubectl) -> None:
    kubectl.run("run", "one", "--image=x:1")

    def shows(lines: list[str], word: str) -> None:
        wait_for(
            lambda: any(word in line for line in list(lines)),
            what=f"{word} in {lines}",
            deadline_s=20,
            clock=SystemClock(),
        )

    with watching(kubectl, "pods") as lines:
        shows(lines, "one")
        kubectl.run("run", "two", "--image=x:1")
        shows(lines, "two")
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]


def test_wait_sees_a_delete_and_a_condition(kubectl: Kubectl) -> None:
    kubectl.run("run", "one", "--image=x:1")
    ready = '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}'
    kubectl.run("patch", "pod", "one", "--subresource=status", "--type=merge", "-p", ready)
    kubectl.run("wait", "pod/one", "--for=condition=Ready", "--timeout=10s")
    kubectl.run("delete", "pod", "one", "--timeout=10s")
    kubectl.run("wait", "pod/one", "--for=delete", "--timeout=10s")


def test_events_and_describe_tell_what_happened(kubectl: Kubectl) -> None:
    kubectl.run("run", "one", "--image=x:1")
    uid = kubectl.json("get", "pod", "one")["metadata"]["uid"]
    event = f"""
apiVersion: v1
kind: Event
metadata: {{name: one.1}}
involvedObject: {{kind: Pod, name: one, namespace: {kubectl.namespace}, uid: {uid}, apiVersion: v1}}
reason: Scheduled
message: it went well
type: Normal
count: 1
firstTimestamp: "2026-01-01T00:00:00Z"
lastTimestamp: "2026-01-01T00:00:00Z"
source: {{component: tester}}
"""
    kubectl.run("create", "-f-", stdin=event)
    assert "it went well" in kubectl.run("events")
    assert "it went well" in kubectl.run("events", "--for=pod/one")
    described = kubectl.run("describe", "pod", "one")
    assert "it went well" in described
    assert "QoS Class:         BestEffort" in described or "QoS Class:" in described


def test_describe_node_shows_its_pods_and_lease(kubectl: Kubectl) -> None:
    node = kubectl.namespace
    kubectl.run("create", "-f-", stdin=f"apiVersion: v1\nkind: Node\nmetadata: {{name: {node}}}")
    kubectl.run("run", "one", "--image=x:1", "--overrides", f'{{"spec":{{"nodeName":"{node}"}}}}')
    described = kubectl.run("describe", "node", node)
    assert "node.kubernetes.io/not-ready:NoSchedule" in described
    assert "one" in described
    kubectl.run("delete", "pod", "one", "--force", "--grace-period=0")
    kubectl.run("cordon", node)
    assert kubectl.json("get", "node", node)["spec"]["unschedulable"] is True
    kubectl.run("delete", "node", node)


def test_drain_evicts_through_the_eviction_subresource(kubectl: Kubectl) -> None:
    node = kubectl.namespace
    kubectl.run("create", "-f-", stdin=f"apiVersion: v1\nkind: Node\nmetadata: {{name: {node}}}")
    kubectl.run(
        "run",
        "one",
        "--image=x:1",
        "--overrides",
        f'{{"spec":{{"nodeName":"{node}","terminationGracePeriodSeconds":0}}}}',
    )
    said = kubectl.run("drain", node, "--force", "--timeout=20s")
    assert f"node/{node} drained" in said
    kubectl.run("delete", "node", node)

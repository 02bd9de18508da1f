"""The table of what kubectl needs, row by row: each test's docstring begins with the row it covers.

The rows `logs`, `exec, attach, cp` and `port-forward` need a kubelet that runs containers: see the tests of the lab.
Those that need controllers use `live`, where pods become ready without running.
"""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.apiserver import Kubectl
from tests.e2e.controlplane.plane import Plane
from tests.e2e.documents import WEB, config_map, event

pytestmark = pytest.mark.etcd


def test_get_shows_upstreams_columns(kubectl: Kubectl) -> None:
    """Row `get, get -w`: Tables."""
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


def test_get_pages_through_a_long_list(kubectl: Kubectl) -> None:
    """Row `get, get -w`: limit and continue."""
    names = [f"m{number}" for number in range(5)]
    kubectl.run("create", "-f-", stdin="".join(map(config_map, names)))
    said = kubectl.run("get", "configmaps", "-l", "set=x", "--chunk-size=2", "-o", "name", "-v=6", check=False)
    assert re.findall(r"^configmap/(m\d)$", said, re.M) == names
    pages = re.findall(r"configmaps\?(\S*limit=2\S*)", said)
    assert len(pages) >= 3
    assert ["continue=" in page for page in pages[:3]] == [False, True, True]


def test_get_watch_shows_changes_as_they_come(kubectl: Kubectl) -> None:
    """Row `get, get -w`: Tables inside watch events."""
    kubectl.run("run", "one", "--image=x:1")
    with kubectl.follow("get", "pods", "-w") as watch:
        watch.shows("one")
        kubectl.run("run", "two", "--image=x:1")
        watch.shows("two")
    assert watch.lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]


def test_get_watch_only_leaves_out_what_was_there(kubectl: Kubectl) -> None:
    """Row `get, get -w`: a watch from now on, with whole objects."""
    kubectl.run("create", "configmap", "early")
    told = ("get", "configmaps", "--watch-only", "-o", "json", "--output-watch-events", "-v=6")
    with kubectl.follow(*told) as watch:
        watch.shows("watch=true")
        kubectl.run("create", "configmap", "late")
        watch.shows('"ADDED"')
        kubectl.run("delete", "configmap", "late")
        watch.shows('"DELETED"')
    events = [json.loads(line) for line in watch.lines if line.startswith("{")]
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "late"),
        ("DELETED", "late"),
    ]
    assert events[0]["object"]["kind"] == "ConfigMap"


def test_describe_node_shows_its_pods_lease_and_events(kubectl: Kubectl) -> None:
    """Row `describe node`: pods by `spec.nodeName`, the Lease, Events by `involvedObject.*`."""
    node = kubectl.namespace
    kubectl.run("create", "-f-", stdin=f"apiVersion: v1\nkind: Node\nmetadata: {{name: {node}}}")
    kubectl.run("run", "one", "--image=x:1", "--overrides", f'{{"spec":{{"nodeName":"{node}"}}}}')
    lease = f"""
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {{name: {node}, namespace: kube-node-lease}}
spec: {{holderIdentity: {node}-holder, renewTime: "2026-01-02T03:04:05.000006Z"}}"""
    kubectl.run("create", "--namespace=kube-node-lease", "-f-", stdin=lease)
    seen = event("", node).replace("kind: Pod, name: one", f"kind: Node, name: {node}")
    kubectl.run("create", "--namespace=default", "-f-", stdin=seen.replace("one.1", f"{node}.1"))
    described = kubectl.run("describe", "node", node)
    assert "node.kubernetes.io/not-ready:NoSchedule" in described
    assert re.search(rf"{node}\s+one\s", described)
    assert f"{node}-holder" in described
    assert "it went well" in described
    kubectl.run("delete", "node", node)
    kubectl.run("delete", "lease", node, "--namespace=kube-node-lease")
    kubectl.run("delete", "event", f"{node}.1", "--namespace=default")


def test_apply_creates_changes_and_leaves_alone(kubectl: Kubectl) -> None:
    """Row `apply, explain, diff`: the three-way merge from the server's own schema."""
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
    """Row `apply, explain, diff`: fieldValidation."""
    said = kubectl.run("apply", "-f-", stdin=WEB.replace("replicas: 3", "replica: 3"), check=False)
    assert 'strict decoding error: unknown field "spec.replica"' in said


def test_diff_shows_what_apply_would_change_and_changes_nothing(kubectl: Kubectl) -> None:
    """Row `apply, explain, diff`: dry run."""
    kubectl.run("apply", "-f-", stdin=WEB)
    assert kubectl.run("diff", "-f-", stdin=WEB) == ""
    said = kubectl.run("diff", "-f-", stdin=WEB.replace("replicas: 3", "replicas: 5"), check=False)
    assert "-  replicas: 3" in said
    assert "+  replicas: 5" in said
    assert kubectl.path("get", "deployment", "web", at=".spec.replicas") == "3"


def test_explain_knows_fields_and_their_words(kubectl: Kubectl) -> None:
    """Row `apply, explain, diff`: /openapi/v3."""
    shown = kubectl.run("explain", "deployment.spec.strategy")
    assert "DeploymentStrategy" in shown
    everything = kubectl.run("explain", "deployment", "--recursive")
    assert re.search(r"^ +rollingUpdate\t<RollingUpdateDeployment>$", everything, re.M)
    assert len(everything.splitlines()) > 700  # down to the last field of its pods


def test_delete_and_wait_see_each_other(kubectl: Kubectl) -> None:
    """Row `delete, wait`: list and watch by `metadata.name`."""
    with kubectl.follow("wait", "pod/one", "--for=create", "--timeout=20s") as waiting:
        kubectl.run("run", "one", "--image=x:1")
        waiting.shows("pod/one condition met")
    ready = '{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}'
    kubectl.run("patch", "pod", "one", "--subresource=status", "--type=merge", "-p", ready)
    kubectl.run("wait", "pod/one", "--for=condition=Ready", "--timeout=10s")
    kubectl.run("wait", "pod/one", "--for=jsonpath={.status.phase}=Running", "--timeout=10s")
    with kubectl.follow("wait", "pod/one", "--for=delete", "--timeout=20s", "-v=6") as waiting:
        waiting.shows("watch=true")
        kubectl.run("delete", "pod", "one", "--timeout=10s")
        waiting.shows("pod/one condition met")
    assert "NotFound" in kubectl.run("wait", "pod/one", "--for=condition=Ready", "--timeout=10s", check=False)


def test_delete_honours_a_precondition_and_a_finalizer(kubectl: Kubectl) -> None:
    """Row `delete, wait`: preconditions; an object with a finalizer waits for it."""
    kubectl.run("create", "-f-", stdin=config_map("held", label="a: b").replace("name:", "finalizers: [x.y/z], name:"))
    said = kubectl.run("delete", "configmap", "held", "--timeout=1s", check=False)
    assert "timed out waiting for the condition" in said
    assert kubectl.path("get", "configmap", "held", at=".metadata.deletionTimestamp")
    wrong = '{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"00000000-0000-0000-0000-000000000000"}}'
    target = f"/api/v1/namespaces/{kubectl.namespace}/configmaps/held"
    assert "Conflict" in kubectl.run("delete", "--raw", target, "-f-", stdin=wrong, check=False)
    with kubectl.follow("wait", "configmap/held", "--for=delete", "--timeout=20s", "-v=6") as waiting:
        waiting.shows("watch=true")
        kubectl.run(
            "patch", "configmap", "held", "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers"}]'
        )
        waiting.shows("configmap/held condition met")


def test_scale_and_autoscale_go_through_the_scale_subresource(kubectl: Kubectl) -> None:
    """Row `scale, autoscale`: `/scale`, with its preconditions."""
    kubectl.run("apply", "-f-", stdin=WEB)
    said = kubectl.run("scale", "deployment/web", "--replicas=6", "-v=6", check=False)
    assert re.search(r"PUT.*deployments/web/scale|PATCH.*deployments/web/scale", said)
    assert "Expected replicas to be 2, was 6" in kubectl.run(
        "scale", "deployment/web", "--current-replicas=2", "--replicas=1", check=False
    )
    kubectl.run("scale", "deployment/web", "--current-replicas=6", "--replicas=1")
    assert kubectl.path("get", "deployment", "web", at=".spec.replicas") == "1"
    kubectl.run("autoscale", "deployment/web", "--min=1", "--max=3")
    assert kubectl.run("get", "hpa", "--no-headers").split()[:2] == ["web", "Deployment/web"]


def test_cordon_marks_the_node_and_uncordon_takes_it_back(kubectl: Kubectl) -> None:
    """Row `cordon, drain`: strategic merge of `spec.unschedulable`."""
    node = kubectl.namespace
    kubectl.run("create", "-f-", stdin=f"apiVersion: v1\nkind: Node\nmetadata: {{name: {node}}}")
    kubectl.run("cordon", node)
    assert kubectl.path("get", "node", node, at=".spec.unschedulable") == "true"
    assert kubectl.run("get", "node", node, "--no-headers").split()[1].endswith("SchedulingDisabled")
    kubectl.run("uncordon", node)
    assert kubectl.path("get", "node", node, at=".spec.unschedulable") == ""
    kubectl.run("delete", "node", node)


def test_drain_waits_for_a_budget_and_says_so(live: Kubectl, cluster: Plane) -> None:
    """Row `cordon, drain`: evictions, 429 while a PodDisruptionBudget forbids them."""
    live.run("create", "deployment", "web", "--image=x:1", "--replicas=2")
    live.run("rollout", "status", "deployment/web", "--timeout=30s")
    live.run("create", "poddisruptionbudget", "guard", "--selector=app=web", "--min-available=2")
    node = live.path("get", "pods", at=".items[0].spec.nodeName")
    target = ("drain", node, f"--pod-selector=app=web,pod-template-hash={hash_of(live)}")
    try:
        live.run("wait", "poddisruptionbudget/guard", "--for=jsonpath={.status.desiredHealthy}=2")
        said = live.run(*target, "--timeout=1s", "-v=6", check=False)
        assert said.count("429 Too Many Requests") == 1  # no Retry-After, so kubectl waits its own 5 s
        assert "Cannot evict pod as it would violate the pod's disruption budget." in said
        assert f'unable to drain node "{node}"' in said
        assert len(live.run("get", "pods", "--no-headers").splitlines()) == 2
        live.run("patch", "poddisruptionbudget", "guard", "--type=merge", "-p", '{"spec":{"minAvailable":1}}')
        live.run("wait", "poddisruptionbudget/guard", "--for=jsonpath={.status.disruptionsAllowed}=1")
        assert f"node/{node} drained" in live.run(*target, "--timeout=30s")
        live.run("rollout", "status", "deployment/web", "--timeout=30s")
        assert node not in live.run("get", "pods", "-o", "wide", "--field-selector=status.phase=Running")
    finally:
        live.run("uncordon", node)


def hash_of(kubectl: Kubectl) -> str:
    return kubectl.path("get", "replicasets", at=".items[0].metadata.labels.pod-template-hash")


def test_rollout_follows_undoes_and_remembers(live: Kubectl) -> None:
    """Row `rollout status, undo, history`: observedGeneration, counts, Progressing, revision annotations."""
    live.run("apply", "-f-", stdin=WEB)
    assert "successfully rolled out" in live.run("rollout", "status", "deployment/web", "--timeout=30s")
    live.run("set", "image", "deployment/web", "web=lab.local/web:2")
    assert "successfully rolled out" in live.run("rollout", "status", "deployment/web", "--timeout=30s")
    history = live.run("rollout", "history", "deployment/web")
    assert re.findall(r"^\d", history, re.M) == ["1", "2"]
    assert "lab.local/web:1" in live.run("rollout", "history", "deployment/web", "--revision=1")
    live.run("rollout", "undo", "deployment/web")
    live.run("rollout", "status", "deployment/web", "--timeout=30s")
    assert live.path("get", "deployment", "web", at="..image") == "lab.local/web:1"
    assert re.findall(r"^\d", live.run("rollout", "history", "deployment/web"), re.M) == ["2", "3"]
    assert "reason: NewReplicaSetAvailable" in live.run("get", "deployment", "web", "-o", "yaml")


def test_events_are_told_once_with_a_count(live: Kubectl) -> None:
    """Row `events`: core/v1 Events, deduplicated, as the scheduler writes them."""
    live.run("run", "one", "--image=x:1")
    live.run("wait", "pod/one", "--for=condition=Ready", "--timeout=20s")
    lines = live.run("events", "--for=pod/one", "--no-headers").splitlines()
    assert len([line for line in lines if f"Successfully assigned {live.namespace}/one to n" in line]) == 1


def test_events_and_describe_tell_what_happened(kubectl: Kubectl) -> None:
    """Row `events`."""
    kubectl.run("run", "one", "--image=x:1")
    uid = kubectl.path("get", "pod", "one", at=".metadata.uid")
    kubectl.run("create", "-f-", stdin=event(kubectl.namespace, uid))
    assert "it went well" in kubectl.run("events")
    assert "it went well" in kubectl.run("events", "--for=pod/one")
    assert "No events" in kubectl.run("events", "--for=pod/two", check=False)
    described = kubectl.run("describe", "pod", "one")
    assert "it went well" in described
    assert re.search(r"QoS Class: +BestEffort", described)


@pytest.mark.parametrize("kind", ["nodes", "pods"])
def test_top_says_that_there_are_no_metrics_where_no_kubelet_tells_any(kubectl: Kubectl, kind: str) -> None:
    """Row `top`: metrics.k8s.io is served; what it shows of machines that run stands in test_lab_clients."""
    assert "No resources found" in (said := kubectl.run("top", kind, check=False)) or "not available yet" in said


def test_create_sends_protobuf_and_it_is_understood(kubectl: Kubectl) -> None:
    """Row `create …, auth can-i`: protobuf request bodies."""
    said = kubectl.run("create", "deployment", "x", "--image=i:1", "--replicas=0", "-v=8", check=False)
    assert re.search(r'Content-Type: application/vnd.kubernetes.protobuf|Content-Type: \["application/vnd.kub', said)
    assert kubectl.path("get", "deployment", "x", at=".spec.replicas") == "0"


def test_auth_tells_what_we_may_do_and_who_we_are(kubectl: Kubectl) -> None:
    """Row `create …, auth can-i`: the reviews."""
    assert kubectl.run("auth", "can-i", "delete", "pods").strip() == "yes"
    assert "kubernetes-admin" in kubectl.run("auth", "whoami")
    assert "*.*" in kubectl.run("auth", "can-i", "--list")
    stranger = kubectl.run("auth", "can-i", "delete", "pods", "--as=stranger", check=False)
    assert stranger.splitlines()[0] == "no"

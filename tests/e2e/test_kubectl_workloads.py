"""What kubectl does with workloads while controllers act on them; the nodes mark pods ready without running them."""

from __future__ import annotations

import re

import pytest

from tests.e2e.apiserver import Kubectl
from tests.e2e.controlplane.plane import Plane
from tests.e2e.documents import WEB

pytestmark = pytest.mark.etcd
STATUS = ("rollout", "status", "deployment/web", "--timeout=30s")


@pytest.fixture
def web(live: Kubectl) -> Kubectl:
    """A Deployment that has rolled out."""
    live.run("apply", "-f-", stdin=WEB)
    live.run(*STATUS)
    return live


def pods(kubectl: Kubectl) -> set[str]:
    return set(kubectl.run("get", "pods", "-l", "app=web", "-o", "name").split())


def test_scaling_is_watched_to_its_end(web: Kubectl) -> None:
    with web.follow("get", "deployment", "web", "-w", "--no-headers") as watch:
        watch.shows("3/3")
        web.run("scale", "deployment/web", "--replicas=5")
        watch.shows("5/5")
    web.run("wait", "deployment/web", "--for=jsonpath={.status.availableReplicas}=5", "--timeout=20s")
    assert len(pods(web)) == 5


def test_restart_replaces_every_pod_and_pause_holds_changes_back(web: Kubectl) -> None:
    before = pods(web)
    web.run("rollout", "restart", "deployment/web")
    web.run(*STATUS)
    web.run("wait", *before, "--for=delete", "--timeout=20s")
    assert not before & pods(web)
    web.run("rollout", "pause", "deployment/web")
    web.run("set", "image", "deployment/web", "web=lab.local/web:2")
    web.run("wait", "deployment/web", "--for=condition=Progressing=Unknown", "--timeout=20s")
    assert web.run("get", "replicasets", "-l", "app=web", "-o", "name").count("\n") == 2
    web.run("rollout", "resume", "deployment/web")
    web.run(*STATUS)
    assert web.run("get", "replicasets", "-l", "app=web", "-o", "name").count("\n") == 3


def test_undo_goes_back_to_the_revision_it_is_told(web: Kubectl) -> None:
    for number in (2, 3):
        web.run("set", "image", "deployment/web", f"web=lab.local/web:{number}")
        web.run(*STATUS)
    web.run("annotate", "deployment/web", "kubernetes.io/change-cause=the third")
    web.run("rollout", "undo", "deployment/web", "--to-revision=1")
    web.run(*STATUS)
    assert web.path("get", "deployment", "web", at="..image") == "lab.local/web:1"
    assert re.findall(r"^\d", web.run("rollout", "history", "deployment/web"), re.M) == ["2", "3", "4"]
    assert "unable to find specified revision 9" in web.run(
        "rollout", "undo", "deployment/web", "--to-revision=9", check=False
    )


def test_a_rollout_that_cannot_go_on_says_so(web: Kubectl) -> None:
    web.run("patch", "deployment", "web", "-p", '{"spec":{"progressDeadlineSeconds":1}}')
    stuck = '{"spec":{"template":{"spec":{"nodeSelector":{"no":"where"}}}}}'
    web.run("patch", "deployment", "web", "-p", stuck)
    said = web.run(*STATUS, check=False)
    assert 'error: deployment "web" exceeded its progress deadline' in said
    assert "FailedScheduling" in web.run("events", "--types=Warning")


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_delete_cascades_to_what_is_owned(web: Kubectl, cascade: str) -> None:
    owned = [*pods(web), *web.run("get", "replicasets", "-o", "name").split()]
    web.run("delete", "deployment", "web", f"--cascade={cascade}", "--timeout=30s")
    if cascade == "foreground":
        assert web.run("get", "replicasets,pods", "-l", "app=web", "-o", "name") == ""
    web.run("wait", *owned, "--for=delete", "--timeout=30s")


def test_delete_leaves_orphans_when_it_is_told(web: Kubectl) -> None:
    owned = pods(web)
    web.run("delete", "deployment", "web", "--cascade=orphan", "--timeout=30s")
    assert web.path("get", "replicasets", "-l", "app=web", at=".items[*].metadata.ownerReferences") == ""
    web.run("delete", "replicasets", "-l", "app=web", "--cascade=orphan", "--timeout=30s")
    assert pods(web) == owned
    web.run("apply", "-f-", stdin=WEB)
    web.run(*STATUS)
    assert pods(web) == owned  # a new Deployment's ReplicaSet adopts them


def test_deleting_a_namespace_empties_it_first(live: Kubectl) -> None:
    other = f"{live.namespace}-x"
    live.run("create", "namespace", other)
    for arguments in (("configmap", "c"), ("deployment", "web", "--image=x:1"), ("secret", "generic", "s")):
        live.run("create", *arguments, "-n", other)
    live.run("delete", "namespace", other, "--timeout=30s")
    assert "NotFound" in live.run("get", "namespace", other, check=False)
    assert live.run("get", "all,configmaps,secrets", "-n", other, "-o", "name") == ""


def test_a_cordoned_node_gets_no_pods_and_a_taint_empties_one(live: Kubectl, cluster: Plane) -> None:
    first, second = sorted(cluster.nodes)
    live.run("cordon", first)
    try:
        live.run("create", "deployment", "web", "--image=x:1", "--replicas=4")
        live.run(*STATUS)
        placed = live.path("get", "pods", at=".items[*].spec.nodeName").split()
        assert placed == [second] * 4
    finally:
        live.run("uncordon", first)
    live.run("taint", "node", second, "gone=now:NoExecute")
    try:
        moved = ("pods", "-l", "app=web", "--field-selector", f"spec.nodeName={second}")
        live.run("wait", *moved, "--for=delete", "--timeout=30s")
        live.run(*STATUS)
        assert set(live.path("get", "pods", at=".items[*].spec.nodeName").split()) == {first}
    finally:
        live.run("taint", "node", second, "gone-")


def test_server_side_apply_and_the_controllers_share_an_object(live: Kubectl) -> None:
    live.run("apply", "--server-side", "-f-", stdin=WEB)
    live.run(*STATUS)
    live.run("scale", "deployment/web", "--replicas=1")
    said = live.run("apply", "--server-side", "-f-", stdin=WEB, check=False)
    assert 'conflict with "kubectl" with subresource "scale"' in said
    assert ".spec.replicas" in said
    live.run("apply", "--server-side", "--force-conflicts", "-f-", stdin=WEB)
    live.run(*STATUS)
    assert live.path("get", "deployment", "web", at=".spec.replicas") == "3"
    managers = live.path("get", "deployment", "web", "--show-managed-fields", at=".metadata.managedFields[*].manager")
    assert "kubectl" in managers.split()

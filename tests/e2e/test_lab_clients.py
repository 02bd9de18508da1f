"""kubectl and helm, of both versions, on a lab in system containers: pods really run, and what they say is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import clients
from tests.e2e.apiserver import Kubectl, Tool
from tests.labs import WEB, LabUser, eventually

pytestmark = [pytest.mark.lxc, pytest.mark.timeout(900)]
CHART = str(Path(__file__).parent / "charts" / "greeter")

TALKER = """
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: talker
    image: lab.local/busybox:1
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo first; echo second; sleep 600"]
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUser]:
    """A lab with the images that the tests use."""
    someone = LabUser(tmp_path_factory.mktemp("lab"), "t-clients", "lxc")
    try:
        someone.up()
        for image in ("lab.local/busybox:1", "lab.local/web:1"):
            someone.labctl("image", "load", image)
        yield someone
    finally:
        someone.labctl("destroy", "--if-exists")


def tool(user: LabUser, name: str, version: str, home: Path) -> Tool:
    make = Kubectl if name == "kubectl" else Tool
    return make(clients.program(name, version), user.home / ".labctl" / user.name / "kubeconfig", home)


def test_kubectl_runs_watches_scales_and_deletes_a_deployment(user: LabUser, version: str, tmp_path: Path) -> None:
    kubectl = tool(user, "kubectl", version, tmp_path)
    nodes = kubectl.run("get", "nodes", "--no-headers").splitlines()
    assert [line.split()[:2] for line in nodes] == [["worker1", "Ready"], ["worker2", "Ready"]]
    with kubectl.follow("get", "pods", "-o", "wide", "-w") as watch:
        assert "service/web created" in kubectl.run("apply", "-f", str(WEB))
        kubectl.run("rollout", "status", "deployment/web", "--timeout=120s", timeout_s=150)
        watch.shows("1/1")
    assert any(line.split()[6:7] in (["worker1"], ["worker2"]) for line in watch.lines[1:])
    described = kubectl.run("describe", "node", "worker1")
    assert "containerd://" in described
    assert "HolderIdentity:  worker1" in described
    assert "web-" in described
    assert eventually(lambda: user.fetch("worker2"), "the NodePort")
    assert eventually(lambda: user.fetch("master1"), "the NodePort on a master")
    web = "/api/v1/namespaces/default/services/web/proxy/"
    assert eventually(lambda: "web-" in kubectl.run("get", "--raw", web, check=False), "the Service by proxy")
    nodes = kubectl.run("top", "nodes", "--no-headers").splitlines()
    assert [line.split()[0] for line in nodes] == ["worker1", "worker2"]
    assert all(
        re.fullmatch(r"[0-9]+m +[0-9]+% +[1-9][0-9]*Mi +[0-9]+%", line.split(maxsplit=1)[1].strip()) for line in nodes
    )
    assert len(kubectl.run("top", "pods", "-l", "app=web", "--no-headers").splitlines()) == 3
    kubectl.run("scale", "deployment/web", "--current-replicas=3", "--replicas=1")
    kubectl.run("rollout", "status", "deployment/web", "--timeout=60s", timeout_s=90)
    kubectl.run("delete", "-f", str(WEB), "--timeout=60s", timeout_s=90)
    kubectl.run("wait", "pods", "-l", "app=web", "--for=delete", "--timeout=60s", timeout_s=90)


def test_kubectl_reads_what_a_container_says_and_speaks_to_it(user: LabUser, version: str, tmp_path: Path) -> None:
    kubectl = tool(user, "kubectl", version, tmp_path)
    kubectl.run("apply", "-f-", stdin=TALKER)
    kubectl.run("wait", "pod/talker", "--for=condition=Ready", "--timeout=60s", timeout_s=90)
    assert kubectl.run("logs", "talker") == "first\nsecond\n"
    assert kubectl.run("logs", "talker", "--tail=1", "--prefix") == "[pod/talker/talker] second\n"
    assert kubectl.run("exec", "talker", "--", "hostname") == "talker\n"
    events = kubectl.run("events", "--for=pod/talker")
    assert "Successfully assigned default/talker to worker" in events
    assert "Started" in events
    kubectl.run("delete", "pod", "talker", "--timeout=60s", timeout_s=90)


def test_helm_installs_tests_upgrades_rolls_back_and_uninstalls(user: LabUser, version: str, tmp_path: Path) -> None:
    helm, kubectl = (tool(user, name, version, tmp_path) for name in ("helm", "kubectl"))
    wait = ("--wait", "--timeout=120s")
    assert "hi says hello." in helm.run("install", "hi", CHART, *wait, timeout_s=150)
    assert kubectl.run("logs", "job/hi-pre-install") == "pre-install of hi\n"
    assert "test of hi" in helm.run("test", "hi", "--logs", "--timeout=60s", timeout_s=90)
    helm.run("upgrade", "hi", CHART, "--set", "greeting=salut", *wait, timeout_s=150)
    helm.run("rollback", "hi", "1", *wait, timeout_s=150)
    helm.run("uninstall", "hi", *wait, timeout_s=150)
    kubectl.run("delete", "pods", "--all", "--timeout=60s", timeout_s=90)

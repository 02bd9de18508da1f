"""helm 3 and 4 with a chart of our own, hooks included: a Job before the installation, Pods at every other turn.

Pods become ready, and those of hooks succeed, without running; on a lab they run: see the tests of the lab.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.apiserver import Kubectl, Tool

pytestmark = pytest.mark.etcd
CHART = str(Path(__file__).parent / "charts" / "greeter")
WAIT = ("--wait", "--timeout=60s")


@pytest.fixture
def installed(helm: Tool) -> Tool:
    """helm, with the chart installed as `hi`."""
    said = helm.run("install", "hi", CHART, *WAIT)
    assert "STATUS: deployed" in said
    assert "hi says hello." in said
    return helm


def test_install_runs_its_hooks_and_waits_until_everything_is_ready(installed: Tool, live: Kubectl) -> None:
    assert live.path("get", "deployment", "hi", at=".status.readyReplicas") == "2"
    assert live.path("get", "job", "hi-pre-install", at=".status.succeeded") == "1"
    assert live.path("get", "pod", "hi-post-install", at=".status.phase") == "Succeeded"
    assert "NotFound" in live.run("get", "pod", "hi-test", check=False)
    before = live.path("get", "job", "hi-pre-install", at=".metadata.creationTimestamp")
    after = live.path("get", "pod", "hi-post-install", at=".metadata.creationTimestamp")
    assert before <= live.path("get", "deployment", "hi", at=".metadata.creationTimestamp") <= after
    (listed,) = json.loads(installed.run("list", "-o", "json"))
    assert (listed["name"], listed["revision"], listed["status"]) == ("hi", "1", "deployed")
    assert "kind: Deployment" in installed.run("get", "manifest", "hi")
    assert installed.run("get", "hooks", "hi").count("helm.sh/hook:") == 6
    assert "greeting: hello" in installed.run("get", "values", "hi", "--all")
    secret = live.path("get", "secret", "sh.helm.release.v1.hi.v1", at=".type")
    assert secret == "helm.sh/release.v1"


def test_install_refuses_a_name_in_use_and_what_others_own(installed: Tool, live: Kubectl) -> None:
    assert re.search("cannot re-?use a name that is still in use", installed.run("install", "hi", CHART, check=False))
    live.run("create", "configmap", "other-words")
    said = installed.run("install", "other", CHART, "--no-hooks", check=False)
    assert 'ConfigMap "other-words" in namespace' in said
    assert "invalid ownership metadata" in said


def test_upgrade_rollback_and_history(installed: Tool, live: Kubectl) -> None:
    installed.run("upgrade", "hi", CHART, "--set", "greeting=salut,replicas=3", *WAIT)
    assert live.path("get", "configmap", "hi-words", at=".data.greeting") == "salut"
    assert live.path("get", "deployment", "hi", at=".status.readyReplicas") == "3"
    assert live.path("get", "pod", "hi-pre-upgrade", at=".status.phase") == "Succeeded"
    installed.run("rollback", "hi", "1", *WAIT)
    assert live.path("get", "configmap", "hi-words", at=".data.greeting") == "hello"
    assert live.path("get", "deployment", "hi", at=".spec.replicas") == "2"
    assert live.path("get", "pod", "hi-post-rollback", at=".status.phase") == "Succeeded"
    told = [(entry["revision"], entry["status"]) for entry in json.loads(installed.run("history", "hi", "-o", "json"))]
    assert told == [(1, "superseded"), (2, "superseded"), (3, "deployed")]


def test_an_upgrade_that_fails_is_taken_back(installed: Tool, live: Kubectl, version: str) -> None:
    """No node has the label that the new pods ask for, so they never become ready."""
    back = "--rollback-on-failure" if version == "1.37" else "--atomic"
    said = installed.run("upgrade", "hi", CHART, "--set", "nodeSelector.no=where", back, "--timeout=3s", check=False)
    assert "UPGRADE FAILED" in said
    told = [(entry["revision"], entry["status"]) for entry in json.loads(installed.run("history", "hi", "-o", "json"))]
    assert told == [(1, "superseded"), (2, "failed"), (3, "deployed")]
    live.run("rollout", "status", "deployment/hi", "--timeout=20s")
    assert live.path("get", "deployment", "hi", at=".spec.template.spec.nodeSelector") == ""


def test_test_runs_the_charts_own_test(installed: Tool, live: Kubectl) -> None:
    said = installed.run("test", "hi", "--timeout=60s")
    assert re.search(r"TEST SUITE: +hi-test", said)
    assert re.search(r"Phase: +Succeeded", said)
    assert live.path("get", "pod", "hi-test", at=".status.phase") == "Succeeded"


def test_uninstall_removes_everything_but_the_hooks(installed: Tool, live: Kubectl) -> None:
    said = installed.run("uninstall", "hi", *WAIT)
    assert 'release "hi" uninstalled' in said
    assert live.run("get", "deployments,services,configmaps", "-l", "app.kubernetes.io/instance=hi", "-o", "name") == ""
    assert live.path("get", "pod", "hi-pre-delete", at=".status.phase") == "Succeeded"
    assert live.run("get", "secrets", "-l", "owner=helm", "-o", "name") == ""
    assert json.loads(installed.run("list", "-o", "json")) == []


def test_helm_4_applies_on_the_server_side(installed: Tool, live: Kubectl, version: str) -> None:
    owners = live.json("get", "configmap", "hi-words", "--show-managed-fields")["metadata"]["managedFields"]
    how = {entry["manager"]: entry["operation"] for entry in owners}
    assert how == {"helm": "Apply" if version == "1.37" else "Update"}

"""kubectl with StatefulSet, DaemonSet, Job, CronJob and PodDisruptionBudget; nodes end pods without running them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from labctl.kube.errors import Document
from labctl.runtime.loop import wait_for
from tests.e2e.apiserver import Kubectl
from tests.e2e.controlplane.plane import CLOCK, ENDS

WAIT = "--timeout=60s"


def template(app: str, *, end: str = "", **spec: Any) -> Document:
    metadata: Document = {"labels": {"app": app}}
    if end:
        metadata["annotations"] = {ENDS: end}
    return {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "lab.local/web:1"}], **spec}}


def apply(kubectl: Kubectl, kind: str, name: str, spec: Document) -> None:
    version = "batch/v1" if kind in {"Job", "CronJob"} else "policy/v1" if kind.endswith("Budget") else "apps/v1"
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    kubectl.run("apply", "-f-", stdin=msgspec.json.encode(body).decode())


def until(what: str, probe: Callable[[], Any]) -> None:
    wait_for(probe, what=what, deadline_s=60.0, clock=CLOCK, every_s=0.1)


def pods(kubectl: Kubectl, app: str) -> list[str]:
    return sorted(kubectl.run("get", "pods", "-l", f"app={app}", "-o", "name").replace("pod/", "").split())


def events(kubectl: Kubectl, kind: str, name: str) -> str:
    return kubectl.run("describe", kind, name).partition("Events:")[2]


@pytest.fixture
def db(live: Kubectl) -> Kubectl:
    """A StatefulSet of three that has rolled out."""
    spec = {"replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template("db")}
    apply(live, "StatefulSet", "db", spec)
    live.run("rollout", "status", "statefulset/db", WAIT)
    return live


def test_a_stateful_set_is_made_scaled_rolled_and_undone(db: Kubectl) -> None:
    assert pods(db, "db") == ["db-0", "db-1", "db-2"]
    until("Events", lambda: "create Pod db-2 in StatefulSet db successful" in events(db, "statefulset", "db"))
    db.run("scale", "statefulset/db", "--replicas=1")
    db.run("wait", "pod/db-1", "pod/db-2", "--for=delete", WAIT)
    db.run("scale", "statefulset/db", "--replicas=2")
    db.run("set", "image", "statefulset/db", "c=lab.local/web:2")
    db.run("rollout", "status", "statefulset/db", WAIT)
    assert db.path("get", "pods", "-l", "app=db", at=".items[*].spec.containers[0].image") == " ".join(
        ["lab.local/web:2"] * 2
    )
    assert [line.split()[0] for line in db.run("rollout", "history", "statefulset/db").splitlines()[2:4]] == ["1", "2"]
    db.run("rollout", "undo", "statefulset/db")
    db.run("rollout", "status", "statefulset/db", WAIT)
    assert db.path("get", "statefulset", "db", at="..image") == "lab.local/web:1"
    db.run("delete", "statefulset/db", WAIT)
    until("no pods", lambda: not pods(db, "db"))


def test_a_budget_is_counted_as_its_pods_come_and_go(db: Kubectl) -> None:
    apply(db, "PodDisruptionBudget", "db", {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "db"}}})
    db.run("wait", "pdb/db", "--for=jsonpath={.status.disruptionsAllowed}=1", WAIT)
    assert db.run("get", "pdb", "db", "--no-headers").split()[:4] == ["db", "N/A", "1", "1"]
    db.run("scale", "statefulset/db", "--replicas=4")
    db.run("wait", "pdb/db", "--for=jsonpath={.status.expectedPods}=4", WAIT)


def test_a_daemon_set_covers_every_node_and_rolls(live: Kubectl) -> None:
    apply(live, "DaemonSet", "agent", {"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent")})
    live.run("rollout", "status", "daemonset/agent", WAIT)
    nodes = live.path("get", "pods", "-l", "app=agent", at=".items[*].spec.nodeName").split()
    assert sorted(nodes) == ["n1", "n2"]
    live.run("set", "image", "daemonset/agent", "c=lab.local/web:2")
    live.run("rollout", "status", "daemonset/agent", WAIT)
    live.run("rollout", "undo", "daemonset/agent")
    live.run("rollout", "status", "daemonset/agent", WAIT)
    assert live.path("get", "daemonset", "agent", at="..image") == "lab.local/web:1"
    live.run("delete", "daemonset/agent", WAIT)
    until("no pods", lambda: not pods(live, "agent"))


def test_a_job_completes_and_one_that_fails_says_why(live: Kubectl) -> None:
    good = template("good", restartPolicy="Never")
    apply(live, "Job", "good", {"completions": 4, "parallelism": 2, "completionMode": "Indexed", "template": good})
    live.run("wait", "--for=condition=complete", "job/good", WAIT)
    assert live.path("get", "job", "good", at=".status.completedIndexes") == "0-3"
    assert live.run("get", "job", "good", "--no-headers").split()[1:3] == ["Complete", "4/4"]
    bad = template("bad", end="Failed", restartPolicy="Never")
    apply(live, "Job", "bad", {"backoffLimit": 0, "template": bad})
    live.run("wait", "--for=condition=failed", "job/bad", WAIT)
    told = "Job has reached the specified backoff limit"
    until("Events", lambda: told in events(live, "job", "bad"))
    live.run("delete", "job", "--all", WAIT)
    until("no pods", lambda: not pods(live, "good") and not pods(live, "bad"))


def test_a_cron_job_can_be_run_by_hand_and_its_jobs_go_with_it(live: Kubectl) -> None:
    job = {"spec": {"template": template("tick", restartPolicy="Never")}}
    apply(live, "CronJob", "tick", {"schedule": "0 0 1 1 *", "timeZone": "Europe/Berlin", "jobTemplate": job})
    live.run("create", "job", "now", "--from=cronjob/tick")
    live.run("wait", "--for=condition=complete", "job/now", WAIT)
    live.run("patch", "cronjob/tick", "--type=merge", "-p", '{"spec":{"schedule":"* * * * *"}}')
    live.run("delete", "cronjob/tick", WAIT)
    live.run("wait", "--for=delete", "job/now", WAIT)

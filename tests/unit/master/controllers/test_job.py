from __future__ import annotations

from typing import Any

import pytest

from labctl.kube.errors import Document
from labctl.kube.resources import JOBS, PODS
from labctl.runtime.clock import SystemClock, rfc3339
from master.controllers.catalog.job import CONTROLLER
from master.controllers.job_policy import format_indexes, parse_indexes
from tests.unit.master.controllers.cluster import Cluster

FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"


def create(cluster: Cluster, *, restart: str = "Never", **spec: Any) -> None:
    containers = [{"name": "c", "image": "lab.local/web:1"}]
    template = {"spec": {"restartPolicy": restart, "containers": containers}}
    cluster.create(JOBS, {"metadata": {"name": "sum"}, "spec": {"template": template, **spec}})
    run(cluster)


def run(cluster: Cluster, passes: int = 4) -> None:
    for _ in range(passes):
        cluster.run(CONTROLLER)


def active(cluster: Cluster) -> list[Document]:
    return [
        pod
        for pod in cluster.all(PODS)
        if pod["status"].get("phase", "Pending") in {"Pending", "Running"}
        and not pod["metadata"].get("deletionTimestamp")
    ]


def finish(cluster: Cluster, phase: str, *, count: int = 1, code: int = 0, index: str = "", **status: Any) -> None:
    """The kubelet reports the end of `count` pods."""
    found = [pod for pod in active(cluster) if not index or pod["metadata"]["annotations"][INDEX] == index]
    assert len(found) >= count
    for pod in found[:count]:
        ended = {"exitCode": code, "finishedAt": rfc3339(SystemClock().now()), "reason": "Done"}
        containers = [{"name": "c", "state": {"terminated": ended}, "image": "", "imageID": "", "ready": False}]
        containers[0] |= {"restartCount": 0}
        cluster.report(pod["metadata"]["name"], phase, containerStatuses=containers, **status)
    run(cluster)


def job(cluster: Cluster) -> Document:
    return cluster.get(JOBS, "sum")


def status(cluster: Cluster) -> Document:
    found: Document = job(cluster)["status"]
    return found


def conditions(cluster: Cluster) -> list[tuple[str, str]]:
    return [(entry["type"], entry.get("reason", "")) for entry in status(cluster).get("conditions", ())]


def counts(cluster: Cluster) -> tuple[int, int, int]:
    return tuple(status(cluster).get(key, 0) for key in ("active", "succeeded", "failed"))


def pass_time(cluster: Cluster, seconds: float) -> None:
    cluster.skipped_s += seconds
    run(cluster)


def indexes(cluster: Cluster) -> list[str]:
    return sorted(pod["metadata"]["annotations"][INDEX] for pod in active(cluster))


def test_a_job_runs_as_many_at_once_as_asked_and_completes(cluster: Cluster) -> None:
    create(cluster, parallelism=2, completions=3)
    assert counts(cluster) == (2, 0, 0)
    pod = active(cluster)[0]["metadata"]
    assert pod["finalizers"] == [FINALIZER]
    assert pod["labels"]["batch.kubernetes.io/job-name"] == "sum"
    finish(cluster, "Succeeded")
    assert counts(cluster) == (2, 1, 0)
    finish(cluster, "Succeeded", count=2)
    assert conditions(cluster) == [
        ("SuccessCriteriaMet", "CompletionsReached"),
        ("Complete", "CompletionsReached"),
    ]
    assert counts(cluster) == (0, 3, 0)
    assert status(cluster)["completionTime"] >= status(cluster)["startTime"]
    assert not any(pod["metadata"].get("finalizers") for pod in cluster.all(PODS))
    assert "Completed: Job completed" in cluster.ear.heard
    assert cluster.run(CONTROLLER).steps == ()


def test_without_completions_one_success_is_enough_and_the_rest_may_finish(cluster: Cluster) -> None:
    create(cluster, parallelism=3)
    finish(cluster, "Succeeded")
    assert counts(cluster) == (2, 1, 0)
    finish(cluster, "Failed", code=1)
    assert counts(cluster) == (1, 1, 1)
    finish(cluster, "Succeeded")
    assert conditions(cluster)[-1] == ("Complete", "CompletionsReached")


def test_a_failed_pod_is_replaced_after_ten_seconds_then_twenty_then_forty(cluster: Cluster) -> None:
    create(cluster, backoffLimit=5)
    waits = []
    for _ in range(3):
        finish(cluster, "Failed", code=1)
        assert active(cluster) == []
        waits.append(round(cluster.run(CONTROLLER).wake_after_s + cluster.skipped_s, -1))
        cluster.skipped_s += waits[-1] + 1 - cluster.skipped_s
        run(cluster)
        assert len(active(cluster)) == 1
    assert waits == [10, 20, 40]


def test_too_many_failures_end_the_job_with_the_reason_users_know(cluster: Cluster) -> None:
    create(cluster, backoffLimit=1, parallelism=2, completions=2)
    finish(cluster, "Failed", code=1, count=2)
    assert conditions(cluster) == [("FailureTarget", "BackoffLimitExceeded"), ("Failed", "BackoffLimitExceeded")]
    assert counts(cluster) == (0, 0, 2)
    assert "BackoffLimitExceeded: Job has reached the specified backoff limit" in cluster.ear.heard


def test_running_pods_of_a_failed_job_end_before_the_last_word_falls(cluster: Cluster) -> None:
    create(cluster, activeDeadlineSeconds=60, parallelism=2, completions=2)
    bind(cluster)
    pass_time(cluster, 61)
    assert conditions(cluster) == [("FailureTarget", "DeadlineExceeded")]
    assert status(cluster)["terminating"] == 2
    cluster.kubelet()
    run(cluster)
    assert conditions(cluster) == [("FailureTarget", "DeadlineExceeded"), ("Failed", "DeadlineExceeded")]
    assert counts(cluster) == (0, 0, 2)
    assert cluster.names() == []


def bind(cluster: Cluster) -> None:
    for pod in cluster.all(PODS):
        name = pod["metadata"]["name"]
        if not pod["spec"].get("nodeName"):
            body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}}
            cluster.client.post(PODS, name, "binding", {**body, "target": {"kind": "Node", "name": "w1"}}, "default")


def test_a_suspended_job_has_no_pods_and_starts_anew_when_resumed(cluster: Cluster) -> None:
    create(cluster, suspend=True, activeDeadlineSeconds=60)
    assert (active(cluster), conditions(cluster)) == ([], [("Suspended", "JobSuspended")])
    assert "startTime" not in status(cluster)
    pass_time(cluster, 100)
    cluster.change(JOBS, "sum", {"spec": {"suspend": False}})
    run(cluster)
    assert len(active(cluster)) == 1
    assert status(cluster)["conditions"][0]["status"] == "False"
    cluster.change(JOBS, "sum", {"spec": {"suspend": True}})
    run(cluster)
    assert active(cluster) == []
    assert counts(cluster) == (0, 0, 0)
    heard = [heard for heard in cluster.ear.heard if heard.startswith(("Suspended", "Resumed"))]
    assert heard == ["Suspended: Job suspended", "Resumed: Job resumed", "Suspended: Job suspended"]


def test_parallelism_can_be_changed_while_it_runs(cluster: Cluster) -> None:
    create(cluster, parallelism=4, completions=8)
    cluster.change(JOBS, "sum", {"spec": {"parallelism": 1}})
    run(cluster)
    assert counts(cluster) == (1, 0, 0)
    cluster.change(JOBS, "sum", {"spec": {"parallelism": 3}})
    run(cluster)
    assert counts(cluster) == (3, 0, 0)


def test_each_index_is_worked_on_once(cluster: Cluster) -> None:
    create(cluster, completionMode="Indexed", completions=5, parallelism=2)
    assert indexes(cluster) == ["0", "1"]
    pod = active(cluster)[0]
    assert pod["spec"]["hostname"] == f"sum-{pod['metadata']['annotations'][INDEX]}"
    assert pod["metadata"]["labels"][INDEX] == pod["metadata"]["annotations"][INDEX]
    assert pod["spec"]["containers"][0]["env"][0]["name"] == "JOB_COMPLETION_INDEX"
    for index in ("1", "0", "2", "4", "3"):
        finish(cluster, "Succeeded", index=index)
    assert status(cluster)["completedIndexes"] == "0-4"
    assert conditions(cluster)[-1][0] == "Complete"
    assert counts(cluster) == (0, 5, 0)


def test_with_a_limit_per_index_one_bad_index_does_not_stop_the_others(cluster: Cluster) -> None:
    create(cluster, completionMode="Indexed", completions=3, parallelism=3, backoffLimitPerIndex=1)
    finish(cluster, "Failed", code=1, index="1")
    assert indexes(cluster) == ["0", "2"]
    pass_time(cluster, 11)
    assert indexes(cluster) == ["0", "1", "2"]
    again = next(pod for pod in active(cluster) if pod["metadata"]["annotations"][INDEX] == "1")
    assert again["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] == "1"
    finish(cluster, "Failed", code=1, index="1")
    finish(cluster, "Succeeded", index="0")
    finish(cluster, "Succeeded", index="2")
    assert status(cluster)["failedIndexes"] == "1"
    assert status(cluster)["completedIndexes"] == "0,2"
    assert conditions(cluster) == [("FailureTarget", "FailedIndexes"), ("Failed", "FailedIndexes")]
    assert counts(cluster) == (0, 2, 2)


def test_a_success_policy_ends_the_job_early(cluster: Cluster) -> None:
    rules = [{"succeededIndexes": "0,2", "succeededCount": 1}]
    create(cluster, completionMode="Indexed", completions=4, parallelism=4, successPolicy={"rules": rules})
    finish(cluster, "Succeeded", index="1")
    assert conditions(cluster) == []
    finish(cluster, "Succeeded", index="2")
    cluster.kubelet()
    run(cluster)
    assert conditions(cluster) == [("SuccessCriteriaMet", "SuccessPolicy"), ("Complete", "SuccessPolicy")]
    assert status(cluster)["conditions"][0]["message"] == "Matched rules at index 0"


@pytest.mark.parametrize(
    ("code", "expected", "failed"), [(42, [("FailureTarget", "PodFailurePolicy")], 1), (1, [], 0), (2, [], 1)]
)
def test_the_failure_policy_decides_what_an_exit_code_means(
    cluster: Cluster, code: int, expected: list[tuple[str, str]], failed: int
) -> None:
    rules = [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [1]}},
    ]
    create(cluster, podFailurePolicy={"rules": rules})
    finish(cluster, "Failed", code=code)
    assert conditions(cluster)[:1] == expected
    assert counts(cluster)[2] == failed


def test_a_job_fails_in_upstream_s_words_for_its_policy(cluster: Cluster) -> None:
    rules = [{"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "NotIn", "values": [3]}}]
    create(cluster, podFailurePolicy={"rules": rules})
    name = active(cluster)[0]["metadata"]["name"]
    finish(cluster, "Failed", code=7)
    why = f"Container c for pod default/{name} failed with exit code 7 matching FailJob rule at index 0"
    assert status(cluster)["conditions"][-1]["message"] == why


def test_with_the_replacement_policy_failed_a_leaving_pod_keeps_its_place(cluster: Cluster) -> None:
    create(cluster, podReplacementPolicy="Failed")
    bind(cluster)
    cluster.client.delete(PODS, active(cluster)[0]["metadata"]["name"], "default")
    run(cluster)
    assert (len(cluster.names()), status(cluster)["terminating"]) == (1, 1)
    cluster.report(cluster.names()[0], "Failed")
    cluster.kubelet()
    pass_time(cluster, 15)
    assert (len(active(cluster)), counts(cluster)[2]) == (1, 1)


def test_a_finished_job_goes_when_its_time_to_live_is_over(cluster: Cluster) -> None:
    create(cluster, ttlSecondsAfterFinished=30)
    finish(cluster, "Succeeded")
    plan = cluster.run(CONTROLLER)
    assert 25 < plan.wake_after_s <= 30
    pass_time(cluster, 31)
    assert job(cluster)["metadata"]["deletionTimestamp"]
    assert "foregroundDeletion" in job(cluster)["metadata"]["finalizers"]


def test_restarts_in_place_count_towards_the_limit(cluster: Cluster) -> None:
    create(cluster, restart="OnFailure", backoffLimit=3)
    name = active(cluster)[0]["metadata"]["name"]
    entry = {"name": "c", "restartCount": 3, "image": "", "imageID": "", "ready": False}
    cluster.report(name, "Running", containerStatuses=[entry])
    run(cluster)
    assert conditions(cluster)[0] == ("FailureTarget", "BackoffLimitExceeded")


def test_pods_of_a_job_that_is_gone_are_let_go(cluster: Cluster) -> None:
    create(cluster)
    cluster.client.delete(JOBS, "sum", "default", propagation="Background")
    run(cluster)
    assert [pod["metadata"].get("finalizers") for pod in cluster.all(PODS)] == [None]


@pytest.mark.parametrize("mode", ["NonIndexed", "Indexed"])
def test_a_crash_between_any_two_actions_counts_every_pod_once(cluster: Cluster, mode: str) -> None:
    create(cluster, completionMode=mode, completions=12, parallelism=3, backoffLimit=100)
    good, bad = set[str](), set[str]()

    def never_too_many(now: Cluster) -> None:
        assert len(active(now)) <= 3
        assert status(now).get("succeeded", 0) <= len(good)
        assert status(now).get("failed", 0) <= len(bad)

    cluster.invariants.append(never_too_many)
    for turn in range(40):
        for pod in active(cluster)[: turn % 3]:
            name = pod["metadata"]["name"]
            if turn % 4 == 3:
                cluster.report(name, "Failed")
                bad.add(name)
            else:
                cluster.report(name, "Succeeded")
                good.add(name)
            if turn % 5 == 0:
                cluster.client.delete(PODS, name, "default")
        stale = cluster.observe(CONTROLLER)
        cluster.run(CONTROLLER, most=turn % 5)
        if turn % 3 == 0:
            cluster.run(CONTROLLER, world=stale, most=1 + turn % 4)
        cluster.skipped_s += 400
    run(cluster)
    assert conditions(cluster)[-1][0] == "Complete"
    assert (status(cluster)["succeeded"], status(cluster)["failed"]) == (12, len(bad))
    assert len(good) == 12
    assert not status(cluster).get("uncountedTerminatedPods")


@pytest.mark.parametrize(
    ("text", "numbers"), [("", []), ("0", [0]), ("0,2-4,6,7", [0, 2, 3, 4, 6, 7]), ("8-12", [8, 9])]
)
def test_indexes_are_read_and_written_as_ranges(text: str, numbers: list[int]) -> None:
    assert sorted(parse_indexes(text, 10)) == numbers
    assert parse_indexes(format_indexes(numbers), 10) == set(numbers)


def test_two_neighbours_are_written_apart() -> None:
    assert format_indexes([0, 1, 3, 4, 5]) == "0,1,3-5"

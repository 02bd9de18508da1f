from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from labctl.kube.errors import Document
from labctl.kube.resources import CRON_JOBS, JOBS
from labctl.runtime.clock import parse_time
from master.controllers.catalog.cronjob import CONTROLLER
from master.controllers.protocol import World
from tests.unit.master.controllers.cluster import Cluster

START = datetime(2026, 6, 1, 12, 0, 30, tzinfo=UTC)


class Clockwork:
    """A cluster whose CronJob was created at START, and whose clock is set by hand."""

    def __init__(self, cluster: Cluster, schedule: str = "*/10 * * * *", **spec: Any) -> None:
        self.cluster, self.now = cluster, START
        template = {"spec": {"containers": [{"name": "c", "image": "lab.local/web:1"}], "restartPolicy": "Never"}}
        body = {"schedule": schedule, "jobTemplate": {"spec": {"template": template}}, **spec}
        cluster.create(CRON_JOBS, {"metadata": {"name": "tick"}, "spec": body})

    def world(self) -> World:
        seen = self.cluster.observe(CONTROLLER)
        replace = msgspec.structs.replace
        jobs = {
            key: replace(item, metadata=replace(item.metadata, creation_timestamp=START.isoformat()))
            for key, item in seen.objects[CRON_JOBS].items()
        }
        return World(
            now_s=seen.now_s,
            now=self.now,
            steady_since_s=0.0,
            settings=seen.settings,
            objects={**seen.objects, CRON_JOBS: jobs},
        )

    def at(self, text: str, **options: Any) -> float:
        """Two passes at that time of the day; seconds until the next one is wanted."""
        self.now = datetime.fromisoformat(f"2026-06-01T{text}+00:00") if "T" not in text else parse_time(text)
        self.cluster.run(CONTROLLER, world=self.world(), **options)
        if options:
            return 0.0
        return self.cluster.run(CONTROLLER, world=self.world()).wake_after_s

    def jobs(self) -> list[str]:
        return [item["metadata"]["annotations"][DUE][11:16] for item in self.found()]

    def found(self) -> list[Document]:
        items = [item for item in self.cluster.all(JOBS) if "deletionTimestamp" not in item["metadata"]]
        return sorted(items, key=lambda item: str(item["metadata"]["annotations"].get(DUE)))

    def status(self) -> Document:
        found: Document = self.cluster.get(CRON_JOBS, "tick")["status"]
        return found

    def finish(self, kind: str = "Complete") -> None:
        """Every Job that runs ends."""
        for item in self.found():
            if item.get("status", {}).get("conditions"):
                continue
            stamp = item["metadata"]["annotations"][DUE]
            first = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
            entries = [{"type": one, "status": "True", "lastTransitionTime": stamp} for one in (first, kind)]
            status = {"conditions": entries, "startTime": stamp}
            if kind == "Complete":
                status["completionTime"] = stamp
            self.cluster.change(JOBS, item["metadata"]["name"], {"status": status}, subresource="status")

    def heard(self, reason: str) -> list[str]:
        return [text for text in self.cluster.ear.heard if text.startswith(f"{reason}:")]


DUE = "batch.kubernetes.io/cronjob-scheduled-timestamp"


def test_a_job_starts_when_it_is_due_and_not_before(cluster: Cluster) -> None:
    clock = Clockwork(cluster)
    assert clock.at("12:05:00") == 300.0
    assert clock.jobs() == []
    assert clock.at("12:10:00") == 600.0
    (job,) = clock.found()
    minutes = int(datetime(2026, 6, 1, 12, 10, tzinfo=UTC).timestamp()) // 60
    assert job["metadata"]["name"] == f"tick-{minutes}"
    assert job["metadata"]["ownerReferences"][0]["controller"] is True
    assert job["metadata"]["annotations"][DUE] == "2026-06-01T12:10:00Z"
    assert clock.status()["lastScheduleTime"] == "2026-06-01T12:10:00Z"
    assert [entry["name"] for entry in clock.status()["active"]] == [f"tick-{minutes}"]
    clock.at("12:15:00")
    assert clock.jobs() == ["12:10"]
    assert clock.heard("SuccessfulCreate") == [f"SuccessfulCreate: Created job tick-{minutes}"]


def test_only_the_latest_of_several_missed_starts_is_made_up_for(cluster: Cluster) -> None:
    clock = Clockwork(cluster)
    clock.at("14:36:00")
    assert clock.jobs() == ["14:30"]
    assert clock.heard("TooManyMissedTimes") == []


def test_more_than_a_hundred_missed_starts_are_told_in_upstream_s_words(cluster: Cluster) -> None:
    clock = Clockwork(cluster, "* * * * *")
    clock.at("2026-06-04T09:00:20Z")
    assert clock.jobs() == ["09:00"]
    said = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
    assert clock.heard("TooManyMissedTimes") == [f"TooManyMissedTimes: {said}"]


def test_a_start_missed_by_more_than_the_deadline_is_skipped(cluster: Cluster) -> None:
    clock = Clockwork(cluster, startingDeadlineSeconds=60)
    clock.at("12:12:00")
    assert clock.jobs() == []
    clock.at("12:20:30")
    assert clock.jobs() == ["12:20"]


@pytest.mark.parametrize(
    ("policy", "expected", "reason"),
    [
        ("Allow", ["12:10", "12:20"], "SuccessfulCreate"),
        ("Forbid", ["12:10"], "JobAlreadyActive"),
        ("Replace", ["12:20"], "SuccessfulDelete"),
    ],
)
def test_the_concurrency_policy_decides_while_a_job_still_runs(
    cluster: Cluster, policy: str, expected: list[str], reason: str
) -> None:
    clock = Clockwork(cluster, concurrencyPolicy=policy)
    clock.at("12:10:00")
    clock.at("12:20:00")
    clock.at("12:20:01")
    assert clock.jobs() == expected
    assert len(clock.heard(reason)) == (2 if reason == "SuccessfulCreate" else 1)


def test_a_forbidden_start_is_made_up_for_once_the_last_job_ends(cluster: Cluster) -> None:
    clock = Clockwork(cluster, concurrencyPolicy="Forbid")
    clock.at("12:10:00")
    clock.at("12:20:00")
    clock.finish()
    clock.at("12:21:00")
    assert clock.jobs() == ["12:10", "12:20"]


def test_a_suspended_cron_job_starts_nothing_and_later_only_the_latest(cluster: Cluster) -> None:
    clock = Clockwork(cluster, suspend=True)
    clock.at("12:40:00")
    assert clock.jobs() == []
    cluster.change(CRON_JOBS, "tick", {"spec": {"suspend": False}})
    clock.at("12:41:00")
    assert clock.jobs() == ["12:40"]


def test_finished_jobs_leave_the_active_list_and_then_the_cluster(cluster: Cluster) -> None:
    clock = Clockwork(cluster, successfulJobsHistoryLimit=2)
    for minute in range(10, 60, 10):
        clock.at(f"12:{minute}:00")
        clock.finish()
        clock.at(f"12:{minute}:05")
    assert clock.jobs() == ["12:40", "12:50"]
    assert clock.status().get("active", []) == []
    assert clock.status()["lastSuccessfulTime"] == "2026-06-01T12:50:00Z"
    assert len(clock.heard("SawCompletedJob")) == 5
    clock.at("13:00:00")
    clock.finish("Failed")
    clock.at("13:10:00")
    clock.finish("Failed")
    clock.at("13:10:05")
    assert clock.jobs() == ["12:40", "12:50", "13:10"]


def test_a_schedule_is_kept_in_its_time_zone(cluster: Cluster) -> None:
    clock = Clockwork(cluster, "0 15 * * *", timeZone="Europe/Berlin")
    assert clock.at("12:30:00") == 1800.0
    clock.at("13:00:00")
    (job,) = clock.found()
    assert job["metadata"]["annotations"][DUE] == "2026-06-01T15:00:00+02:00"
    assert clock.status()["lastScheduleTime"] == "2026-06-01T13:00:00Z"


def test_an_active_job_that_went_missing_is_told_and_not_made_again(cluster: Cluster) -> None:
    clock = Clockwork(cluster)
    clock.at("12:10:00")
    cluster.client.delete(JOBS, clock.found()[0]["metadata"]["name"], "default", propagation="Background")
    clock.at("12:11:00")
    assert len(clock.heard("MissingJob")) == 1
    assert clock.jobs() == []


def test_a_job_made_by_hand_is_told_of_once_and_never_counts_as_active(cluster: Cluster) -> None:
    clock = Clockwork(cluster, concurrencyPolicy="Forbid")
    owner = cluster.get(CRON_JOBS, "tick")["metadata"]["uid"]
    reference = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": owner, "controller": True}
    spec = cluster.get(CRON_JOBS, "tick")["spec"]["jobTemplate"]["spec"]
    meta = {
        "name": "by-hand",
        "ownerReferences": [reference],
        "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
    }
    cluster.create(JOBS, {"metadata": meta, "spec": spec})
    clock.at("12:05:00")
    clock.at("12:10:00")
    assert len(clock.heard("UnexpectedJob")) == 1
    assert len(clock.found()) == 2


def test_a_crash_between_any_two_actions_never_doubles_or_loses_a_start(cluster: Cluster) -> None:
    clock = Clockwork(cluster, "* * * * *", concurrencyPolicy="Replace", successfulJobsHistoryLimit=100)
    seen: dict[str, set[str]] = {}

    def once(now: Cluster) -> None:
        for item in now.all(JOBS):
            seen.setdefault(item["metadata"]["name"], set()).add(item["metadata"]["uid"])

    cluster.invariants.append(once)
    for minute in range(1, 40):
        clock.now = START.replace(minute=minute)
        stale = clock.world()
        clock.at(f"12:{minute:02}:30", most=minute % 5)
        cluster.run(CONTROLLER, world=stale)
        clock.at(f"12:{minute:02}:40")
        if minute % 3 == 0:
            clock.finish()
    assert len(seen) == 39
    assert all(len(uids) == 1 for uids in seen.values())
    assert sum(not item.get("status", {}).get("conditions") for item in clock.found()) <= 1

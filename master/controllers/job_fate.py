"""Whether a Job must fail, or need not go on. Pure. Source: k/k `pkg/controller/job/job_controller.go` (syncJob)."""

from __future__ import annotations

from datetime import datetime

import msgspec

from labctl.runtime.clock import parse_time
from master.controllers.job_count import Count
from master.controllers.job_policy import is_failed, match_failure, match_success
from master.controllers.views_apps import PodTemplate

Fate = tuple[str, str, str]  # condition (FailureTarget or SuccessCriteriaMet), reason, message


def fate_of(count: Count, now: datetime) -> Fate | None:
    """What is settled about the Job: once written down, that stays."""
    job = count.job
    for kind in ("SuccessCriteriaMet", "FailureTarget"):
        for found in job.status.conditions:
            if found.type == kind and found.status == "True":
                return kind, found.reason, found.message
    for pod in count.tracked:
        if is_failed(job, pod) and (message := match_failure(job.spec.pod_failure_policy, pod).message):
            return "FailureTarget", "PodFailurePolicy", message
    if count.failed > job.spec.backoff_limit or _restarted_too_often(count):
        return "FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    if _late(count, now):
        return "FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline"
    return _by_index(count)


def _restarted_too_often(count: Count) -> bool:
    """Where containers start again in place, their restarts count towards the limit."""
    if msgspec.json.decode(count.job.spec.template, type=PodTemplate).spec.restart_policy != "OnFailure":
        return False
    restarts = sum(
        status.restart_count
        for pod in count.pods
        if pod.status.phase in {"Running", "Pending"}
        for status in (*pod.status.init_container_statuses, *pod.status.container_statuses)
    )
    limit = count.job.spec.backoff_limit
    return restarts > 0 if limit == 0 else restarts >= limit


def _late(count: Count, now: datetime) -> bool:
    spec, started = count.job.spec, count.job.status.start_time
    if spec.active_deadline_seconds is None or not started or spec.suspend:
        return False
    return (now - parse_time(started)).total_seconds() >= spec.active_deadline_seconds


def _by_index(count: Count) -> Fate | None:
    spec = count.job.spec
    if not spec.indexed:
        return None
    failed, succeeded = len(count.failed_indexes), len(count.succeeded_indexes)
    if count.per_index and spec.max_failed_indexes is not None and failed > spec.max_failed_indexes:
        message = "Job has exceeded the specified maximal number of failed indexes"
        return "FailureTarget", "MaxFailedIndexesExceeded", message
    if count.per_index and failed and failed + succeeded >= (spec.completions or 0):
        return "FailureTarget", "FailedIndexes", "Job has failed indexes"
    if message := match_success(count.job, count.succeeded_indexes):
        return "SuccessCriteriaMet", "SuccessPolicy", message
    return None

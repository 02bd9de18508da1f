"""The fields of Job and CronJob that controllers read, as frozen views.

Source of names: Kubernetes' API reference (batch/v1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import field

from labctl.kube.meta import ObjectMeta, Reference
from labctl.kube.resources import CRON_JOBS, JOBS
from labctl.kube.selectors import LabelSelector
from master.controllers.protocol import Kind
from master.controllers.views import View


class ExitCodes(View, frozen=True):
    """What a container's exit code must be (In, NotIn `values`); an empty name is every container."""

    operator: str
    values: tuple[int, ...] = ()
    container_name: str = ""


class PodConditionPattern(View, frozen=True):
    """A condition that the pod must have."""

    type: str
    status: str = "True"


class FailureRule(View, frozen=True):
    """What to do about a pod that failed so: FailJob, FailIndex, Ignore or Count."""

    action: str
    on_exit_codes: ExitCodes | None = None
    on_pod_conditions: tuple[PodConditionPattern, ...] = ()


class FailurePolicy(View, frozen=True):
    """The first rule that fits counts."""

    rules: tuple[FailureRule, ...] = ()


class SuccessRule(View, frozen=True):
    """Which indexes, or how many of them, are enough."""

    succeeded_indexes: str | None = None
    succeeded_count: int | None = None


class SuccessPolicy(View, frozen=True):
    """The first rule that fits counts."""

    rules: tuple[SuccessRule, ...] = ()


class JobSpec(View, frozen=True):
    """What was asked for; the template stays encoded."""

    parallelism: int = 1
    completions: int | None = None
    completion_mode: str = "NonIndexed"
    backoff_limit: int = 6
    backoff_limit_per_index: int | None = None
    max_failed_indexes: int | None = None
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    suspend: bool = False
    selector: LabelSelector = LabelSelector()
    template: msgspec.Raw = msgspec.Raw(b"{}")
    pod_failure_policy: FailurePolicy | None = None
    success_policy: SuccessPolicy | None = None
    pod_replacement_policy: str = "TerminatingOrFailed"
    managed_by: str = ""

    @property
    def indexed(self) -> bool:
        """Whether every pod has an index of its own."""
        return self.completion_mode == "Indexed"


class JobCondition(View, frozen=True, omit_defaults=True):
    """A status condition."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_probe_time: str = ""
    last_transition_time: str = ""


class Uncounted(View, frozen=True):
    """Uids of finished pods that still carry the finalizer, or whose removal is not yet in the counters."""

    succeeded: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class JobStatus(View, frozen=True):
    """What is."""

    active: int = 0
    ready: int | None = None
    terminating: int | None = None
    succeeded: int = 0
    failed: int = 0
    start_time: str = ""
    completion_time: str = ""
    completed_indexes: str = ""
    failed_indexes: str | None = None
    uncounted_terminated_pods: Uncounted = Uncounted()
    conditions: tuple[JobCondition, ...] = ()


class Job(View, frozen=True):
    """Pods that run to completion."""

    metadata: ObjectMeta
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()

    @property
    def finished(self) -> JobCondition | None:
        """The condition that ended it."""
        ends = (one for one in self.status.conditions if one.type in {"Complete", "Failed"} and one.status == "True")
        return next(ends, None)


class CronJobSpec(View, frozen=True):
    """What was asked for."""

    schedule: str = ""
    time_zone: str = ""
    starting_deadline_seconds: int | None = None
    concurrency_policy: str = "Allow"
    suspend: bool = False
    job_template: Mapping[str, Any] = {}
    successful_jobs_history_limit: int | None = 3
    failed_jobs_history_limit: int | None = 1


class CronJobStatus(View, frozen=True):
    """What is."""

    active: tuple[Reference, ...] = ()
    last_schedule_time: str = ""
    last_successful_time: str = ""


class CronJob(View, frozen=True):
    """Jobs by the clock."""

    metadata: ObjectMeta
    spec: CronJobSpec = field(default_factory=CronJobSpec)
    status: CronJobStatus = CronJobStatus()


JOBS_KIND = Kind(JOBS, Job)
CRON_JOBS_KIND = Kind(CRON_JOBS, CronJob)

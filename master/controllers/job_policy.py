"""A Job's indexes, and its failure and success policies. Pure.

Source: k/k `pkg/controller/job/{indexed_job_utils,pod_failure_policy,success_policy,backoff_utils}.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from labctl.runtime.clock import parse_time
from master.controllers.pods import condition
from master.controllers.views import ContainerStatus, Pod
from master.controllers.views_batch import FailurePolicy, FailureRule, Job

INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"
BACKOFF_S, BACKOFF_MOST_S = 10.0, 600.0  # the website says six minutes; job_controller.go has had ten since 1.27


def parse_indexes(text: str, limit: int) -> set[int]:
    """`0,2-4` as numbers below `limit`; what cannot be read counts for nothing."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        if first.isdigit() and (not last or last.isdigit()):
            found.update(range(int(first), min(int(last or first), limit - 1) + 1))
    return {number for number in found if number < limit}


def format_indexes(numbers: Iterable[int]) -> str:
    """Numbers as `0,2-4`; two neighbours stay apart by a comma, as upstream writes them."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(_run(run) for run in runs)


def _run(run: list[int]) -> str:
    return f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run))


def index_of(pod: Pod) -> int | None:
    """The pod's index, where it has one."""
    text = pod.metadata.annotations.get(INDEX, "")
    return int(text) if text.isdigit() else None


def is_failed(job: Job, pod: Pod) -> bool:
    """Whether the pod counts as a failure; one on its way out does, unless only failed ones are replaced."""
    if pod.status.phase == "Failed":
        return True
    if job.spec.pod_replacement_policy == "Failed":
        return False
    return pod.metadata.deleting and pod.status.phase != "Succeeded"


@dataclass(frozen=True, slots=True)
class Match:
    """What the failure policy says of a failed pod."""

    action: str = ""
    message: str = ""  # where the Job fails

    @property
    def counts(self) -> bool:
        """Whether the failure counts towards the backoff limit."""
        return self.action != "Ignore"


def match_failure(policy: FailurePolicy | None, pod: Pod) -> Match:
    """The first rule that fits."""
    for at, rule in enumerate(policy.rules if policy else ()):
        if why := _why(rule, pod):
            message = f"{why} matching {rule.action} rule at index {at}" if rule.action == "FailJob" else ""
            return Match(rule.action, message)
    return Match()


def _why(rule: FailureRule, pod: Pod) -> str:
    if (codes := rule.on_exit_codes) is not None:
        for status in _statuses(pod):
            ended = status.state.terminated
            if ended is None or ended.exit_code == 0 or codes.container_name not in ("", status.name):
                continue
            if (ended.exit_code in codes.values) == (codes.operator == "In"):
                return f"Container {status.name} for pod {pod.metadata.key} failed with exit code {ended.exit_code}"
        return ""
    for pattern in rule.on_pod_conditions:
        found = condition(pod.status.conditions, pattern.type)
        if found is not None and found.status == pattern.status:
            return f"Pod {pod.metadata.key} has condition {pattern.type}"
    return ""


def _statuses(pod: Pod) -> Iterator[ContainerStatus]:
    yield from pod.status.container_statuses
    yield from pod.status.init_container_statuses


def match_success(job: Job, succeeded: set[int]) -> str:
    """Why the success policy is met; "" where it is not."""
    for at, rule in enumerate(job.spec.success_policy.rules if job.spec.success_policy else ()):
        limit = job.spec.completions or 0
        wanted = succeeded
        if rule.succeeded_indexes is not None:
            named = parse_indexes(rule.succeeded_indexes, limit)
            wanted = named & succeeded
            if rule.succeeded_count is None and wanted == named:
                return f"Matched rules at index {at}"
        if rule.succeeded_count is not None and len(wanted) >= rule.succeeded_count:
            return f"Matched rules at index {at}"
    return ""


def failures_of(pod: Pod) -> tuple[int, int]:
    """How often the pod's index had failed before it: counted, and ignored by policy."""
    counts = (pod.metadata.annotations.get(name, "") for name in (FAILURES, IGNORED_FAILURES))
    counted, ignored = (int(text) if text.isdigit() else 0 for text in counts)
    return counted, ignored


def index_failed(job: Job, pod: Pod) -> bool:
    """Whether this failure is the index's last."""
    action = match_failure(job.spec.pod_failure_policy, pod).action
    if action == "FailIndex":
        return True
    return action != "Ignore" and failures_of(pod)[0] >= (job.spec.backoff_limit_per_index or 0)


def finished_at(pod: Pod, now: datetime) -> datetime:
    """When the pod ended: by its containers, its Ready condition or its deletion; else now."""
    ended = [status.state.terminated for status in pod.status.container_statuses]
    stamps = [one.finished_at if one else "" for one in ended]
    if stamps and all(stamps):
        return min(now, max(map(parse_time, stamps)))
    ready = condition(pod.status.conditions, "Ready")
    if ready is not None and ready.status == "False" and ready.last_transition_time:
        return min(now, parse_time(ready.last_transition_time))
    if pod.metadata.deletion_timestamp:
        return min(now, parse_time(pod.metadata.deletion_timestamp))
    return now


def backoff_left_s(failures: int, last: datetime, now: datetime) -> float:
    """How long to wait with the next pod: 10 s after the first failure in a row, then twice as long each time."""
    if failures == 0:
        return 0.0
    delay_s = min(BACKOFF_S * float(1 << min(failures - 1, 16)), BACKOFF_MOST_S)
    return max(0.0, delay_s - (now - last).total_seconds())

"""How far a Job has come: who runs, who succeeded, who failed, and what of that is yet to be counted. Pure.

No finished pod is counted twice or lost: its uid goes into `uncountedTerminatedPods`, then its finalizer comes off,
then the uid turns into a count. A crash between any two of these leaves enough behind to go on.

Source: k/k `pkg/controller/job/job_controller.go` (trackJobStatusAndRemoveFinalizers), `indexed_job_utils.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from master.controllers.job_policy import (
    failures_of,
    finished_at,
    format_indexes,
    index_failed,
    index_of,
    is_failed,
    match_failure,
    parse_indexes,
)
from master.controllers.pods import is_active, is_finished, is_ready
from master.controllers.views import Pod
from master.controllers.views_batch import Job

FINALIZER = "batch.kubernetes.io/job-tracking"
_UNCOUNTED_MOST = 500


@dataclass(slots=True)
class Count:
    """A Job's pods, sorted by what became of them."""

    job: Job
    pods: Sequence[Pod]
    now: datetime
    active: list[Pod] = field(init=False)
    terminating: list[Pod] = field(init=False)
    succeeded_indexes: set[int] = field(init=False, default_factory=set)
    failed_indexes: set[int] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.active = [pod for pod in self.pods if is_active(pod)]
        self.terminating = [pod for pod in self.pods if pod.metadata.deleting and not is_finished(pod)]
        status, limit = self.job.status, self.job.spec.completions or 0
        if not self.job.spec.indexed:
            return
        self.succeeded_indexes = parse_indexes(status.completed_indexes, limit)
        self.failed_indexes = parse_indexes(status.failed_indexes or "", limit)
        for pod in self.tracked:
            index = index_of(pod)
            assert index is not None
            if pod.status.phase == "Succeeded":
                self.succeeded_indexes.add(index)
        if self.per_index:
            for pod in self.tracked:
                if is_failed(self.job, pod) and index_failed(self.job, pod):
                    self.failed_indexes.add(index_of(pod) or 0)
            self.failed_indexes -= self.succeeded_indexes

    @property
    def per_index(self) -> bool:
        """Whether each index has a limit of its own."""
        return self.job.spec.indexed and self.job.spec.backoff_limit_per_index is not None

    @property
    def tracked(self) -> list[Pod]:
        """Pods with the finalizer and, where indexes are asked for, a valid one."""
        limit = self.job.spec.completions or 0
        return [
            pod
            for pod in self.pods
            if FINALIZER in pod.metadata.finalizers
            and (not self.job.spec.indexed or ((index := index_of(pod)) is not None and index < limit))
        ]

    @property
    def ready(self) -> int:
        """Active pods that are ready."""
        return sum(is_ready(pod) for pod in self.active)

    @property
    def succeeded(self) -> int:
        """Successes, those yet to be counted included."""
        if self.job.spec.indexed:
            return len(self.succeeded_indexes)
        waiting = self.job.status.uncounted_terminated_pods.succeeded
        fresh = [pod for pod in self.tracked if pod.status.phase == "Succeeded" and pod.metadata.uid not in waiting]
        return self.job.status.succeeded + len(waiting) + len(fresh)

    @property
    def failed(self) -> int:
        """Failures that count, those yet to be counted included."""
        waiting = self.job.status.uncounted_terminated_pods.failed
        policy = self.job.spec.pod_failure_policy
        fresh = [
            pod
            for pod in self.tracked
            if is_failed(self.job, pod) and pod.metadata.uid not in waiting and match_failure(policy, pod).counts
        ]
        return self.job.status.failed + len(waiting) + len(fresh)

    def in_a_row(self) -> tuple[int, datetime]:
        """Failures since the last success, and when the last one was."""
        ended = [pod.status.phase == "Succeeded" or is_failed(self.job, pod) for pod in self.pods]
        over = [pod for pod, is_over in zip(self.pods, ended, strict=True) if is_over]
        over.sort(key=lambda pod: finished_at(pod, self.now))
        row: list[Pod] = []
        for pod in over:
            row = [] if pod.status.phase == "Succeeded" else [*row, pod]
        return len(row), finished_at(row[-1], self.now) if row else self.now

    def held(self) -> dict[int, Pod]:
        """Per index, the failed pod whose finalizer stays until its successor, which takes over its failure count."""
        if not self.per_index:
            return {}
        running = {index_of(pod) for pod in self.active}
        found: dict[int, Pod] = {}
        for pod in self.tracked:
            index = index_of(pod)
            assert index is not None
            over = index in running or index in self.succeeded_indexes or index in self.failed_indexes
            if over or not is_failed(self.job, pod):
                continue
            if index not in found or sum(failures_of(found[index])) < sum(failures_of(pod)):
                found[index] = pod
        return found

    def missing_indexes(self) -> list[int]:
        """Indexes that nobody works on, lowest first."""
        busy = {index_of(pod) for pod in self.active} | self.succeeded_indexes | self.failed_indexes
        if self.job.spec.pod_replacement_policy == "Failed":
            busy |= {index_of(pod) for pod in self.terminating}
        return [index for index in range(self.job.spec.completions or 0) if index not in busy]

    def spare(self, keep: int) -> list[Pod]:
        """Active pods to remove so that `keep` are left: first those that cannot be counted, or share an index."""
        useful = {pod.metadata.uid for pod in self.tracked}
        spare = [pod for pod in self.active if pod.metadata.uid not in useful]
        left: list[Pod] = []
        seen: set[int | None] = set()
        for pod in sorted((pod for pod in self.active if pod.metadata.uid in useful), key=_worth, reverse=True):
            index = index_of(pod)
            (spare if self.job.spec.indexed and index in seen else left).append(pod)
            seen.add(index)
        return [*spare, *left[max(0, keep) :]]


def _worth(pod: Pod) -> tuple[bool, bool, bool]:
    """The further a pod has come, the later it goes."""
    return bool(pod.spec.node_name), pod.status.phase == "Running", is_ready(pod)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counters as they are to be written, and the pods that may lose their finalizer once they are."""

    succeeded: int
    failed: int
    uncounted_succeeded: tuple[str, ...]
    uncounted_failed: tuple[str, ...]
    completed_indexes: str
    release: tuple[Pod, ...]


def tally(count: Count, *, ending: str = "") -> Tally:
    """One step of the counting; `ending` is `Failed` or `Complete` once the Job's fate is sealed."""
    job, status = count.job, count.job.status
    carrying = {pod.metadata.uid for pod in count.pods if FINALIZER in pod.metadata.finalizers}
    waiting_good, good = _settled(status.uncounted_terminated_pods.succeeded, carrying)
    waiting_bad, bad = _settled(status.uncounted_terminated_pods.failed, carrying)
    done = parse_indexes(status.completed_indexes, job.spec.completions or 0)
    held = {pod.metadata.uid for pod in count.held().values()}
    valid = {pod.metadata.uid for pod in count.tracked}
    release: list[Pod] = []
    for pod in (pod for pod in count.pods if FINALIZER in pod.metadata.finalizers):
        uid, failed = pod.metadata.uid, is_failed(job, pod)
        if len(waiting_good) + len(waiting_bad) >= _UNCOUNTED_MOST:
            break
        sealed = bool(ending) and not is_active(pod)
        over = pod.status.phase == "Succeeded" or (failed and (uid not in held or bool(ending)))
        if not (over or sealed or job.metadata.deleting):
            continue
        release.append(pod)
        if uid not in valid or uid in waiting_bad or uid in waiting_good:
            continue
        if pod.status.phase == "Succeeded":
            if job.spec.indexed:
                done.add(index_of(pod) or 0)
            else:
                waiting_good.append(uid)
        elif (failed or ending == "Failed") and match_failure(job.spec.pod_failure_policy, pod).counts:
            waiting_bad.append(uid)
    return Tally(
        succeeded=len(done) if job.spec.indexed else status.succeeded + good,
        failed=status.failed + bad,
        uncounted_succeeded=tuple(waiting_good),
        uncounted_failed=tuple(waiting_bad),
        completed_indexes=format_indexes(done),
        release=tuple(release),
    )


def _settled(uids: Iterable[str], carrying: set[str]) -> tuple[list[str], int]:
    """Uids that still wait, and how many have lost their finalizer: they turn into counts."""
    uids = list(uids)
    waiting = [uid for uid in uids if uid in carrying]
    return waiting, len(uids) - len(waiting)

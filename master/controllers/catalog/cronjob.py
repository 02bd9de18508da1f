"""Start Jobs by the clock. Pure: no clock, no network, no log.

A Job's name follows from the minute it is due, so that no minute gets two; what the status forgot in a crash is read
back from the Jobs themselves, which carry the minute they were due.

Source: k/k `pkg/controller/cronjob/{cronjob_controllerv2,utils}.go`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from labctl.kube.errors import Document
from labctl.kube.meta import Reference
from labctl.kube.resources import CRON_JOBS, JOBS
from labctl.runtime.clock import parse_time, rfc3339
from master.controllers.protocol import (
    NEVER_S,
    Action,
    ConfirmAbsent,
    Controller,
    Create,
    Plan,
    Step,
    Tell,
    World,
    delete,
    each,
    owner_reference,
    patch,
    ref,
)
from master.controllers.schedule import Schedule, parse
from master.controllers.views_batch import CRON_JOBS_KIND, JOBS_KIND, CronJob, Job

_DUE = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_MANY = 100  # missed starts, from here on they are worth a warning
_parse = lru_cache(maxsize=1_024)(parse)


@dataclass(frozen=True, slots=True)
class Memory:
    """What has been told of each CronJob's state, so that an Event comes once for it."""

    told: frozenset[tuple[str, str]] = frozenset()


def plan(world: World, memory: Memory) -> Plan:
    """Start what is due, forget what is old; look again when the next one is due."""
    children: dict[str, list[Job]] = {}
    for job in world.all(JOBS_KIND).values():
        if (owner := job.metadata.controller) is not None:
            children.setdefault(owner.uid, []).append(job)
    wakes: list[float] = []
    told: set[tuple[str, str]] = set()

    def decide(item: CronJob) -> Iterator[Step]:
        turn = _Turn(item, world, children.get(item.metadata.uid, []), wakes)
        for step in turn.steps():
            fresh = tuple(one for one in step.actions if not _stale(item, one, memory, told))
            if fresh:
                yield Step(step.about, fresh, step.failure_reason, step.failure_prefix)

    steps = tuple(each(CRON_JOBS, world.all(CRON_JOBS_KIND).values(), decide))
    return Plan(steps, min(wakes, default=NEVER_S), Memory(frozenset(told)))


_ONCE = {"MissSchedule", "JobAlreadyActive", "TooManyMissedTimes", "UnexpectedJob"}
_ONCE |= {"UnknownTimeZone", "UnparseableSchedule", "InvalidSchedule"}


def _stale(item: CronJob, action: Action, memory: Memory, told: set[tuple[str, str]]) -> bool:
    """Whether an Event about a lasting state was told before."""
    if not isinstance(action, Tell) or action.reason not in _ONCE:
        return False
    key = (item.metadata.uid, f"{action.reason} {action.message}")
    told.add(key)
    return key in memory.told


@dataclass(slots=True)
class _Turn:
    """One CronJob and its Jobs."""

    item: CronJob
    world: World
    jobs: Sequence[Job]
    wakes: list[float]

    def steps(self) -> Iterator[Step]:
        """Report, clean up, start."""
        about = ref(CRON_JOBS, self.item.metadata)
        yield from self._report()
        if self.item.metadata.deleting:
            return
        for job in self._old():
            yield Step(about, self._remove(job), failure_reason="FailedDelete", failure_prefix="Deleted job: ")
        if not self.item.spec.suspend:
            yield from self._start()

    def _running(self) -> list[Job]:
        """Jobs of ours that are not over."""
        return [job for job in self.jobs if job.finished is None and _DUE in job.metadata.annotations]

    def _last(self) -> str:
        """The last minute that a Job was made for, by the status or by the Jobs."""
        due = [job.metadata.annotations[_DUE] for job in self.jobs if _DUE in job.metadata.annotations]
        stamps = [parse_time(text) for text in (*due, self.item.status.last_schedule_time) if text]
        return rfc3339(max(stamps)) if stamps else ""

    def _report(self) -> Iterator[Step]:
        status, about = self.item.status, ref(CRON_JOBS, self.item.metadata)
        by_uid = {job.metadata.uid: job for job in self.jobs}
        actions: list[Action] = []
        told: list[Action] = []
        for entry in status.active:
            job = by_uid.get(entry.uid)
            if job is None:
                namespace = self.item.metadata.namespace
                actions.append(ConfirmAbsent(resource=JOBS, name=entry.name, namespace=namespace, uid=entry.uid))
                told.append(Tell(reason="MissingJob", message=f"Active job went missing: {entry.name}"))
            elif (end := job.finished) is not None:
                message = f"Saw completed job: {entry.name}, condition: {end.type}"
                told.append(Tell(reason="SawCompletedJob", message=message))
        for job in self.jobs:
            if job.finished is None and _DUE not in job.metadata.annotations:
                message = f"Saw a job that the controller did not create or forgot: {job.metadata.name}"
                told.append(Tell(reason="UnexpectedJob", message=message, type="Warning"))
        ended = [job.status.completion_time for job in self.jobs if (end := job.finished) and end.type == "Complete"]
        wanted: Document = {
            "active": [msgspec.to_builtins(self._reference(job)) for job in self._running()],
            "lastScheduleTime": self._last(),
            "lastSuccessfulTime": max([*ended, status.last_successful_time]),
        }
        changed = {key: value for key, value in wanted.items() if value != msgspec.to_builtins(status)[key]}
        if changed:
            actions.append(patch(CRON_JOBS, self.item.metadata, {"status": changed}, exact=True, subresource="status"))
        if actions or told:
            yield Step(about, (*actions, *told))

    def _reference(self, job: Job) -> Reference:
        """As the status has it; its resourceVersion is of the moment it was first seen."""
        known = (entry for entry in self.item.status.active if entry.uid == job.metadata.uid)
        found = ref(JOBS, job.metadata)
        return next(known, msgspec.structs.replace(found, resource_version=job.metadata.resource_version))

    def _old(self) -> Iterator[Job]:
        """Finished Jobs beyond the history limits, oldest first."""
        spec = self.item.spec
        for kind, limit in (
            ("Complete", spec.successful_jobs_history_limit),
            ("Failed", spec.failed_jobs_history_limit),
        ):
            over = [job for job in self.jobs if (end := job.finished) is not None and end.type == kind]
            over.sort(key=lambda job: (job.status.start_time, job.metadata.name))
            if limit is not None:
                yield from (job for job in over[: max(0, len(over) - limit)] if not job.metadata.deleting)

    def _remove(self, job: Job) -> tuple[Action, ...]:
        message = f"Deleted job {job.metadata.name}"
        gone = delete(JOBS, job.metadata, propagation="Background")
        return gone, Tell(reason="SuccessfulDelete", message=message)

    def _start(self) -> Iterator[Step]:
        item, now, about = self.item, self.world.now, ref(CRON_JOBS, self.item.metadata)
        try:
            schedule = _parse(item.spec.schedule, item.spec.time_zone)
        except ValueError as error:
            yield Step(about, (_unreadable(item, error),))
            return
        due, missed = _due(self._earliest(), now, schedule)
        if (later := schedule.after(now)) is not None:
            self.wakes.append(max(0.05, (later - now).total_seconds()))
        elif due is None:
            message = f"invalid schedule: {item.spec.schedule} : invalid schedule, no moment ever fits"
            yield Step(about, (Tell(reason="InvalidSchedule", message=message, type="Warning"),))
        if missed > _MANY:
            message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            yield Step(about, (Tell(reason="TooManyMissedTimes", message=message, type="Warning"),))
        if due is None:
            return
        limit_s = item.spec.starting_deadline_seconds
        if limit_s is not None and due + timedelta(seconds=limit_s) < now:
            message = f"Missed scheduled time to start a job: {due.strftime('%a, %d %b %Y %H:%M:%S +0000')}"
            yield Step(about, (Tell(reason="MissSchedule", message=message, type="Warning"),))
            return
        yield from self._launch(due, schedule)

    def _earliest(self) -> datetime:
        """From when on starts may have been missed."""
        item, since = self.item, self._last() or self.item.metadata.creation_timestamp
        earliest = parse_time(since) if since else self.world.now
        if item.spec.starting_deadline_seconds is not None:
            earliest = max(earliest, self.world.now - timedelta(seconds=item.spec.starting_deadline_seconds))
        return earliest

    def _launch(self, due: datetime, schedule: Schedule) -> Iterator[Step]:
        item, about = self.item, ref(CRON_JOBS, self.item.metadata)
        name = f"{item.metadata.name}-{int(due.timestamp()) // 60}"
        if self._last() == rfc3339(due) or f"{item.metadata.namespace}/{name}" in self.world.all(JOBS_KIND):
            return
        running = [job for job in self._running() if not job.metadata.deleting]
        if item.spec.concurrency_policy == "Forbid" and self._running():
            message = "Not starting job because prior execution is running and concurrency policy is Forbid"
            yield Step(about, (Tell(reason="JobAlreadyActive", message=message),))
            return
        before: list[Action] = []
        if item.spec.concurrency_policy == "Replace":
            before = [action for job in running for action in self._remove(job)]
        noted = {"status": {"lastScheduleTime": rfc3339(due)}}
        create = Create(resource=JOBS, namespace=item.metadata.namespace, body=self._body(name, due, schedule))
        told = Tell(reason="SuccessfulCreate", message=f"Created job {name}")
        note = patch(CRON_JOBS, item.metadata, noted, subresource="status")
        yield Step(
            about,
            (*before, create, told, note),
            failure_reason="FailedCreate",
            failure_prefix="Error creating job: ",
        )

    def _body(self, name: str, due: datetime, schedule: Schedule) -> Document:
        item, given = self.item, self.item.spec.job_template.get("metadata") or {}
        annotations = {**(given.get("annotations") or {}), _DUE: due.astimezone(schedule.zone).isoformat()}
        annotations[_DUE] = annotations[_DUE].replace("+00:00", "Z")
        return {
            "apiVersion": JOBS.api_version,
            "kind": JOBS.kind,
            "metadata": {
                "name": name,
                "namespace": item.metadata.namespace,
                "labels": given.get("labels") or {},
                "annotations": annotations,
                "ownerReferences": [owner_reference(CRON_JOBS, item.metadata)],
            },
            "spec": item.spec.job_template.get("spec") or {},
        }


def _due(earliest: datetime, now: datetime, schedule: Schedule) -> tuple[datetime | None, int]:
    """The latest moment after `earliest` that has come, and how many were missed (more than a hundred: just so)."""
    found, count, at = None, 0, schedule.after(earliest)
    while at is not None and at <= now and count <= _MANY:
        found, count, at = at, count + 1, schedule.after(at)
    if count <= _MANY or at is None or at > now:
        return found, count
    back = at - found if found else timedelta(minutes=1)
    while (near := schedule.after(now - back)) is None or near > now:  # close in on now from behind
        back *= 2
    while (later := schedule.after(near)) is not None and later <= now:
        near = later
    return near, count


def _unreadable(item: CronJob, error: ValueError) -> Tell:
    if str(error).startswith("unknown time zone"):
        message = f'invalid timeZone: "{item.spec.time_zone}": {error}'
        return Tell(reason="UnknownTimeZone", message=message, type="Warning")
    message = f'unparseable schedule: "{item.spec.schedule}" : {error}'
    return Tell(reason="UnparseableSchedule", message=message, type="Warning")


CONTROLLER = Controller(name="cronjob", reads=(CRON_JOBS_KIND, JOBS_KIND), plan=plan, memory=Memory())

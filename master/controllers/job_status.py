"""A Job's status as it is to be written. Pure. Source: k/k `pkg/controller/job/job_controller.go`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from labctl.kube.errors import Document
from master.controllers.job_count import Count, Tally
from master.controllers.job_policy import format_indexes
from master.controllers.views_batch import JobCondition


def with_condition(
    conditions: Sequence[JobCondition], wanted: tuple[str, str, str, str], stamp: str
) -> list[JobCondition]:
    """The conditions with `wanted` (type, status, reason, message) among them; unchanged where it is already."""
    kind, status, reason, message = wanted
    for one in conditions:
        if (one.type, one.status, one.reason, one.message) == wanted:
            return list(conditions)
    fresh = JobCondition(
        type=kind, status=status, reason=reason, message=message, last_probe_time=stamp, last_transition_time=stamp
    )
    if any(one.type == kind for one in conditions):
        return [fresh if one.type == kind else one for one in conditions]
    return [*conditions, fresh]


def shown(count: Count, counted: Tally, conditions: Sequence[JobCondition], stamp: str, *, over: str) -> Document:
    """A merge patch of the status; empty where nothing changes."""
    job, status = count.job, count.job.status
    wanted: Document = {
        "active": len(count.active),
        "ready": count.ready,
        "terminating": len(count.terminating),
        "succeeded": counted.succeeded,
        "failed": counted.failed,
        "startTime": _started(count, conditions, stamp),
        "completionTime": stamp if over == "Complete" else status.completion_time,
        "completedIndexes": counted.completed_indexes,
        "failedIndexes": format_indexes(count.failed_indexes) if count.per_index else None,
        "uncountedTerminatedPods": {
            "succeeded": list(counted.uncounted_succeeded),
            "failed": list(counted.uncounted_failed),
        },
        "conditions": [msgspec.to_builtins(one) for one in conditions],
    }
    present = msgspec.to_builtins(status) | {"conditions": [msgspec.to_builtins(one) for one in status.conditions]}
    present["uncountedTerminatedPods"] = {key: list(uids) for key, uids in present["uncountedTerminatedPods"].items()}
    changed = {key: value for key, value in wanted.items() if present[key] != value}
    if not changed:
        return {}
    if "uncountedTerminatedPods" in changed or not job.status.start_time:
        waiting = wanted["uncountedTerminatedPods"]
        changed["uncountedTerminatedPods"] = {key: uids or None for key, uids in waiting.items()}
    return changed


def _started(count: Count, conditions: Sequence[JobCondition], stamp: str) -> str:
    """Since when it runs; a resumed Job starts anew, for its deadline counts only what it is active."""
    job = count.job
    suspended = {"before": job.status.conditions, "after": conditions}
    on = {
        when: any(one.type == "Suspended" and one.status == "True" for one in found)
        for when, found in suspended.items()
    }
    if job.spec.suspend:
        return job.status.start_time
    if on["before"] and not on["after"]:
        return stamp
    return job.status.start_time or stamp

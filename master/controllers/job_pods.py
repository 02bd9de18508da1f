"""The pods that a Job makes next. Pure. Source: k/k `pkg/controller/job/{job_controller,indexed_job_utils}.go`."""

from __future__ import annotations

from typing import Any

import msgspec

from labctl.kube.errors import Document
from labctl.kube.resources import JOBS, PODS
from master.controllers.claiming import pod_of
from master.controllers.job_count import FINALIZER, Count
from master.controllers.job_policy import (
    FAILURES,
    IGNORED_FAILURES,
    INDEX,
    backoff_left_s,
    failures_of,
    finished_at,
    match_failure,
)
from master.controllers.pods import unique_names
from master.controllers.protocol import NEVER_S, Create, Step, Tell, ref
from master.controllers.views import Pod

_VARIABLE = "JOB_COMPLETION_INDEX"


def creations(count: Count, most: int) -> tuple[list[Step], float]:
    """Up to `most` pods to make now, and in how many seconds more of them may be made."""
    job = count.job
    meta = job.metadata
    template: Document = msgspec.json.decode(job.spec.template)
    state = (meta.uid, str(job.status.succeeded), str(job.status.failed), *sorted(p.metadata.uid for p in count.pods))
    taken = [pod.metadata.name for pod in count.pods]
    if not job.spec.indexed:
        names = unique_names(f"{meta.name}-", most, *state, taken=taken)
        return [_step(count, pod_of(template, JOBS, meta, name, finalizers=[FINALIZER])) for name in names], NEVER_S
    steps: list[Step] = []
    wait_s = NEVER_S
    held = count.held()
    for index in count.missing_indexes():
        last = held.get(index)
        left_s = _index_left_s(count, last)
        if left_s > 0:
            wait_s = min(wait_s, left_s)
        elif len(steps) < most:
            (name,) = unique_names(f"{meta.name}-{index}-", 1, *state, taken=taken)
            steps.append(_step(count, _indexed(count, template, index, name, last)))
    return steps, wait_s


def _step(count: Count, body: Document) -> Step:
    create = Create(resource=PODS, namespace=count.job.metadata.namespace, body=body)
    told = Tell(reason="SuccessfulCreate", message=f"Created pod: {body['metadata']['name']}")
    return Step(
        ref(JOBS, count.job.metadata), (create, told), failure_reason="FailedCreate", failure_prefix="Error creating: "
    )


def _index_left_s(count: Count, last: Pod | None) -> float:
    if last is None:
        return 0.0
    return backoff_left_s(sum(failures_of(last)) + 1, finished_at(last, count.now), count.now)


def _indexed(count: Count, template: Document, index: int, name: str, last: Pod | None) -> Document:
    """A pod with an index: annotation, label, hostname, environment, and how often the index failed before."""
    job = count.job
    annotations = {INDEX: str(index)}
    if count.per_index:
        annotations |= _failures(count, last)
    spec = template.get("spec") or {}
    containers = {
        key: [_with_index(one) for one in spec[key]] for key in ("containers", "initContainers") if spec.get(key)
    }
    body = pod_of(
        template,
        JOBS,
        job.metadata,
        name,
        annotations=annotations,
        labels={INDEX: str(index)},
        finalizers=[FINALIZER],
        hostname=f"{job.metadata.name}-{index}",
        **containers,
    )
    body["metadata"]["generateName"] = f"{job.metadata.name}-{index}-"
    return body


def _failures(count: Count, last: Pod | None) -> dict[str, str]:
    if last is None:
        return {FAILURES: "0"}
    counted, ignored = failures_of(last)
    if match_failure(count.job.spec.pod_failure_policy, last).counts:
        counted += 1
    else:
        ignored += 1
    return {FAILURES: str(counted)} | ({IGNORED_FAILURES: str(ignored)} if ignored else {})


def _with_index(container: dict[str, Any]) -> dict[str, Any]:
    given = list(container.get("env") or ())
    if any(entry["name"] == _VARIABLE for entry in given):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
    return {**container, "env": [*given, {"name": _VARIABLE, "valueFrom": source}]}

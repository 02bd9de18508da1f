"""Run a Job's pods until enough of them succeeded, or too many failed. Pure: no clock, no network, no log.

The Job's fate is written down first (FailureTarget, SuccessCriteriaMet), then its pods end and are counted, and only
when none is left running or uncounted does the last word fall (Failed, Complete).

Source: k/k `pkg/controller/job/job_controller.go`, `pkg/controller/ttlafterfinished`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.resources import JOBS, PODS
from labctl.runtime.clock import parse_time
from master.controllers.claiming import Related, claim
from master.controllers.job_count import FINALIZER, Count, Tally, tally
from master.controllers.job_fate import Fate, fate_of
from master.controllers.job_pods import creations
from master.controllers.job_policy import backoff_left_s
from master.controllers.job_status import shown, with_condition
from master.controllers.pods import selector_of
from master.controllers.protocol import (
    Action,
    ConfirmAbsent,
    Controller,
    Delete,
    Plan,
    Step,
    Tell,
    World,
    delete,
    each,
    patch,
    ref,
)
from master.controllers.views import PODS_KIND, Pod
from master.controllers.views_batch import JOBS_KIND, Job, JobCondition

_BURST = 500  # as upstream's MaxPodCreateDeletePerSync
_OURS = ("", "kubernetes.io/job-controller")


def plan(world: World, memory: None) -> Plan:
    """One step of every Job; look again when a delay, a deadline or a time to live ends."""
    pods, jobs = world.all(PODS_KIND).values(), world.all(JOBS_KIND)
    if not jobs and not any(pod.metadata.finalizers for pod in pods):
        return Plan(memory=memory)
    related = Related(pods)

    def decide(item: Job) -> Iterator[Step]:
        return _steps(item, world, related)

    steps = list(each(JOBS, jobs.values(), decide))
    known = {item.metadata.uid for item in jobs.values()}
    steps += [step for uid, pods in related.owned.items() if uid not in known for step in _orphaned(pods)]
    return Plan(tuple(steps), related.wake_after_s, memory)


def _steps(item: Job, world: World, related: Related) -> Iterator[Step]:
    if item.spec.managed_by not in _OURS:
        return
    if item.finished is not None:
        yield from _expire(item, world, related)
        released = (pod for pod in related.owned.get(item.metadata.uid, ()) if FINALIZER in pod.metadata.finalizers)
        yield from (Step(ref(PODS, pod.metadata), (release(pod),)) for pod in released)
        return
    pods, claims = claim(JOBS, item.metadata, selector_of(item.spec.selector), related)
    yield from claims
    yield from _Turn(item, world, related, Count(item, pods, world.now)).steps()


def release(pod: Pod) -> Action:
    """Take our finalizer off a pod."""
    body = {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
    return patch(PODS, pod.metadata, body, kind=STRATEGIC_PATCH)


def _orphaned(pods: list[Pod]) -> Iterator[Step]:
    """Pods whose Job is gone are let go; nobody counts them any more."""
    for pod in pods:
        owner = pod.metadata.controller
        if FINALIZER in pod.metadata.finalizers and (owner is None or owner.kind == "Job"):
            gone: tuple[Action, ...] = ()
            if owner is not None:
                gone = (ConfirmAbsent(resource=JOBS, name=owner.name, namespace=pod.metadata.namespace, uid=owner.uid),)
            yield Step(ref(PODS, pod.metadata), (*gone, release(pod)))


def _expire(item: Job, world: World, related: Related) -> Iterator[Step]:
    """Delete a finished Job once its time to live is over."""
    ttl_s, ended = item.spec.ttl_seconds_after_finished, item.finished
    if ttl_s is None or ended is None or item.metadata.deleting:
        return
    left_s = ttl_s - (world.now - parse_time(ended.last_transition_time)).total_seconds()
    if left_s > 0:
        related.wake(left_s)
        return
    gone: Delete = delete(
        JOBS, item.metadata, propagation="Foreground", resource_version=item.metadata.resource_version
    )
    yield Step(ref(JOBS, item.metadata), (gone,))


@dataclass(slots=True)
class _Turn:
    """One Job that is not over, and what to do about it now."""

    item: Job
    world: World
    related: Related
    count: Count

    def steps(self) -> Iterator[Step]:
        """Seal its fate or manage its pods; count; say the last word."""
        item, count = self.item, self.count
        about = ref(JOBS, item.metadata)
        fate = fate_of(count, self.world.now)
        if fate is None and self._complete():
            fate = ("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods")
        sealed = fate is not None and any(one.type == fate[0] for one in item.status.conditions)
        ending = "" if fate is None else "Failed" if fate[0] == "FailureTarget" else "Complete"
        counted = tally(count, ending=ending if sealed else "")
        conditions, told = self._conditions(fate)
        over = sealed and self._is_over(counted)
        if over and fate is not None:
            last = "Failed" if ending == "Failed" else "Complete"
            conditions = with_condition(conditions, (last, "True", fate[1], fate[2]), self.world.stamp)
            told = [_last_word(ending, fate)]
        status = shown(count, counted, conditions, self.world.stamp, over=ending if over else "")
        actions: list[Action] = []
        if status:
            body = {"status": status}
            actions.append(patch(JOBS, item.metadata, body, exact=True, subresource="status"))
        if actions or counted.release:
            freed = [release(pod) for pod in counted.release]
            yield Step(about, (*actions, *told, *freed))
        yield from self._pods(ended=fate is not None)
        self._deadline()

    def _complete(self) -> bool:
        """Whether enough pods succeeded, and none runs any more."""
        count, completions = self.count, self.item.spec.completions
        if count.active or self.item.metadata.deleting:
            return False
        return count.succeeded > 0 if completions is None else count.succeeded >= completions

    def _is_over(self, counted: Tally) -> bool:
        """Whether nothing runs, nothing is on its way out, and everything is counted."""
        waiting = counted.uncounted_succeeded or counted.uncounted_failed or counted.release
        return not (waiting or self.count.active or self.count.terminating)

    def _conditions(self, fate: Fate | None) -> tuple[list[JobCondition], list[Tell]]:
        """The conditions short of the last one, with the Events of what changes."""
        found, stamp = list(self.item.status.conditions), self.world.stamp
        if fate is not None:
            return with_condition(found, (fate[0], "True", fate[1], fate[2]), stamp), []
        if self.item.metadata.deleting:
            return found, []
        known = next((one for one in found if one.type == "Suspended"), None)
        if self.item.spec.suspend:
            after = with_condition(found, ("Suspended", "True", "JobSuspended", "Job suspended"), stamp)
            return after, [] if after == found else [Tell(reason="Suspended", message="Job suspended")]
        if known is None:
            return found, []
        after = with_condition(found, ("Suspended", "False", "JobResumed", "Job resumed"), stamp)
        return after, [] if after == found else [Tell(reason="Resumed", message="Job resumed")]

    def _pods(self, *, ended: bool) -> Iterator[Step]:
        """Bring the number of running pods to what it should be."""
        item, count = self.item, self.count
        if item.metadata.deleting:
            return
        if ended:
            yield from (self._remove(pod) for pod in count.active)
            return
        if item.spec.suspend:
            yield from (self._remove(pod, release(pod)) for pod in count.active)
            return
        wanted = self._wanted()
        spare = count.spare(wanted)[:_BURST]
        if spare:
            yield from (self._remove(pod, release(pod)) for pod in spare)
            return
        missing = wanted - len(count.active)
        if item.spec.pod_replacement_policy == "Failed":
            missing -= len(count.terminating)
        if missing <= 0:
            return
        if not count.per_index:
            failures, last = count.in_a_row()
            if left_s := backoff_left_s(failures, last, self.world.now):
                self.related.wake(left_s)
                return
        created, wait_s = creations(count, min(missing, _BURST))
        self.related.wake(wait_s)
        yield from created

    def _wanted(self) -> int:
        spec, count = self.item.spec, self.count
        if spec.completions is None:
            return len(count.active) if count.succeeded else spec.parallelism
        return max(0, min(spec.parallelism, spec.completions - count.succeeded))

    def _remove(self, pod: Pod, *before: Action) -> Step:
        """Delete a pod; one that is merely too many loses the finalizer first, and is never counted."""
        told = Tell(reason="SuccessfulDelete", message=f"Deleted pod: {pod.metadata.name}")
        before = tuple(one for one in before if FINALIZER in pod.metadata.finalizers)
        return Step(
            ref(JOBS, self.item.metadata), (*before, delete(PODS, pod.metadata), told), failure_reason="FailedDelete"
        )

    def _deadline(self) -> None:
        """Look again when the deadline passes."""
        limit_s, item = self.item.spec.active_deadline_seconds, self.item
        if limit_s is not None and item.status.start_time and not item.spec.suspend:
            left_s = limit_s - (self.world.now - parse_time(item.status.start_time)).total_seconds()
            if left_s > 0:
                self.related.wake(left_s)


def _last_word(ending: str, fate: Fate) -> Tell:
    if ending == "Failed":
        return Tell(reason=fate[1], message=fate[2], type="Warning")
    return Tell(reason="Completed", message="Job completed")


CONTROLLER = Controller(name="job", reads=(JOBS_KIND, PODS_KIND), plan=plan)

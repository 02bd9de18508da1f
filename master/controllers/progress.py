"""How far a Deployment's rollout has come, as its status says it. Pure.

Source: k/k `pkg/controller/deployment` (sync.go calculateStatus, progress.go syncRolloutStatus).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from labctl.kube.errors import Document
from labctl.runtime.clock import parse_time
from master.controllers.pods import condition
from master.controllers.protocol import NEVER_S, World
from master.controllers.rollout import bounds
from master.controllers.views import Condition
from master.controllers.views_deployments import Deployment, ReplicaSet

CREATED, FOUND, UPDATED = "NewReplicaSetCreated", "FoundNewReplicaSet", "ReplicaSetUpdated"
AVAILABLE, TIMED_OUT, CREATE_ERROR = "NewReplicaSetAvailable", "ProgressDeadlineExceeded", "ReplicaSetCreateError"
PAUSED, RESUMED = "DeploymentPaused", "DeploymentResumed"
_NO_DEADLINE_S = 2**31 - 1
_WAITING = {CREATED, FOUND, UPDATED, RESUMED}  # a rollout that may still run into its deadline


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far it is: the new set (or the name of the one that is being made), every set, and the counts to be written.

    `resting`: the Deployment is paused, scaled or deleted, so that nothing is said about its progress.
    """

    item: Deployment
    new: ReplicaSet | None
    owned: Sequence[ReplicaSet]
    status: Document
    resting: bool = False
    making: str = ""


def status_of(item: Deployment, new: ReplicaSet | None, owned: Sequence[ReplicaSet]) -> Document:
    """The counts of a Deployment's status."""
    available = sum(one.status.available_replicas for one in owned)
    total = sum(one.spec.replicas for one in owned)
    return {
        "observedGeneration": item.metadata.generation,
        "replicas": sum(one.status.replicas for one in owned),
        "updatedReplicas": new.status.replicas if new else 0,
        "readyReplicas": sum(one.status.ready_replicas for one in owned),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total - available),
        "terminatingReplicas": sum(one.status.terminating_replicas or 0 for one in owned),
    }


def is_complete(item: Deployment, new: ReplicaSet, owned: Sequence[ReplicaSet]) -> bool:
    """Whether every pod is of the new set and available."""
    wanted = item.spec.replicas
    status = status_of(item, new, owned)
    return bool(
        status["updatedReplicas"] == status["replicas"] == status["availableReplicas"] == wanted
        and new.spec.replicas == wanted
    )


def conditions_of(rollout: Rollout, world: World) -> list[Document]:
    """Every condition as it is to be written; those of other types stay."""
    item, status = rollout.item, rollout.status
    found = list(item.status.conditions)
    enough = status["availableReplicas"] >= bounds(item).least_available
    if enough:
        said = ("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        said = ("Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    found = _placed(found, _said(*said, world))
    if item.spec.progress_deadline_seconds == _NO_DEADLINE_S:
        found = [one for one in found if one.type != "Progressing"]
    elif not item.metadata.deleting:
        found = _progressing(rollout, found, world)
    if not rollout.resting:
        failure = _replica_failure(rollout)
        found = _placed(found, failure) if failure else [one for one in found if one.type != "ReplicaFailure"]
    return [{key: value for key, value in msgspec.to_builtins(one).items() if value} for one in found]


def deadline_left_s(item: Deployment, conditions: Sequence[Document], world: World) -> float:
    """Seconds until the rollout has gone without progress for too long; for ever where it cannot."""
    for one in conditions:
        if one["type"] == "Progressing" and one["reason"] in _WAITING and not item.spec.paused:
            since = parse_time(one["lastUpdateTime"])
            return max(0.5, item.spec.progress_deadline_seconds - (world.now - since).total_seconds())
    return NEVER_S


def _progressing(rollout: Rollout, found: list[Condition], world: World) -> list[Condition]:
    """Pausing, resuming, a set that could not be made; else upstream's syncRolloutStatus."""
    item, status, new = rollout.item, rollout.status, rollout.new
    now = condition(found, "Progressing")
    reason = now.reason if now else ""
    if item.spec.paused:
        if reason in {TIMED_OUT, PAUSED}:  # a lack of progress that was reported stays so
            return found
        return _placed(found, _said("Progressing", "Unknown", PAUSED, "Deployment is paused", world))
    if reason == PAUSED:
        return _placed(found, _said("Progressing", "Unknown", RESUMED, "Deployment is resumed", world))
    if rollout.making:
        return _making(rollout, found, world)
    if now is None and new is not None:
        told = f'Found new replica set "{new.metadata.name}"'
        found = _placed(found, _said("Progressing", "True", FOUND, told, world))
    if rollout.resting or (status["replicas"] == status["updatedReplicas"] and reason == AVAILABLE):
        return found
    name = f'ReplicaSet "{new.metadata.name}"' if new else f'Deployment "{item.metadata.name}"'
    if status["updatedReplicas"] == status["replicas"] == status["availableReplicas"] == item.spec.replicas:
        return _placed(found, _said("Progressing", "True", AVAILABLE, f"{name} has successfully progressed.", world))
    if _moved(item, status):
        fresh = _said("Progressing", "True", UPDATED, f"{name} is progressing.", world)
        return _placed(found, fresh, always=True)
    if now is not None and reason in _WAITING and now.last_update_time:
        past_s = (world.now - parse_time(now.last_update_time)).total_seconds()
        if past_s >= item.spec.progress_deadline_seconds:
            return _placed(found, _said("Progressing", "False", TIMED_OUT, f"{name} has timed out progressing.", world))
    return found


def _making(rollout: Rollout, found: list[Condition], world: World) -> list[Condition]:
    failure = world.failures.get(rollout.item.metadata.uid)
    if failure is None or failure.reason != CREATE_ERROR:
        told = f'Created new replica set "{rollout.making}"'
        return _placed(found, _said("Progressing", "True", CREATED, told, world))
    told = f'Failed to create new replica set "{rollout.making}": {failure.message}'
    return _placed(found, _said("Progressing", "False", CREATE_ERROR, told, world))


def _replica_failure(rollout: Rollout) -> Condition | None:
    """Why a set cannot make or remove pods; the new set's reason first."""
    first = [rollout.new] if rollout.new else []
    for one in (*first, *rollout.owned):
        if (found := condition(one.status.conditions, "ReplicaFailure")) is not None:
            return msgspec.structs.replace(found, last_update_time=found.last_transition_time)
    return None


def _moved(item: Deployment, status: Document) -> bool:
    """Whether the rollout came further since the last status: upstream's DeploymentProgressing."""
    old = item.status
    old_replicas = old.replicas - old.updated_replicas
    return bool(
        status["updatedReplicas"] > old.updated_replicas
        or status["replicas"] - status["updatedReplicas"] < old_replicas
        or status["readyReplicas"] > old.ready_replicas
        or status["availableReplicas"] > old.available_replicas
    )


def _said(kind: str, status: str, reason: str, message: str, world: World) -> Condition:
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_update_time=world.stamp,
        last_transition_time=world.stamp,
    )


def _placed(found: Sequence[Condition], fresh: Condition, *, always: bool = False) -> list[Condition]:
    """The conditions with `fresh` last; unchanged where it says nothing new, unless it is to be stamped `always`."""
    old = condition(found, fresh.type)
    if old is not None and (old.status, old.reason) == (fresh.status, fresh.reason) and not always:
        return list(found)
    if old is not None and old.status == fresh.status:
        fresh = msgspec.structs.replace(fresh, last_transition_time=old.last_transition_time)
    return [*(one for one in found if one.type != fresh.type), fresh]

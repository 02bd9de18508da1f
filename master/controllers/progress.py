"""How far a Deployment's rollout has come, as its status says it. Pure.

Source: k/k `pkg/controller/deployment` (sync.go calculateStatus, progress.go syncRolloutStatus).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from labctl.kube.errors import Document
from labctl.runtime.clock import parse_time
from master.controllers.pods import condition
from master.controllers.protocol import World
from master.controllers.rollout import bounds
from master.controllers.views import Condition, Deployment, ReplicaSet


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


def conditions_of(item: Deployment, new: ReplicaSet | None, status: Document, world: World) -> list[Document]:
    """Available and Progressing, as they are to be written."""
    limit = bounds(item)
    enough = status["availableReplicas"] >= limit.least_available
    available = _set(
        item,
        "Available",
        "True" if enough else "False",
        "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        "Deployment has minimum availability." if enough else "Deployment does not have minimum availability.",
        world,
        touch=False,
    )
    found = [available]
    progressing = _progressing(item, new, status, world)
    return [*found, progressing] if progressing else found


def _progressing(item: Deployment, new: ReplicaSet | None, status: Document, world: World) -> Document | None:
    """Upstream's syncRolloutStatus, with the wording of `kubectl rollout status`."""
    if item.spec.progress_deadline_seconds == 2**31 - 1:
        return None
    now = condition(item.status.conditions, "Progressing")
    name = f'ReplicaSet "{new.metadata.name}"' if new else f'Deployment "{item.metadata.name}"'
    if item.spec.paused:
        if now is None or now.reason != "DeploymentPaused":
            return _set(item, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", world, touch=True)
        return _kept(now)
    if now is not None and now.reason == "DeploymentPaused":
        return _set(item, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed", world, touch=True)
    wanted = item.spec.replicas
    done = status["updatedReplicas"] == status["replicas"] == status["availableReplicas"] == wanted
    if done and new is not None:
        message = f"{name} has successfully progressed."
        return _set(item, "Progressing", "True", "NewReplicaSetAvailable", message, world, touch=False)
    if new is None:
        if now is None:
            message = f'Created new replica set "{item.metadata.name}"'
            return _set(item, "Progressing", "True", "NewReplicaSetCreated", message, world, touch=True)
        return _kept(now)
    if now is None or _moved(item, status) or (now.reason == "NewReplicaSetAvailable" and _fresh(item, status)):
        return _set(item, "Progressing", "True", "ReplicaSetUpdated", f"{name} is progressing.", world, touch=True)
    if now.reason == "NewReplicaSetAvailable":  # it was complete once: losing a pod is not a failed rollout
        return _kept(now)
    since = parse_time(now.last_update_time) if now.last_update_time else world.now
    if now.status == "False":
        return _kept(now)
    if (world.now - since).total_seconds() >= item.spec.progress_deadline_seconds:
        message = f"{name} has timed out progressing."
        return _set(item, "Progressing", "False", "ProgressDeadlineExceeded", message, world, touch=True)
    return _kept(now)


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


def _fresh(item: Deployment, status: Document) -> bool:
    """Whether a new rollout has begun since the last one was complete."""
    return bool(item.metadata.generation != item.status.observed_generation and status["updatedReplicas"] == 0)


def _kept(entry: Condition) -> Document:
    return {key: value for key, value in msgspec.to_builtins(entry).items() if value}


def _set(item: Deployment, kind: str, status: str, reason: str, message: str, world: World, *, touch: bool) -> Document:
    """A condition; the old one where nothing changes and `touch` is not asked for."""
    old = condition(item.status.conditions, kind)
    if old is not None and (old.status, old.reason, old.message) == (status, reason, message) and not touch:
        return _kept(old)
    moved = world.stamp if old is None or old.status != status else old.last_transition_time
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": world.stamp,
        "lastTransitionTime": moved,
    }

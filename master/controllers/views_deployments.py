"""The fields of ReplicaSet and Deployment that controllers read, as frozen views.

Source of names: Kubernetes' API reference (apps/v1).
"""

from __future__ import annotations

import msgspec

from labctl.kube.meta import ObjectMeta
from labctl.kube.resources import DEPLOYMENTS, REPLICA_SETS
from labctl.kube.selectors import LabelSelector
from master.controllers.protocol import Kind
from master.controllers.views import Condition, View


class ReplicaSetSpec(View, frozen=True):
    """What was asked for; the template stays encoded."""

    replicas: int = 1
    min_ready_seconds: int = 0
    selector: LabelSelector = LabelSelector()
    template: msgspec.Raw = msgspec.Raw(b"{}")


class ReplicaSetStatus(View, frozen=True):
    """What is."""

    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    terminating_replicas: int | None = None
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()


class ReplicaSet(View, frozen=True):
    """A set of like pods."""

    metadata: ObjectMeta
    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()


class RollingUpdate(View, frozen=True):
    """How far a rollout may stray; numbers or percentages."""

    max_surge: int | str = "25%"
    max_unavailable: int | str = "25%"


class DeploymentStrategy(View, frozen=True):
    """RollingUpdate or Recreate."""

    type: str = "RollingUpdate"
    rolling_update: RollingUpdate = RollingUpdate()


class DeploymentSpec(View, frozen=True):
    """What was asked for; the template stays encoded."""

    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: msgspec.Raw = msgspec.Raw(b"{}")
    strategy: DeploymentStrategy = DeploymentStrategy()
    min_ready_seconds: int = 0
    revision_history_limit: int = 10
    progress_deadline_seconds: int = 600
    paused: bool = False


class DeploymentStatus(View, frozen=True):
    """What is."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    terminating_replicas: int | None = None
    collision_count: int = 0
    conditions: tuple[Condition, ...] = ()


class Deployment(View, frozen=True):
    """A rollout of replica sets."""

    metadata: ObjectMeta
    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


REPLICA_SETS_KIND = Kind(REPLICA_SETS, ReplicaSet)
DEPLOYMENTS_KIND = Kind(DEPLOYMENTS, Deployment)

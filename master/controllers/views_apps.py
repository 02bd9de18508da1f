"""The fields of StatefulSet, DaemonSet and ControllerRevision that controllers read, as frozen views.

Source of names: Kubernetes' API reference (apps/v1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from labctl.kube.meta import ObjectMeta
from labctl.kube.resources import (
    CONTROLLER_REVISIONS,
    DAEMON_SETS,
    PERSISTENT_VOLUME_CLAIMS,
    STATEFUL_SETS,
)
from labctl.kube.selectors import LabelSelector
from master.controllers.protocol import Kind
from master.controllers.views import Condition, PodSpec, View


class ControllerRevision(View, frozen=True):
    """A template that a set had or has; `data` is a patch of the set."""

    metadata: ObjectMeta
    data: msgspec.Raw = msgspec.Raw(b"{}")
    revision: int = 0


class PodTemplate(View, frozen=True):
    """Of a template, what decides where its pods may run."""

    spec: PodSpec = PodSpec()


class OrdinalUpdate(View, frozen=True):
    """Rolling update of a StatefulSet: ordinals below `partition` stay as they are."""

    partition: int = 0
    max_unavailable: int | str = 1


class StatefulSetStrategy(View, frozen=True):
    """RollingUpdate or OnDelete."""

    type: str = "RollingUpdate"
    rolling_update: OrdinalUpdate = OrdinalUpdate()


class Ordinals(View, frozen=True):
    """Where the numbering begins."""

    start: int = 0


class ClaimRetention(View, frozen=True):
    """Whether claims are kept (Retain) or go with their set or pod (Delete)."""

    when_deleted: str = "Retain"
    when_scaled: str = "Retain"


class StatefulSetSpec(View, frozen=True):
    """What was asked for; the template stays encoded."""

    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: msgspec.Raw = msgspec.Raw(b"{}")
    volume_claim_templates: tuple[Mapping[str, Any], ...] = ()
    service_name: str = ""
    pod_management_policy: str = "OrderedReady"
    update_strategy: StatefulSetStrategy = StatefulSetStrategy()
    revision_history_limit: int = 10
    min_ready_seconds: int = 0
    ordinals: Ordinals = Ordinals()
    persistent_volume_claim_retention_policy: ClaimRetention = ClaimRetention()


class StatefulSetStatus(View, frozen=True):
    """What is."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    current_replicas: int = 0
    updated_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    collision_count: int = 0


class StatefulSet(View, frozen=True):
    """Pods with identities."""

    metadata: ObjectMeta
    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()


class NodeUpdate(View, frozen=True):
    """Rolling update of a DaemonSet; numbers or percentages of the nodes."""

    max_unavailable: int | str = 1
    max_surge: int | str = 0


class DaemonSetStrategy(View, frozen=True):
    """RollingUpdate or OnDelete."""

    type: str = "RollingUpdate"
    rolling_update: NodeUpdate = NodeUpdate()


class DaemonSetSpec(View, frozen=True):
    """What was asked for; the template stays encoded."""

    selector: LabelSelector = LabelSelector()
    template: msgspec.Raw = msgspec.Raw(b"{}")
    update_strategy: DaemonSetStrategy = DaemonSetStrategy()
    revision_history_limit: int = 10
    min_ready_seconds: int = 0


class DaemonSetStatus(View, frozen=True):
    """What is."""

    observed_generation: int = 0
    current_number_scheduled: int = 0
    number_misscheduled: int = 0
    desired_number_scheduled: int = 0
    number_ready: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    collision_count: int = 0
    conditions: tuple[Condition, ...] = ()


class DaemonSet(View, frozen=True):
    """A pod on every node."""

    metadata: ObjectMeta
    spec: DaemonSetSpec = DaemonSetSpec()
    status: DaemonSetStatus = DaemonSetStatus()


class ClaimSpec(View, frozen=True):
    """How much is asked for, and of which class."""

    storage_class_name: str = ""
    resources: Mapping[str, Any] = {}


class Claim(View, frozen=True):
    """A PersistentVolumeClaim."""

    metadata: ObjectMeta
    spec: ClaimSpec = ClaimSpec()


STATEFUL_SETS_KIND = Kind(STATEFUL_SETS, StatefulSet)
DAEMON_SETS_KIND = Kind(DAEMON_SETS, DaemonSet)
CONTROLLER_REVISIONS_KIND = Kind(CONTROLLER_REVISIONS, ControllerRevision)
CLAIMS_KIND = Kind(PERSISTENT_VOLUME_CLAIMS, Claim)

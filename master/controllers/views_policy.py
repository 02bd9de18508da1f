"""The fields of PodDisruptionBudget and ResourceQuota that controllers read, as frozen views.

Source of names: Kubernetes' API reference (policy/v1, core/v1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.kube.meta import ObjectMeta
from labctl.kube.resources import POD_DISRUPTION_BUDGETS
from labctl.kube.selectors import LabelSelector
from master.controllers.protocol import Kind
from master.controllers.views import Condition, View


class BudgetSpec(View, frozen=True):
    """What was asked for; an empty selector chooses every pod of the namespace, none at all no pod."""

    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    selector: LabelSelector | None = None


class BudgetStatus(View, frozen=True):
    """What is; `disrupted_pods` are evicted ones whose deletion was not seen yet."""

    observed_generation: int = 0
    disrupted_pods: Mapping[str, str] = {}
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    conditions: tuple[Condition, ...] = ()


class Budget(View, frozen=True):
    """How many pods must stay healthy when people evict."""

    metadata: ObjectMeta
    spec: BudgetSpec = BudgetSpec()
    status: BudgetStatus = BudgetStatus()


class QuotaSpec(View, frozen=True, omit_defaults=True):
    """What is limited, and of which pods."""

    hard: Mapping[str, str] = {}
    scopes: tuple[str, ...] = ()
    scope_selector: Mapping[str, Any] = {}


class QuotaStatus(View, frozen=True):
    """What is used of what is limited."""

    hard: Mapping[str, str] = {}
    used: Mapping[str, str] = {}


class Quota(View, frozen=True):
    """How much a namespace may use."""

    metadata: ObjectMeta
    spec: QuotaSpec = QuotaSpec()
    status: QuotaStatus = QuotaStatus()


BUDGETS_KIND = Kind(POD_DISRUPTION_BUDGETS, Budget)

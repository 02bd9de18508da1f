"""A ClusterRole with an aggregationRule holds the rules of all ClusterRoles that the rule selects. Pure.

Source: k/k `pkg/controller/clusterroleaggregation/clusterroleaggregation_controller.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.kube.meta import ObjectMeta
from labctl.kube.resources import builtin
from labctl.kube.selectors import from_label_selector, matches
from master.controllers.protocol import Controller, Kind, Plan, Step, World, each, patch, ref
from master.controllers.views import View

_RESOURCE = builtin("clusterroles", "rbac.authorization.k8s.io")

Rules = tuple[Mapping[str, Any], ...]


class AggregationRule(View, frozen=True):
    """Which roles to gather from."""

    cluster_role_selectors: tuple[Mapping[str, Any], ...] = ()


class ClusterRole(View, frozen=True):
    """A role; `rules` are kept as they are."""

    metadata: ObjectMeta
    rules: Rules = ()
    aggregation_rule: AggregationRule | None = None


CLUSTER_ROLES_KIND = Kind(_RESOURCE, ClusterRole)


def plan(world: World, memory: None) -> Plan:
    """Write the rules of each aggregated role whose parts have changed."""
    roles = sorted(world.all(CLUSTER_ROLES_KIND).items())
    gathered = [role for _, role in roles if role.aggregation_rule is not None]

    def decide(role: ClusterRole) -> tuple[Step, ...]:
        wanted = _gather(role, [part for _, part in roles])
        if wanted == role.rules:
            return ()
        change = patch(_RESOURCE, role.metadata, {"rules": list(wanted)}, exact=True)
        return (Step(ref(_RESOURCE, role.metadata), (change,)),)

    return Plan(tuple(each(_RESOURCE, gathered, decide)), memory=memory)


def _gather(role: ClusterRole, roles: list[ClusterRole]) -> Rules:
    """The rules of the roles selected, each once, in the order of the roles' names."""
    assert role.aggregation_rule is not None
    selectors = [from_label_selector(entry) or () for entry in role.aggregation_rule.cluster_role_selectors]
    found: list[Mapping[str, Any]] = []
    for part in roles:
        if part.metadata.name == role.metadata.name:
            continue
        if any(matches(selector, part.metadata.labels) for selector in selectors):
            found += [rule for rule in part.rules if rule not in found]
    return tuple(found)


CONTROLLER = Controller(name="cluster_role_aggregation", reads=(CLUSTER_ROLES_KIND,), plan=plan)

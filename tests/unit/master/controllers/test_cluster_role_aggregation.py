"""Aggregated cluster roles."""

from __future__ import annotations

from typing import Any

from labctl.kube.resources import builtin
from master.apiserver import policy
from master.controllers.catalog import cluster_role_aggregation as aggregation
from master.controllers.protocol import Patch, Plan
from tests.unit.master.controllers.world import actions, meta, world

ROLES = builtin("clusterroles", "rbac.authorization.k8s.io")
PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
MAPS = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}


def role(name: str, *rules: dict[str, Any], feeds: str = "", gathers: str = "") -> dict[str, Any]:
    found = {"metadata": {**meta(name, ""), "labels": {f"to-{feeds}": "true"} if feeds else {}}, "rules": list(rules)}
    if gathers:
        found["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {f"to-{gathers}": "true"}}]}
    return found


def decided(*roles: dict[str, Any]) -> Plan:
    return aggregation.plan(world({ROLES: list(roles)}, kinds={ROLES: aggregation.ClusterRole}), None)


def test_a_role_gathers_the_rules_of_those_it_selects_each_once() -> None:
    parts = [role("b", PODS, MAPS, feeds="view"), role("a", PODS, feeds="view"), role("c", MAPS)]
    (change,) = actions(decided(role("view", gathers="view"), *parts))
    assert isinstance(change, Patch)
    assert (change.name, change.body["rules"]) == ("view", [PODS, MAPS])
    assert change.body["metadata"]["resourceVersion"]


def test_what_is_no_longer_selected_is_taken_back() -> None:
    (change,) = actions(decided(role("view", PODS, MAPS, gathers="view"), role("a", PODS, feeds="view")))
    assert isinstance(change, Patch)
    assert change.body["rules"] == [PODS]


def test_a_role_that_holds_what_it_should_is_left_alone() -> None:
    assert decided(role("view", PODS, gathers="view"), role("a", PODS, feeds="view"), role("x", MAPS)).steps == ()


def test_the_default_roles_begin_as_this_controller_leaves_them() -> None:
    roles = [entry for entry in policy.default_roles() if entry["kind"] == "ClusterRole"]
    for entry in roles:
        entry["metadata"] |= meta(entry["metadata"]["name"], "")
        entry["rules"] = [{key: list(values) for key, values in rule.items()} for rule in entry["rules"]]
    assert decided(*roles).steps == ()

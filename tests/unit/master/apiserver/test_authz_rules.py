"""RBAC rules on their own, and upstream's default policy."""

from __future__ import annotations

import pytest

from master.apiserver import policy
from master.apiserver.authz.rules import Rule, compact, covers

READ_PODS = Rule(verbs=("get", "list"), api_groups=("",), resources=("pods", "pods/log"))
ANY_SCALE = Rule(verbs=("update",), api_groups=("*",), resources=("*/scale",))
ONE_MAP = Rule(verbs=("get",), api_groups=("",), resources=("configmaps",), resource_names=("a",))
HEALTH = Rule(verbs=("get",), non_resource_urls=("/healthz", "/livez/*"))
EVERYTHING = Rule(verbs=("*",), api_groups=("*",), resources=("*",))


def test_a_rule_names_subresources_of_their_own() -> None:
    assert READ_PODS.has_resource("", "pods")
    assert READ_PODS.has_resource("", "pods/log")
    assert not READ_PODS.has_resource("", "pods/exec")
    assert not READ_PODS.has_resource("apps", "pods")
    assert EVERYTHING.has_resource("apps", "deployments/scale")


def test_a_star_before_the_slash_is_every_resource() -> None:
    assert ANY_SCALE.has_resource("apps", "deployments/scale")
    assert not ANY_SCALE.has_resource("apps", "deployments")
    assert not ANY_SCALE.has_resource("apps", "deployments/status")


def test_names_narrow_a_rule() -> None:
    assert ONE_MAP.has_name("a")
    assert not ONE_MAP.has_name("b")
    assert not ONE_MAP.has_name("")  # a list names none
    assert READ_PODS.has_name("")


def test_paths_match_whole_or_by_their_beginning() -> None:
    assert HEALTH.has_path("/healthz")
    assert not HEALTH.has_path("/healthz/etcd")
    assert HEALTH.has_path("/livez/etcd")
    assert not HEALTH.has_path("/livez")
    assert Rule(verbs=("*",), non_resource_urls=("*",)).has_path("/anything")


@pytest.mark.parametrize(
    ("owned", "wanted", "missing"),
    [
        ([READ_PODS], [Rule(verbs=("get",), api_groups=("",), resources=("pods",))], 0),
        ([READ_PODS], [Rule(verbs=("get", "delete"), api_groups=("",), resources=("pods",))], 1),
        ([READ_PODS], [Rule(verbs=("*",), api_groups=("",), resources=("pods",))], 1),
        ([EVERYTHING], [Rule(verbs=("*",), api_groups=("*",), resources=("*",))], 0),
        ([EVERYTHING], [HEALTH], 2),
        ([ONE_MAP], [ONE_MAP], 0),
        ([ONE_MAP], [Rule(verbs=("get",), api_groups=("",), resources=("configmaps",))], 1),
        ([Rule(verbs=("get",), api_groups=("",), resources=("configmaps",))], [ONE_MAP], 0),
        ([ANY_SCALE], [Rule(verbs=("update",), api_groups=("apps",), resources=("deployments/scale",))], 0),
        ([], [READ_PODS], 4),
    ],
)
def test_what_some_rules_leave_uncovered(owned: list[Rule], wanted: list[Rule], missing: int) -> None:
    assert len(covers(owned, wanted)) == missing


def test_missing_parts_are_told_together_in_gos_words() -> None:
    (told,) = compact(covers([], [Rule(verbs=("get", "list"), api_groups=("apps",), resources=("deployments",))]))
    assert str(told) == '{APIGroups:["apps"], Resources:["deployments"], Verbs:["get" "list"]}'


def test_the_default_policy_is_upstreams() -> None:
    documents = [*policy.default_roles(), *policy.default_bindings()]
    names = [(entry["kind"], entry["metadata"].get("namespace"), entry["metadata"]["name"]) for entry in documents]
    assert len(names) == len(set(names))
    found = {name: document for (_, _, name), document in zip(names, documents, strict=True) if document.get("rules")}
    assert found["cluster-admin"]["rules"] == [
        {"verbs": ("*",), "apiGroups": ("*",), "resources": ("*",)},
        {"verbs": ("*",), "nonResourceURLs": ("*",)},
    ]
    assert found["system:public-info-viewer"]["rules"] == [
        {"verbs": ("get",), "nonResourceURLs": ("/healthz", "/livez", "/readyz", "/version", "/version/")}
    ]
    for document in documents:
        assert document["metadata"]["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults"
        assert document["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] == "true"


def test_aggregated_roles_begin_with_what_their_controller_would_gather() -> None:
    roles = {entry["metadata"]["name"]: entry for entry in policy.default_roles()}
    view, edit, admin = (roles[name]["rules"] for name in ("view", "edit", "admin"))
    assert [rule for rule in view if rule not in edit] == []
    assert [rule for rule in edit if rule not in admin] == []
    bind = {"verbs": ("create",), "apiGroups": ("authorization.k8s.io",), "resources": ("localsubjectaccessreviews",)}
    assert bind in admin
    assert bind not in edit

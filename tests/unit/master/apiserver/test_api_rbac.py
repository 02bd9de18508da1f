"""Roles and bindings at work: who may do what, who may grant it, what a refusal says, acting as somebody else."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from master.apiserver import bootstrap_rbac
from tests.unit.master.apiserver.harness import Api, soon
from tests.unit.master.apiserver.objects import MAPS, PODS, config_map, pod

Document = dict[str, Any]

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ROLES, BINDINGS = f"{RBAC}/namespaces/default/roles", f"{RBAC}/namespaces/default/rolebindings"
CLUSTER_ROLES, CLUSTER_BINDINGS = f"{RBAC}/clusterroles", f"{RBAC}/clusterrolebindings"
SELF = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
READER = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}


def role(name: str, *rules: Document) -> Document:
    return {"metadata": {"name": name}, "rules": list(rules)}


def binding(name: str, to: str, user: str, *, kind: str = "Role") -> Document:
    group = "rbac.authorization.k8s.io"
    return {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": kind, "name": to},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }


def test_a_role_counts_from_its_binding_on_and_in_its_namespace(api: Api) -> None:
    ada = api.as_user("ada")
    assert ada.get(PODS).code == 403
    api.create(ROLES, role("reader", READER))
    api.create(BINDINGS, binding("ada-reads", "reader", "ada"))
    soon(lambda: ada.get(PODS), 200)
    assert ada.get("/api/v1/namespaces/kube-system/pods").code == 403
    assert ada.get("/api/v1/pods").code == 403
    assert ada.post(PODS, pod()).code == 403
    assert ada.get(f"{PODS}/p/log").code == 403
    api.delete(f"{BINDINGS}/ada-reads")
    soon(lambda: ada.get(PODS), 403)


def test_a_change_of_a_role_changes_what_its_holders_may(api: Api) -> None:
    ada = api.as_user("ada")
    api.create(CLUSTER_ROLES, role("reader", READER))
    api.create(CLUSTER_BINDINGS, binding("ada-reads", "reader", "ada", kind="ClusterRole"))
    soon(lambda: ada.get("/api/v1/pods"), 200)
    api.patch(f"{CLUSTER_ROLES}/reader", {"rules": [{**READER, "resources": ["configmaps"]}]})
    soon(lambda: ada.get("/api/v1/pods"), 403)
    assert ada.get(MAPS).code == 200


def test_names_limit_a_rule_to_objects_and_to_lists_by_name(api: Api) -> None:
    ada = api.as_user("ada")
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get", "list"]}
    for name in ("a", "b"):
        api.create(MAPS, config_map(name))
    api.create(ROLES, role("one", rule))
    api.create(BINDINGS, binding("one", "one", "ada"))
    soon(lambda: ada.get(f"{MAPS}/a"), 200)
    assert ada.get(f"{MAPS}/b").code == 403
    assert ada.get(MAPS).code == 403
    assert ada.get(f"{MAPS}?fieldSelector=metadata.name=a").code == 200
    assert ada.get(f"{MAPS}?fieldSelector=metadata.name=b").code == 403


def test_groups_and_service_accounts_are_subjects_too(api: Api) -> None:
    api.create(CLUSTER_ROLES, role("reader", READER))
    subjects = [{"kind": "Group", "name": "crew"}, {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]
    api.create(CLUSTER_BINDINGS, {**binding("crew", "reader", "", kind="ClusterRole"), "subjects": subjects})
    soon(lambda: api.as_user("eve", "crew").get("/api/v1/pods"), 200)
    assert api.as_user("system:serviceaccount:default:robot").get("/api/v1/pods").code == 200
    assert api.as_user("system:serviceaccount:other:robot").get("/api/v1/pods").code == 403


def test_refusals_speak_as_upstreams(api: Api) -> None:
    eve = api.as_user("eve")
    assert eve.get(f"{PODS}/p/log").message == (
        'pods "p" is forbidden: User "eve" cannot get resource "pods/log" in API group "" in the namespace "default"'
    )
    assert eve.get("/apis/apps/v1/deployments").message == (
        'deployments.apps is forbidden: User "eve" cannot list resource "deployments" in API group "apps"'
        " at the cluster scope"
    )
    assert eve.get("/metrics").message == 'forbidden: User "eve" cannot get path "/metrics"'
    api.create(CLUSTER_BINDINGS, binding("lost", "nowhere", "eve", kind="ClusterRole"))

    def told() -> bool:
        return eve.get("/api/v1/pods").message.endswith(
            'at the cluster scope: RBAC: clusterrole.rbac.authorization.k8s.io "nowhere" not found'
        )

    wait_for(told, what="the binding that leads nowhere", deadline_s=5, clock=SystemClock(), every_s=0.01)


def test_the_components_may_do_their_work_and_no_more(api: Api) -> None:
    api.create(PODS, pod())
    api.create(PODS, pod("mine", node="n1"))
    scheduler, proxy = api.as_user("system:kube-scheduler"), api.as_user("system:kube-proxy")
    manager = api.as_user("system:kube-controller-manager")
    assert scheduler.get("/api/v1/pods").code == 200
    assert scheduler.post(MAPS, config_map()).code == 403
    assert scheduler.get("/api/v1/secrets").code == 403
    assert proxy.get("/api/v1/services").code == 200
    assert proxy.get("/api/v1/secrets").code == 403
    for name, component in (("kube-scheduler", scheduler), ("kube-controller-manager", manager)):
        lease = {"metadata": {"name": name}, "spec": {"holderIdentity": "x"}}
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
        assert component.post(leases, lease).code == 201
        assert component.patch(f"{leases}/{name}", {"spec": {"holderIdentity": "y"}}).code == 200
    assert manager.post(PODS, pod("q")).code == 201
    assert manager.delete(f"{PODS}/q").code == 200
    assert manager.post("/api/v1/nodes", {"metadata": {"name": "n9"}}).code == 403
    assert manager.post(f"{PODS}/p/eviction", {"metadata": {"name": "p"}}).code == 403


def test_signing_in_gives_discovery_and_knowledge_of_oneself(api: Api) -> None:
    ada = api.as_user("ada")
    for path in ("/api", "/apis", "/api/v1", "/openapi/v2", "/version", "/readyz"):
        assert ada.get(path).code == 200
    assert ada.get("/").code == 403
    whoami = ada.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})["status"]["userInfo"]
    assert (whoami["username"], whoami["groups"]) == ("ada", ["system:authenticated"])
    assert whoami["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")


# -- granting


@pytest.fixture
def granter(api: Api) -> Api:
    """May write roles and bindings in `default`, and read pods there."""
    api.create(ROLES, role("granter", READER, {
        "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"],
        "verbs": ["create", "get", "list", "patch", "update"],
    }))  # fmt: skip
    api.create(BINDINGS, binding("granter", "granter", "gus"))
    gus = api.as_user("gus")
    soon(lambda: gus.get(ROLES), 200)
    return gus


def test_nobody_writes_a_role_that_holds_more_than_they_do(granter: Api) -> None:
    assert granter.post(ROLES, role("less", READER)).code == 201
    refused = granter.post(ROLES, role("more", {**READER, "verbs": ["get", "delete"]}))
    assert refused.code == 403
    assert refused.message == (
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "gus" (groups=["system:authenticated"]) is'
        " attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}'
    )
    assert granter.patch(f"{ROLES}/less", {"rules": [{**READER, "verbs": ["*"]}]}).code == 403
    assert granter.patch(f"{ROLES}/less", {"metadata": {"finalizers": ["x.y/z"]}}).code == 200


def test_who_may_escalate_may(api: Api, granter: Api) -> None:
    wanted = role("more", {**READER, "verbs": ["delete"]})
    assert granter.post(ROLES, wanted).code == 403
    escalate = {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["escalate"]}
    api.create(ROLES, role("escalator", escalate))
    api.create(BINDINGS, binding("escalator", "escalator", "gus"))
    soon(lambda: granter.post(ROLES, wanted), 201)


def test_nobody_binds_a_role_that_holds_more_than_they_do(api: Api, granter: Api) -> None:
    assert granter.post(BINDINGS, binding("same", "granter", "eve")).code == 201
    refused = granter.post(BINDINGS, binding("admin", "cluster-admin", "gus", kind="ClusterRole"))
    assert refused.code == 403
    assert "attempting to grant RBAC permissions not currently held:\n" in refused.message
    missing = granter.post(BINDINGS, binding("lost", "nowhere", "gus"))
    assert (missing.code, missing.message) == (404, 'roles.rbac.authorization.k8s.io "nowhere" not found')
    bind = {
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["clusterroles"],
        "resourceNames": ["view"],
        "verbs": ["bind"],
    }
    api.create(ROLES, role("binder", bind))
    api.create(BINDINGS, binding("binder", "binder", "gus"))
    soon(lambda: granter.post(BINDINGS, binding("eve-views", "view", "eve", kind="ClusterRole")), 201)
    assert granter.post(BINDINGS, binding("eve-edits", "edit", "eve", kind="ClusterRole")).code == 403


def test_a_binding_keeps_its_role(api: Api) -> None:
    api.create(BINDINGS, binding("one", "view", "ada", kind="ClusterRole"))
    refused = api.patch(f"{BINDINGS}/one", {"roleRef": {"name": "edit"}})
    assert refused.code == 422
    assert "roleRef" in refused.message


def test_the_defaults_are_given_back_at_the_next_start(api: Api) -> None:
    api.patch(f"{CLUSTER_ROLES}/system:basic-user", {"rules": []})
    api.patch(f"{CLUSTER_BINDINGS}/system:discovery", {"subjects": [{"kind": "Group", "name": "crew"}]})
    api.delete(f"{CLUSTER_ROLES}/view")
    off = {"metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}, "rules": []}
    api.patch(f"{CLUSTER_ROLES}/system:heapster", off)
    extra = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    api.patch(f"{CLUSTER_ROLES}/system:kube-dns", {"rules": [extra]})
    bootstrap_rbac.run(api.server.context)
    rules = api.get(f"{CLUSTER_ROLES}/system:basic-user").document["rules"]
    assert {resource for rule in rules for resource in rule["resources"]} == {
        "selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews",
    }  # fmt: skip
    subjects = api.get(f"{CLUSTER_BINDINGS}/system:discovery").document["subjects"]
    assert {subject["name"] for subject in subjects} == {"crew", "system:authenticated"}
    assert api.get(f"{CLUSTER_ROLES}/view").code == 200
    assert not api.get(f"{CLUSTER_ROLES}/system:heapster").document.get("rules")
    kept = api.get(f"{CLUSTER_ROLES}/system:kube-dns").document["rules"]
    assert extra in kept
    assert len(kept) > 1
    revision = api.server.context.storage.store.revision()
    bootstrap_rbac.run(api.server.context)
    assert api.server.context.storage.store.revision() == revision


# -- reviews


def test_a_review_says_which_binding_allowed(api: Api) -> None:
    review = {
        "spec": {"user": "ada", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert api.create(path, review)["status"] == {"allowed": False}
    api.create(ROLES, role("reader", READER))
    api.create(BINDINGS, binding("ada-reads", "reader", "ada"))
    told = 'RBAC: allowed by RoleBinding "ada-reads/default" of Role "reader" to User "ada"'

    def allowed() -> bool:
        return bool(api.create(path, review)["status"] == {"allowed": True, "reason": told})

    wait_for(allowed, what="the grant", deadline_s=5, clock=SystemClock(), every_s=0.01)
    wrong = api.post(path, {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}})
    assert (wrong.code, "at least one of user or group must be specified" in wrong.message) == (422, True)


def test_a_local_review_keeps_to_its_namespace(api: Api) -> None:
    path = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews"
    attributes = {"verb": "get", "resource": "pods", "namespace": "other"}
    refused = api.post(
        path, {"metadata": {"namespace": "default"}, "spec": {"user": "a", "resourceAttributes": attributes}}
    )
    assert (refused.code, "must match metadata.namespace" in refused.message) == (422, True)


def test_a_rules_review_lists_what_one_may(api: Api) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    status = api.as_user("ada").create(path, {"spec": {"namespace": "default"}})["status"]
    assert {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]} in status[
        "resourceRules"
    ]
    assert any("/api/*" in rule["nonResourceURLs"] for rule in status["nonResourceRules"])
    assert status["incomplete"] is False
    node = api.as_user("system:node:n1", "system:nodes").create(path, {"spec": {"namespace": "default"}})["status"]
    assert node["incomplete"] is True
    assert api.as_user("ada").post(path, {"spec": {}}).code == 400


# -- impersonation


def acting(api: Api, user: str = "", *, groups: str = "", **extra: str) -> Api:
    headers = {"HTTP_IMPERSONATE_USER": user, "HTTP_IMPERSONATE_GROUP": groups, **extra}
    return api.sending({key: value for key, value in headers.items() if value})


def whoami(api: Api) -> Any:
    return api.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", {})["status"]["userInfo"]


def test_an_administrator_acts_as_anybody(api: Api) -> None:
    assert whoami(acting(api, "ada")) == {"username": "ada", "groups": ["system:authenticated"]}
    more = {"HTTP_IMPERSONATE_UID": "7", "HTTP_IMPERSONATE_EXTRA_SCOPES": "a,b"}
    assert whoami(acting(api, "ada", groups="crew,x", **more)) == {
        "username": "ada",
        "uid": "7",
        "groups": ["crew", "x", "system:authenticated"],
        "extra": {"scopes": ["a", "b"]},
    }
    robot = whoami(acting(api, "system:serviceaccount:default:robot"))
    assert robot["groups"] == ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    assert acting(api, "system:anonymous").get("/api").code == 403
    assert acting(api, "ada").get(PODS).code == 403
    assert acting(api, groups="crew").get("/version").code == 400


def test_acting_as_somebody_must_be_allowed(api: Api) -> None:
    eve = api.as_user("eve")
    refused = acting(eve, "ada").get("/version")
    assert refused.code == 403
    assert refused.message == (
        'users "ada" is forbidden: User "eve" cannot impersonate resource "users" in API group "" at the cluster scope'
    )
    users = {"apiGroups": [""], "resources": ["users"], "resourceNames": ["ada"], "verbs": ["impersonate"]}
    api.create(CLUSTER_ROLES, role("as-ada", users))
    api.create(CLUSTER_BINDINGS, binding("as-ada", "as-ada", "eve", kind="ClusterRole"))
    soon(lambda: acting(eve, "ada").get("/version"), 200)
    assert acting(eve, "bob").get("/version").code == 403
    assert acting(eve, "ada", groups="system:masters").get("/version").code == 403

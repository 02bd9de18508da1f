"""Pod garbage collection, namespaces, node networks, service accounts."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    Resource,
)
from master.controllers import views
from master.controllers.catalog import namespace, node_ipam, pod_gc, service_account
from master.controllers.protocol import (
    ConfirmEmpty,
    Create,
    Delete,
    Finalize,
    Patch,
    Plan,
    Settings,
    Tell,
)
from tests.unit.master.controllers.world import actions, ago, meta, node, pod, statuses, world

KINDS: tuple[Resource, ...] = (PODS, REPLICA_SETS, DEPLOYMENTS, NODES, CONFIG_MAPS, SERVICE_ACCOUNTS)
VIEWS = {CONFIG_MAPS: views.Owned, SERVICE_ACCOUNTS: views.Owned, NAMESPACES: views.Namespace}
DELETED: dict[str, Any] = {"deletionTimestamp": "2026-06-01T00:00:00Z"}


def sweep(pods: list[dict[str, Any]], nodes: list[dict[str, Any]], *, twice_after_s: float = 4.0) -> Plan:
    objects = {PODS: pods, NODES: nodes}
    first = pod_gc.plan(world(objects), pod_gc.Memory())
    return pod_gc.plan(world(objects, now_s=1000.0 + twice_after_s), first.memory)


def test_pods_of_a_node_that_is_gone_are_failed_and_deleted_after_the_quarantine() -> None:
    lost = pod("a", node="gone", phase="Running")
    assert sweep([lost], [], twice_after_s=3.9).steps == ()
    decided = sweep([lost], [])
    assert [type(action).__name__ for action in actions(decided)] == ["ConfirmAbsent", "Patch", "Delete"]
    assert statuses(decided, PODS)["a"]["phase"] == "Failed"
    assert statuses(decided, PODS)["a"]["conditions"][0]["reason"] == "DeletionByPodGC"
    assert actions(decided, Delete)[0].grace_s == 0


def test_of_too_many_finished_pods_the_evicted_go_first_and_then_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_gc, "_FINISHED_MOST", 1)
    pods = [pod(name, phase="Failed", creationTimestamp=ago(age_s)) for name, age_s in (("a", 9), ("b", 99), ("c", 1))]
    pods[2]["status"]["reason"] = "Evicted"
    assert [action.name for action in actions(sweep(pods, []), Delete)] == ["c", "b"]


def test_a_deleted_pod_that_was_never_scheduled_goes_at_once() -> None:
    assert actions(sweep([pod("a", **DELETED)], []), Delete)[0].grace_s == 0


@pytest.mark.parametrize(
    ("ready", "tainted", "goes"), [("Unknown", True, True), ("True", True, False), ("Unknown", False, False)]
)
def test_a_terminating_pod_is_let_go_only_from_a_dead_node_that_is_out_of_service(
    ready: str, tainted: bool, goes: bool
) -> None:
    taints = ("node.kubernetes.io/out-of-service:NoExecute",) if tainted else ()
    decided = sweep([pod("a", node="w1", **DELETED)], [node("w1", ready=ready, taints=taints)])
    assert bool(actions(decided, Delete)) == goes


def terminating(**more: Any) -> dict[str, Any]:
    return {"metadata": meta("brief", "", **DELETED), "spec": {"finalizers": ["kubernetes"]}, **more}


def empty(objects: dict[Resource, list[dict[str, Any]]]) -> Plan:
    return namespace.plan(world(objects, settings=Settings(kinds=KINDS), kinds=VIEWS), None)


def test_a_terminating_namespace_loses_its_contents_and_says_what_is_left() -> None:
    held = pod("a", namespace="brief", finalizers=["mine"])
    held["metadata"]["namespace"] = "brief"
    decided = empty({NAMESPACES: [terminating()], PODS: [held, pod("b")]})
    assert [action.name for action in actions(decided, Delete)] == ["a"]
    entries = {entry["type"]: entry for entry in statuses(decided, NAMESPACES)["brief"]["conditions"]}
    assert {kind: (entry["status"], entry["reason"]) for kind, entry in entries.items()} == {
        "NamespaceDeletionDiscoveryFailure": ("False", "ResourcesDiscovered"),
        "NamespaceDeletionGroupVersionParsingFailure": ("False", "ParsedGroupVersions"),
        "NamespaceDeletionContentFailure": ("False", "ContentDeleted"),
        "NamespaceContentRemaining": ("True", "SomeResourcesRemain"),
        "NamespaceFinalizersRemaining": ("True", "SomeFinalizersRemain"),
    }
    assert [entries[kind]["message"] for kind in list(entries)[3:]] == [
        "Some resources are remaining: pods has 1 resource instances",
        "Some content in the namespace has finalizers remaining: mine in 1 resource instances",
    ]
    known = terminating(status={"conditions": list(entries.values())})
    assert statuses(empty({NAMESPACES: [known], PODS: [held]}), NAMESPACES) == {}


def test_an_empty_namespace_goes_only_once_the_api_agrees_that_it_is_empty() -> None:
    confirm, finalize = actions(empty({NAMESPACES: [terminating()], PODS: [pod("b")]}))
    assert isinstance(confirm, ConfirmEmpty)
    assert PODS in confirm.kinds
    assert NODES not in confirm.kinds
    assert isinstance(finalize, Finalize)


def test_a_living_namespace_is_left_alone() -> None:
    alive = {"metadata": meta("default", ""), "spec": {"finalizers": ["kubernetes"]}}
    assert empty({NAMESPACES: [alive], PODS: [pod("b")]}).steps == ()


def networks(*nodes: dict[str, Any], cidr: str = "10.244.0.0/16") -> Plan:
    return node_ipam.plan(world({NODES: list(nodes)}, settings=Settings(cluster_cidr=cidr)), None)


def with_network(name: str, cidr: str) -> dict[str, Any]:
    item = node(name)
    item["spec"] |= {"podCIDR": cidr, "podCIDRs": [cidr]}
    return item


def test_each_node_gets_the_first_network_that_nobody_has_in_the_order_they_came() -> None:
    young, old = node("a", creationTimestamp=ago(1)), node("b", creationTimestamp=ago(9))
    decided = networks(young, old, with_network("c", "10.244.0.0/24"))
    assert {action.name: action.body["spec"]["podCIDR"] for action in actions(decided, Patch)} == {
        "b": "10.244.1.0/24",
        "a": "10.244.2.0/24",
    }
    assert all(action.body["metadata"]["resourceVersion"] for action in actions(decided, Patch))


def test_a_node_that_has_a_network_keeps_it() -> None:
    assert networks(with_network("c", "10.244.7.0/24")).steps == ()


def test_when_no_network_is_left_an_event_says_so() -> None:
    (told,) = actions(networks(with_network("a", "10.0.0.0/24"), node("b"), cidr="10.0.0.0/24"))
    assert isinstance(told, Tell)
    assert told.reason == "CIDRNotAvailable"


def test_every_active_namespace_has_an_account_and_the_root_certificate() -> None:
    active, leaving = {"metadata": meta("default", "")}, terminating()
    settings = Settings(root_ca="PEM")
    decided = service_account.plan(world({NAMESPACES: [active, leaving]}, settings=settings, kinds=VIEWS), None)
    made = {(action.namespace, action.body["metadata"]["name"]) for action in actions(decided, Create)}
    assert made == {("default", "default"), ("default", "kube-root-ca.crt")}
    there = {
        NAMESPACES: [active],
        SERVICE_ACCOUNTS: [{"metadata": meta("default")}],
        CONFIG_MAPS: [{"metadata": meta("kube-root-ca.crt")}],
    }
    assert service_account.plan(world(there, settings=settings, kinds=VIEWS), None).steps == ()

from __future__ import annotations

from typing import Any

from labctl.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NODES,
    PODS,
    REPLICA_SETS,
    Resource,
)
from master.controllers import views
from master.controllers.catalog import garbage_collector
from master.controllers.protocol import ConfirmAbsent, Delete, Patch, Plan, Settings, Tell
from tests.unit.master.controllers.world import actions, meta, node, owned_by, pod, world

KINDS: tuple[Resource, ...] = (PODS, REPLICA_SETS, DEPLOYMENTS, NODES, CONFIG_MAPS)
VIEWS = {CONFIG_MAPS: views.Owned}
DELETED: dict[str, Any] = {"deletionTimestamp": "2026-06-01T00:00:00Z"}


def replica_set(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": meta(name, **more)}


def collect(objects: dict[Resource, list[dict[str, Any]]], memory: garbage_collector.Memory | None = None) -> Plan:
    seen = world({kind: [] for kind in KINDS} | objects, settings=Settings(kinds=KINDS), kinds=VIEWS)
    return garbage_collector.plan(seen, memory or garbage_collector.Memory())


def test_a_pod_whose_owner_is_gone_goes_once_the_api_confirms_it() -> None:
    decided = collect({PODS: [pod("a", owner="web")]})
    confirm, deletion = actions(decided)
    assert isinstance(confirm, ConfirmAbsent)
    assert (confirm.resource, confirm.name, confirm.uid) == (REPLICA_SETS, "web", "uid-web")
    assert isinstance(deletion, Delete)
    assert deletion.propagation == "Background"


def test_a_pod_whose_owner_lives_stays() -> None:
    assert collect({PODS: [pod("a", owner="web")], REPLICA_SETS: [replica_set("web")]}).steps == ()


def test_an_owner_of_the_same_name_with_another_uid_is_not_the_owner() -> None:
    successor = {"metadata": meta("web") | {"uid": "uid-other"}}
    assert actions(collect({PODS: [pod("a", owner="web")], REPLICA_SETS: [successor]}), Delete)


def test_an_owner_of_a_kind_that_is_not_followed_is_given_the_benefit_of_the_doubt() -> None:
    owner = [{"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "uid-t"}]
    assert collect({PODS: [pod("a", ownerReferences=owner)]}).steps == ()


def test_with_one_owner_left_only_the_dead_reference_is_dropped() -> None:
    owners = [*owned_by("ReplicaSet", "web"), {**owned_by("ReplicaSet", "gone")[0], "controller": False}]
    decided = collect({PODS: [pod("a", ownerReferences=owners)], REPLICA_SETS: [replica_set("web")]})
    (change,) = actions(decided, Patch)
    assert change.body["metadata"]["ownerReferences"] == [{"$patch": "delete", "uid": "uid-gone"}]
    assert actions(decided, Delete) == []


def blocking(name: str) -> list[dict[str, Any]]:
    return [{**owned_by("ReplicaSet", name)[0], "blockOwnerDeletion": True}]


def test_foreground_takes_the_blocking_dependents_first_and_then_lets_the_owner_go() -> None:
    owner = replica_set("web", finalizers=["foregroundDeletion", "other"], **DELETED)
    first = collect({PODS: [pod("a", ownerReferences=blocking("web"))], REPLICA_SETS: [owner]})
    assert [action.name for action in actions(first)] == ["a"]
    second = collect({REPLICA_SETS: [owner]})
    (change,) = actions(second, Patch)
    assert change.body["metadata"]["finalizers"] == ["other"]


def test_orphaning_drops_the_references_first_and_then_the_finalizer() -> None:
    owner = replica_set("web", finalizers=["orphan"], **DELETED)
    first = collect({PODS: [pod("a", owner="web")], REPLICA_SETS: [owner]})
    (change,) = actions(first)
    assert change.body["metadata"]["ownerReferences"] == [{"$patch": "delete", "uid": "uid-web"}]
    (finished,) = actions(collect({PODS: [pod("a")], REPLICA_SETS: [owner]}))
    assert finished.body["metadata"]["finalizers"] == []


def test_foreground_takes_dependents_that_do_not_block_too() -> None:
    owner = replica_set("web", finalizers=["foregroundDeletion"], **DELETED)
    decided = collect({PODS: [pod("a", owner="web")], REPLICA_SETS: [owner]})
    assert {type(action).__name__ for action in actions(decided)} == {"Delete", "Patch"}
    assert actions(decided, Delete)[0].name == "a"


def test_two_that_own_each_other_do_not_wait_for_each_other() -> None:
    first = replica_set("one", finalizers=["foregroundDeletion"], ownerReferences=blocking("two"), **DELETED)
    decided = collect({REPLICA_SETS: [first, replica_set("two", ownerReferences=blocking("one"))]})
    freed, gone = actions(decided)
    assert (freed.name, freed.body["metadata"]["ownerReferences"]) == (
        "two",
        [{"uid": "uid-one", "blockOwnerDeletion": False}],
    )
    assert (gone.name, gone.propagation) == ("two", "Foreground")
    leaving = replica_set("two", ownerReferences=[{**blocking("one")[0], "blockOwnerDeletion": False}], **DELETED)
    leaving["metadata"]["finalizers"] = ["foregroundDeletion"]
    (freed,) = actions(collect({REPLICA_SETS: [first, leaving]}))
    assert (freed.name, freed.body["metadata"]["finalizers"]) == ("one", [])


def test_an_owner_in_another_namespace_is_none_and_an_event_says_so_once() -> None:
    elsewhere = {"metadata": meta("web", "other")}
    objects = {PODS: [pod("a", owner="web")], REPLICA_SETS: [elsewhere]}
    decided = collect(objects)
    (told,) = actions(decided, Tell)
    named = "[apps/v1/ReplicaSet, namespace: default, name: web, uid: uid-web]"
    assert (told.reason, told.message) == (
        "OwnerRefInvalidNamespace",
        f'ownerRef {named} does not exist in namespace "default"',
    )
    assert [action.name for action in actions(decided, Delete)] == ["a"]
    assert actions(collect(objects, decided.memory), Tell) == []


def test_a_cluster_wide_object_is_never_taken_for_a_namespaced_owner() -> None:
    owned = node("n", ownerReferences=owned_by("ReplicaSet", "web"))
    assert collect({NODES: [owned]}).steps == ()
    decided = collect({NODES: [owned], REPLICA_SETS: [replica_set("web")]})
    assert [type(action).__name__ for action in actions(decided)] == ["Tell"]

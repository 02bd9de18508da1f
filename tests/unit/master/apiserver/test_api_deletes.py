"""Deletes: grace, finalizers, propagation, preconditions, namespaces."""

from __future__ import annotations

import pytest

from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import DEPLOYMENTS, MAPS, PODS, config_map, deployment, pod


def test_a_pod_that_runs_nowhere_goes_at_once(api: Api) -> None:
    api.create(PODS, pod())
    assert api.delete(f"{PODS}/p").code == 200
    assert api.get(f"{PODS}/p").code == 404


def test_a_pod_on_a_node_gets_its_grace_and_goes_when_the_kubelet_says_so(api: Api) -> None:
    api.create(PODS, pod(node="n1"))
    lingering = api.delete(f"{PODS}/p").document
    assert lingering["metadata"]["deletionGracePeriodSeconds"] == 30
    assert lingering["metadata"]["deletionTimestamp"]
    assert api.get(f"{PODS}/p").code == 200
    api.delete(f"{PODS}/p", {"gracePeriodSeconds": 0})
    assert api.get(f"{PODS}/p").code == 404


def test_a_second_delete_can_only_shorten_the_grace(api: Api) -> None:
    api.create(PODS, pod(node="n1"))
    first = api.delete(f"{PODS}/p", {"gracePeriodSeconds": 20}).document["metadata"]
    longer = api.delete(f"{PODS}/p", {"gracePeriodSeconds": 60}).document["metadata"]
    assert longer["deletionTimestamp"] == first["deletionTimestamp"]
    shorter = api.delete(f"{PODS}/p", {"gracePeriodSeconds": 5}).document["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5
    assert shorter["deletionTimestamp"] < first["deletionTimestamp"]


def test_a_pod_that_has_ended_needs_no_grace(api: Api) -> None:
    api.create(PODS, pod(node="n1"))
    api.patch(f"{PODS}/p/status", {"status": {"phase": "Succeeded"}})
    api.delete(f"{PODS}/p")
    assert api.get(f"{PODS}/p").code == 404


def test_an_object_with_finalizers_waits_for_the_last_one(api: Api) -> None:
    api.create(MAPS, config_map() | {"metadata": {"name": "m", "finalizers": ["example.com/hold"]}})
    assert api.delete(f"{MAPS}/m").document["metadata"]["deletionTimestamp"]
    assert api.get(f"{MAPS}/m").code == 200
    assert api.patch(f"{MAPS}/m", {"metadata": {"finalizers": None}}).code == 200
    assert api.get(f"{MAPS}/m").code == 404


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
def test_the_propagation_policy_becomes_a_finalizer_for_the_garbage_collector(
    api: Api, policy: str, finalizer: str
) -> None:
    api.create(DEPLOYMENTS, deployment())
    held = api.delete(f"{DEPLOYMENTS}/d", {"propagationPolicy": policy}).document["metadata"]
    assert held["finalizers"] == [finalizer]
    assert held["deletionTimestamp"]


def test_background_is_the_default_and_leaves_nothing_behind(api: Api) -> None:
    made = api.create(DEPLOYMENTS, deployment())
    answer = api.delete(f"{DEPLOYMENTS}/d").document
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": "d", "group": "apps", "kind": "deployments", "uid": made["metadata"]["uid"]}


def test_preconditions_guard_a_delete(api: Api) -> None:
    made = api.create(MAPS, config_map())["metadata"]
    assert api.delete(f"{MAPS}/m", {"preconditions": {"uid": "other"}}).code == 409
    assert api.delete(f"{MAPS}/m", {"preconditions": {"resourceVersion": "1"}}).code == 409
    good = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
    assert api.delete(f"{MAPS}/m", {"preconditions": good}).code == 200


def test_a_collection_is_deleted_by_selector(api: Api) -> None:
    for name, value in (("a", "x"), ("b", "x"), ("c", "y")):
        api.create(MAPS, {"metadata": {"name": name, "labels": {"k": value}}})
    assert api.delete(f"{MAPS}?labelSelector=k%3Dx").code == 200
    assert [entry["metadata"]["name"] for entry in api.get(MAPS).document["items"]] == ["c"]


def test_a_namespace_ends_when_its_finalizer_is_taken_off(api: Api) -> None:
    made = api.create("/api/v1/namespaces", {"metadata": {"name": "lab"}})
    assert made["spec"]["finalizers"] == ["kubernetes"]
    ending = api.delete("/api/v1/namespaces/lab").document
    assert ending["status"]["phase"] == "Terminating"
    ending["spec"]["finalizers"] = []
    assert api.put("/api/v1/namespaces/lab/finalize", ending).code == 200
    assert api.get("/api/v1/namespaces/lab").code == 404


def test_the_systems_namespaces_stay(api: Api) -> None:
    answer = api.delete("/api/v1/namespaces/kube-system")
    assert (answer.code, "may not be deleted" in answer.message) == (403, True)


def test_options_that_are_not_known_are_refused(api: Api) -> None:
    api.create(MAPS, config_map())
    assert api.delete(f"{MAPS}/m", {"propagationPolicy": "Sideways"}).code == 422
    assert api.delete(f"{MAPS}/m", {"gracePeriodSeconds": "soon"}).code == 400

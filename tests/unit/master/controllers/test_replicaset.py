from __future__ import annotations

from typing import Any

import pytest

from labctl.kube.resources import PODS, REPLICA_SETS
from master.controllers.catalog.replicaset import plan
from master.controllers.protocol import Create, Delete, Failure, Patch, Plan, Tell
from tests.unit.master.controllers.world import actions, meta, pod, statuses, world


def replica_set(replicas: int, *, min_ready_s: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "metadata": meta("web", generation=3, **more),
        "spec": {
            "replicas": replicas,
            "minReadySeconds": min_ready_s,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}},
        },
    }


def decide(replicas: int, *pods: dict[str, Any], **more: Any) -> Plan:
    return plan(world({REPLICA_SETS: [replica_set(replicas, **more)], PODS: list(pods)}), None)


def created(decided: Plan) -> list[str]:
    return [action.body["metadata"]["name"] for action in actions(decided, Create)]


def deleted(decided: Plan) -> set[str]:
    return {action.name for action in actions(decided, Delete)}


def mine(name: str, **more: Any) -> dict[str, Any]:
    return pod(name, owner="web", **more)


def test_missing_pods_are_created_from_the_template() -> None:
    create = actions(decide(2, mine("a")), Create)[0]
    assert create.body["metadata"]["labels"] == {"app": "web"}
    assert create.body["metadata"]["ownerReferences"][0]["uid"] == "uid-web"
    assert create.body["metadata"]["ownerReferences"][0]["controller"] is True
    assert create.body["spec"] == {"containers": [{"name": "c"}]}


def test_planned_twice_from_the_same_state_the_names_are_the_same() -> None:
    assert created(decide(3)) == created(decide(3))
    assert len(set(created(decide(3)))) == 3


def test_a_replacement_has_a_name_of_its_own() -> None:
    first = created(decide(1))
    leaving = mine(first[0], deletionTimestamp="2026-06-01T00:00:00Z")
    assert set(created(decide(1, leaving))).isdisjoint(first)


def test_a_pod_counts_no_more_from_the_moment_its_deletion_is_asked_for() -> None:
    leaving = mine("a", ready=True, deletionTimestamp="2026-06-01T00:00:00Z")
    decided = decide(1, leaving)
    assert len(created(decided)) == 1
    assert statuses(decided, REPLICA_SETS)["web"]["terminatingReplicas"] == 1


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_finished_pod_does_not_count(phase: str) -> None:
    assert len(created(decide(1, mine("a", phase=phase)))) == 1


@pytest.mark.parametrize(
    ("first_to_go", "others"),
    [
        ({"node": ""}, {"node": "w1"}),
        ({"node": "w1", "phase": "Pending"}, {"node": "w1", "ready": True}),
        ({"node": "w1", "phase": "Running"}, {"node": "w1", "ready": True}),
        ({"node": "w1", "ready": True, "ready_s": 5}, {"node": "w1", "ready": True, "ready_s": 5000}),
        (
            {"node": "w1", "ready": True, "annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}},
            {"node": "w1", "ready": True},
        ),
        (
            {"node": "w1", "ready": True, "creationTimestamp": "2026-05-31T23:00:00Z"},
            {"node": "w1", "ready": True, "creationTimestamp": "2026-05-01T00:00:00Z"},
        ),
        ({"node": "w1", "phase": "Pending", "ready": True}, {"node": "w1", "phase": "Running"}),
    ],
)
def test_the_cheapest_pod_to_lose_goes_first(first_to_go: dict[str, Any], others: dict[str, Any]) -> None:
    pods = [mine("b", **others), mine("a", **first_to_go), mine("c", **others)]
    assert deleted(decide(2, *pods)) == {"a"}
    assert deleted(decide(2, *reversed(pods))) == {"a"}


def test_of_pods_that_are_ready_for_about_as_long_the_uid_decides() -> None:
    """As upstream's logarithmic ranks have it: neither the younger one nor the one that restarted more often."""
    pods = [mine("a", node="w1", ready=True, ready_s=300), mine("b", node="w1", ready=True, ready_s=290)]
    pods[1]["status"]["containerStatuses"] = [{"name": "c", "restartCount": 9}]
    assert deleted(decide(1, *pods)) == {"a"}
    pods[1]["status"]["conditions"] = pods[0]["status"]["conditions"]
    assert deleted(decide(1, *pods)) == {"b"}  # ready since the same moment: then restarts decide


def test_a_set_that_is_being_deleted_lets_no_pod_go() -> None:
    decided = decide(1, mine("a", labels={"app": "debug"}), deletionTimestamp="2026-06-01T00:00:00Z")
    assert [action for action in actions(decided, Patch) if action.resource == PODS] == []


def test_the_doubled_pod_of_a_crowded_node_goes_first() -> None:
    pods = [mine("a", node="w1", ready=True), mine("b", node="w2", ready=True), mine("c", node="w1", ready=True)]
    assert deleted(decide(2, *pods)) <= {"a", "c"}


def test_a_pod_with_matching_labels_and_no_owner_is_adopted_on_its_exact_version() -> None:
    decided = decide(1, pod("stray"))
    (adopt,) = [action for action in actions(decided, Patch) if action.resource == PODS]
    assert adopt.body["metadata"]["ownerReferences"][0]["uid"] == "uid-web"
    assert adopt.body["metadata"]["resourceVersion"] == "1"
    assert created(decided) == []


def test_a_pod_whose_labels_no_longer_match_is_let_go_alive_and_replaced() -> None:
    decided = decide(1, mine("a", labels={"app": "debug"}))
    (release,) = [action for action in actions(decided, Patch) if action.resource == PODS]
    assert release.body["metadata"]["ownerReferences"] == [{"$patch": "delete", "uid": "uid-web"}]
    assert deleted(decided) == set()
    assert len(created(decided)) == 1


def test_another_set_s_pods_are_left_alone() -> None:
    decided = decide(0, pod("theirs", owner="other"))
    assert deleted(decided) == set()


def test_a_set_that_is_being_deleted_creates_and_deletes_nothing() -> None:
    decided = decide(3, mine("a"), deletionTimestamp="2026-06-01T00:00:00Z")
    assert (created(decided), deleted(decided)) == ([], set())


def test_status_counts_ready_and_available_pods() -> None:
    decided = decide(3, mine("a", ready=True), mine("b", ready=True, ready_s=5), mine("c"), min_ready_s=60)
    assert statuses(decided, REPLICA_SETS)["web"] == {
        "replicas": 3,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "terminatingReplicas": 0,
        "observedGeneration": 3,
    }
    assert decided.wake_after_s == 55.0


def test_nothing_is_written_once_spec_and_status_agree() -> None:
    item = replica_set(1)
    item["status"] = {
        **dict.fromkeys(("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"), 1),
        "observedGeneration": 3,
    }
    assert plan(world({REPLICA_SETS: [item], PODS: [mine("a", ready=True)]}), None).steps == ()


def test_a_set_that_cannot_be_acted_on_gets_an_event_and_the_others_go_on() -> None:
    broken = replica_set(1)
    broken["metadata"] = meta("broken")
    broken["spec"]["template"] = "no object"
    decided = plan(world({REPLICA_SETS: [broken, replica_set(1)]}), None)
    (told,) = [action for action in actions(decided, Tell) if action.reason == "FailedSync"]
    assert "cannot act on this ReplicaSet" in told.message
    assert len(created(decided)) == 1


def test_why_pods_cannot_be_made_stands_in_the_status_until_their_number_is_right() -> None:
    failures = {"uid-web": Failure("FailedCreate", 'pods "web-x" is forbidden: exceeded quota: q')}
    decided = plan(world({REPLICA_SETS: [replica_set(1)]}, failures=failures), None)
    (entry,) = statuses(decided, REPLICA_SETS)["web"]["conditions"]
    assert (entry["type"], entry["status"], entry["reason"]) == ("ReplicaFailure", "True", "FailedCreate")
    assert entry["message"] == 'pods "web-x" is forbidden: exceeded quota: q'
    item = replica_set(1)
    item["status"] = {"conditions": [entry]}
    assert "conditions" not in statuses(plan(world({REPLICA_SETS: [item]}), None), REPLICA_SETS)["web"]  # unknown yet
    mended = plan(world({REPLICA_SETS: [item], PODS: [mine("a")]}), None)
    assert statuses(mended, REPLICA_SETS)["web"]["conditions"] == []

from __future__ import annotations

from typing import Any

import pytest

from labctl.kube.meta import ObjectMeta
from labctl.kube.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from master.controllers import views_deployments
from master.controllers.catalog.deployment import plan
from master.controllers.protocol import Create, Delete, Failure, Patch, Plan, Tell
from master.controllers.rollout import Bounds, bounds, scaled
from tests.unit.master.controllers.world import actions, ago, meta, owned_by, pod, statuses, world

REVISION = "deployment.kubernetes.io/revision"
DESIRED, MAXIMUM = "deployment.kubernetes.io/desired-replicas", "deployment.kubernetes.io/max-replicas"


def template(turn: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "web", **labels}}, "spec": {"containers": [{"name": "c", "image": turn}]}}


def deployment(replicas: int = 4, turn: str = "two", **spec: Any) -> dict[str, Any]:
    more = spec.pop("meta", {})
    status = spec.pop("status", {})
    return {
        "metadata": meta("web", generation=2, **more),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(turn),
            **spec,
        },
        "status": status,
    }


def replica_set(turn: str, size: int, available: int | None = None, **more: Any) -> dict[str, Any]:
    revision = {"one": "1", "two": "2", "three": "3"}[turn]
    desired, most = more.pop("desired", 4), more.pop("most", 5)
    notes = {REVISION: revision, DESIRED: str(desired), MAXIMUM: str(most)}
    count = size if available is None else available
    more.setdefault("created", f"2026-01-0{revision}T00:00:00Z")
    return {
        "metadata": meta(
            f"web-{turn}",
            annotations=notes,
            labels={"app": "web", "pod-template-hash": turn},
            ownerReferences=owned_by("Deployment", "web"),
            creationTimestamp=more["created"],
            generation=1,
        ),
        "spec": {
            "replicas": size,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": turn}},
            "template": template(turn, **{"pod-template-hash": turn}),
        },
        "status": {"replicas": size, "readyReplicas": count, "availableReplicas": count, "observedGeneration": 1},
    }


def decide(item: dict[str, Any], *sets: dict[str, Any], pods: tuple[dict[str, Any], ...] = ()) -> Plan:
    return plan(world({DEPLOYMENTS: [item], REPLICA_SETS: list(sets), PODS: list(pods)}), None)


def sizes(decided: Plan) -> dict[str, int]:
    return {
        action.name.removeprefix("web-"): action.body["spec"]["replicas"]
        for action in actions(decided, Patch)
        if action.resource == REPLICA_SETS and "replicas" in action.body.get("spec", {})
    }


def test_a_new_deployment_gets_a_set_named_by_its_template() -> None:
    create = actions(decide(deployment()), Create)[0].body
    digest = create["metadata"]["labels"]["pod-template-hash"]
    assert create["metadata"]["name"] == f"web-{digest}"
    assert create["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": digest}
    assert create["spec"]["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": digest}
    assert create["metadata"]["annotations"] == {REVISION: "1", DESIRED: "4", MAXIMUM: "5"}
    assert create["spec"]["replicas"] == 4
    assert actions(decide(deployment()), Create)[0].body == create


def test_the_order_of_a_template_s_keys_makes_no_new_set() -> None:
    item = deployment()
    item["spec"]["template"] = dict(reversed(list(item["spec"]["template"].items())))
    assert actions(decide(item, replica_set("two", 4)), Create) == []


def test_a_changed_template_gets_a_set_within_the_surge() -> None:
    create = actions(decide(deployment(), replica_set("one", 4)), Create)[0].body
    assert create["spec"]["replicas"] == 1
    assert create["metadata"]["annotations"][REVISION] == "2"


@pytest.mark.parametrize(
    ("old", "old_available", "new", "new_available", "wanted"),
    [
        (4, 4, 0, 0, {"two": 1}),  # up to the surge
        (4, 4, 1, 0, {"one": 3}),  # one may be missing
        (3, 3, 1, 0, {"two": 2}),
        (3, 3, 2, 0, {}),  # at both limits: wait for pods to become available
        (3, 3, 2, 1, {"one": 2}),
        (3, 0, 2, 2, {"one": 1}),  # old pods that serve nobody cost nothing, up to the limit
        (3, 0, 2, 0, {}),  # new pods that may serve soon are not counted on
        (1, 1, 4, 3, {"one": 0}),
        (0, 0, 4, 4, {}),
    ],
)
def test_a_rollout_moves_between_its_bounds(
    old: int, old_available: int, new: int, new_available: int, wanted: dict[str, int]
) -> None:
    decided = decide(deployment(), replica_set("one", old, old_available), replica_set("two", new, new_available))
    assert sizes(decided) == wanted


def test_a_status_that_lags_behind_a_scale_down_is_not_spent_twice() -> None:
    lagging = replica_set("one", 2, 4)  # two were just taken away, its status still counts four
    assert sizes(decide(deployment(), lagging, replica_set("two", 3, 1))) == {}


def test_recreate_waits_for_the_last_old_pod() -> None:
    item = deployment(strategy={"type": "Recreate"})
    assert sizes(decide(item, replica_set("one", 4))) == {"one": 0}
    leaving = pod("p", ready=True, deletionTimestamp=ago(1), labels={"app": "web"})
    leaving["metadata"]["ownerReferences"] = owned_by("ReplicaSet", "web-one")
    assert actions(decide(item, replica_set("one", 0), pods=(leaving,)), Create) == []
    assert actions(decide(item, replica_set("one", 0)), Create)[0].body["spec"]["replicas"] == 4


def test_a_paused_deployment_is_scaled_but_not_rolled() -> None:
    item = deployment(8, paused=True)
    decided = decide(item, replica_set("one", 4))
    assert actions(decided, Create) == []
    assert sizes(decided) == {"one": 8}


def test_scaling_in_the_middle_of_a_rollout_is_shared_in_proportion() -> None:
    decided = decide(
        deployment(20, strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 5}}),
        replica_set("one", 8, desired=10, most=10),
        replica_set("two", 2, desired=10, most=10),
    )
    assert sizes(decided) == {"one": 16, "two": 4}


def test_a_deployment_that_was_scaled_too_is_scaled_first_and_rolled_then() -> None:
    """Upstream's `syncDeployment`: a scaling event comes before the rollout."""
    old = replica_set("one", 2, desired=2, most=3)
    assert sizes(decide(deployment(4), old)) == {"one": 4}
    [made] = actions(decide(deployment(4), replica_set("one", 4)), Create)
    assert made.body["spec"]["replicas"] == 1


def test_sets_that_fill_the_surge_already_keep_their_sizes_when_the_deployment_is_scaled() -> None:
    assert sizes(decide(deployment(4), replica_set("one", 2, desired=2, most=3), replica_set("two", 3))) == {"one": 2}


def test_going_back_to_an_old_template_makes_its_set_the_newest_revision() -> None:
    decided = decide(deployment(turn="one"), replica_set("one", 0), replica_set("two", 4))
    (notes,) = [
        action.body["metadata"]["annotations"]
        for action in actions(decided, Patch)
        if action.name == "web-one" and REVISION in action.body["metadata"].get("annotations", {})
    ]
    assert notes[REVISION] == "3"
    assert notes["deployment.kubernetes.io/revision-history"] == "1"


def test_old_empty_sets_beyond_the_limit_go_once_the_rollout_is_complete() -> None:
    item = deployment(turn="three", revisionHistoryLimit=1)
    sets = (replica_set("one", 0), replica_set("two", 0), replica_set("three", 4))
    assert [action.name for action in actions(decide(item, *sets), Delete)] == ["web-one"]
    unfinished = (*sets[:2], replica_set("three", 4, 3))
    assert actions(decide(item, *unfinished), Delete) == []


def conditions(decided: Plan) -> dict[str, tuple[str, str]]:
    found = statuses(decided, DEPLOYMENTS)["web"]["conditions"]
    return {entry["type"]: (entry["status"], entry["reason"]) for entry in found}


def test_a_complete_rollout_says_so() -> None:
    decided = decide(deployment(), replica_set("two", 4))
    assert conditions(decided) == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }
    assert statuses(decided, DEPLOYMENTS)["web"]["observedGeneration"] == 2


def progressing(updated_s: float, reason: str = "ReplicaSetUpdated") -> dict[str, Any]:
    entry = {"type": "Progressing", "status": "True", "reason": reason, "lastUpdateTime": ago(updated_s)}
    counts = {"replicas": 5, "updatedReplicas": 2, "readyReplicas": 3, "availableReplicas": 3}
    return {**counts, "observedGeneration": 2, "conditions": [entry]}


def stuck(updated_s: float, reason: str = "ReplicaSetUpdated") -> Plan:
    item = deployment(status=progressing(updated_s, reason))
    return decide(item, replica_set("one", 3), replica_set("two", 2, 0))


def test_a_stuck_rollout_exceeds_its_deadline_and_is_looked_at_right_then() -> None:
    assert stuck(590).wake_after_s == 10.0
    assert conditions(stuck(600))["Progressing"] == ("False", "ProgressDeadlineExceeded")


def test_losing_pods_after_a_complete_rollout_is_not_a_failed_rollout() -> None:
    assert conditions(stuck(9_000, "NewReplicaSetAvailable"))["Progressing"] == ("True", "NewReplicaSetAvailable")


def test_scaling_is_told_in_upstream_s_words() -> None:
    decided = decide(deployment(), replica_set("one", 3, 3), replica_set("two", 1, 0))
    assert [action.message for action in actions(decided, Tell)] == ["Scaled up replica set web-two from 1 to 2"]


@pytest.mark.parametrize(
    ("value", "total", "up", "down"), [("25%", 10, 3, 2), ("50%", 3, 2, 1), (2, 10, 2, 2), ("100%", 4, 4, 4)]
)
def test_percentages_round_up_for_surge_and_down_for_unavailable(
    value: int | str, total: int, up: int, down: int
) -> None:
    assert (scaled(value, total, up=True), scaled(value, total, up=False)) == (up, down)


def test_bounds_that_both_round_to_zero_let_one_pod_be_missing() -> None:
    limit = limits(1, 0, "10%")
    assert (limit.surge, limit.unavailable) == (0, 1)


def limits(replicas: int, surge: int | str, unavailable: int | str) -> Bounds:
    rolling = views_deployments.RollingUpdate(max_surge=surge, max_unavailable=unavailable)
    spec = views_deployments.DeploymentSpec(
        replicas=replicas, strategy=views_deployments.DeploymentStrategy(rolling_update=rolling)
    )
    return bounds(views_deployments.Deployment(metadata=ObjectMeta(), spec=spec))


def test_any_rollout_ends_and_never_leaves_its_bounds() -> None:
    """Play every step to the end, pods becoming available one by one."""
    cases: tuple[tuple[int, int | str, int | str], ...] = (
        (1, 1, 0),
        (3, "25%", "25%"),
        (7, 0, 2),
        (10, 3, 0),
        (5, "100%", "100%"),
    )
    for replicas, surge, unavailable in cases:
        item = deployment(replicas, strategy={"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
        limit = limits(replicas, surge, unavailable)
        size, ready = {"one": replicas, "two": 0}, {"one": replicas, "two": 0}
        for _ in range(200):
            sets = [
                replica_set(turn, size[turn], ready[turn], desired=replicas, most=limit.most) for turn in ("one", "two")
            ]
            moved = sizes(decide(item, *sets))
            size |= moved
            ready = {turn: min(ready[turn], size[turn]) for turn in size}
            assert sum(size.values()) <= limit.most
            assert sum(ready.values()) >= limit.least_available
            if not moved:
                if ready == size:
                    break
                ready["two"] = min(size["two"], ready["two"] + 1)
        assert size == {"one": 0, "two": replicas}


def now(reason: str, status: str = "True", updated_s: float = 10.0) -> dict[str, Any]:
    entry = {"type": "Progressing", "status": status, "reason": reason, "lastUpdateTime": ago(updated_s)}
    return {"conditions": [entry]}


def said(decided: Plan, kind: str = "Progressing") -> tuple[str, str, str]:
    found = {entry["type"]: entry for entry in statuses(decided, DEPLOYMENTS)["web"]["conditions"]}
    return found[kind]["status"], found[kind]["reason"], found[kind].get("message", "")


def test_a_new_set_is_told_of_in_the_same_step_that_makes_it() -> None:
    decided = decide(deployment(status=now("NewReplicaSetAvailable")), replica_set("one", 4))
    (step,) = [step for step in decided.steps if any(isinstance(action, Create) for action in step.actions)]
    assert [type(action).__name__ for action in step.actions] == ["Create", "Tell", "Patch"]
    name = actions(decided, Create)[0].body["metadata"]["name"]
    assert said(decided) == ("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
    assert step.failure_reason == "ReplicaSetCreateError"


def test_a_set_that_cannot_be_made_is_no_progress() -> None:
    failures = {"uid-web": Failure("ReplicaSetCreateError", "no room")}
    decided = plan(world({DEPLOYMENTS: [deployment()]}, failures=failures), None)
    name = actions(decided, Create)[0].body["metadata"]["name"]
    message = f'Failed to create new replica set "{name}": no room'
    assert said(decided) == ("False", "ReplicaSetCreateError", message)
    assert len(decided.steps) == 2  # the report does not wait for the creation to succeed


def failing(turn: str, size: int) -> dict[str, Any]:
    found = replica_set(turn, size, 0)
    entry = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": f"quota of {turn}"}
    found["status"]["conditions"] = [entry]
    return found


def test_why_a_set_cannot_make_pods_is_passed_on_and_the_new_set_s_reason_first() -> None:
    decided = decide(deployment(), failing("one", 3), failing("two", 2))
    assert said(decided, "ReplicaFailure") == ("True", "FailedCreate", "quota of two")
    over = deployment(status={"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}]})
    assert "ReplicaFailure" not in conditions(decide(over, replica_set("two", 4)))


def test_scaling_a_complete_deployment_is_no_new_rollout() -> None:
    item = deployment(8, status={**now("NewReplicaSetAvailable"), "replicas": 4, "updatedReplicas": 4})
    assert said(decide(item, replica_set("two", 4)))[1] == "NewReplicaSetAvailable"  # being scaled
    growing = replica_set("two", 8, 6, desired=8, most=10)
    assert said(decide(item, growing))[1] == "NewReplicaSetAvailable"


def test_pausing_and_resuming_are_told_but_a_missed_deadline_stays() -> None:
    sets = (replica_set("one", 3), replica_set("two", 1, 0))
    assert said(decide(deployment(paused=True, status=now("ReplicaSetUpdated")), *sets)) == (
        "Unknown",
        "DeploymentPaused",
        "Deployment is paused",
    )
    resumed = decide(deployment(status=now("DeploymentPaused", "Unknown")), *sets)
    assert said(resumed)[:2] == ("Unknown", "DeploymentResumed")
    assert resumed.wake_after_s <= 600.0
    late = deployment(paused=True, status=now("ProgressDeadlineExceeded", "False"))
    assert said(decide(late, *sets))[:2] == ("False", "ProgressDeadlineExceeded")


def test_a_missed_deadline_is_taken_back_by_progress() -> None:
    item = deployment(status={**now("ProgressDeadlineExceeded", "False", 900), "replicas": 5})
    assert said(decide(item, replica_set("one", 3), replica_set("two", 2, 1)))[:2] == ("True", "ReplicaSetUpdated")


def test_a_paused_deployment_forgets_old_sets_too() -> None:
    item = deployment(turn="three", revisionHistoryLimit=0, paused=True)
    assert [action.name for action in actions(decide(item, replica_set("one", 0), replica_set("two", 4)), Delete)] == [
        "web-one"
    ]


def test_a_set_whose_labels_no_longer_match_is_let_go() -> None:
    stray = replica_set("two", 4)
    stray["metadata"]["labels"] = {"app": "debug"}
    decided = decide(deployment(), stray)
    (gone,) = [action for action in actions(decided, Patch) if action.name == "web-two"]
    assert gone.body["metadata"]["ownerReferences"] == [{"$patch": "delete", "uid": "uid-web"}]


def test_conditions_that_others_set_stay() -> None:
    mine = {"type": "example.com/Checked", "status": "True"}
    decided = decide(deployment(status={"conditions": [mine]}), replica_set("two", 4))
    assert mine in statuses(decided, DEPLOYMENTS)["web"]["conditions"]


def test_a_name_that_a_former_deployment_s_set_still_holds_is_left_to_it() -> None:
    name = actions(decide(deployment()), Create)[0].body["metadata"]["name"]
    former = replica_set("two", 4)
    former["metadata"] |= {"name": name, "ownerReferences": owned_by("Deployment", "former")}
    decided = decide(deployment(), former)
    assert actions(decided, Create) == []
    counted = [act.body["status"] for act in actions(decided, Patch) if "collisionCount" in act.body.get("status", {})]
    assert counted == [{"collisionCount": 1}]
    (create,) = actions(decide(deployment(status={"collisionCount": 1}), former), Create)
    assert create.body["metadata"]["name"] != name

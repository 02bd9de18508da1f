"""Create, update, patch: what clients may rely on."""

from __future__ import annotations

from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import DEPLOYMENTS, MAPS, PODS, config_map, deployment, pod


def test_a_created_object_gets_uid_stamp_and_revision_and_can_be_read_at_once(api: Api) -> None:
    made = api.create(MAPS, config_map(a="b"))
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"]
    assert api.get(f"{MAPS}/m").document == made
    assert made in [entry | {"kind": "ConfigMap", "apiVersion": "v1"} for entry in api.get(MAPS).document["items"]]


def test_a_name_can_be_taken_once(api: Api) -> None:
    api.create(MAPS, config_map())
    again = api.post(MAPS, config_map())
    assert (again.code, again.document["reason"]) == (409, "AlreadyExists")
    assert again.message == 'configmaps "m" already exists'


def test_generate_name_makes_a_different_name_each_time(api: Api) -> None:
    names = {api.create(MAPS, {"metadata": {"generateName": "m-"}})["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("m-") and len(name) == 7 for name in names)


def test_an_update_of_an_old_state_is_a_conflict_in_upstreams_words(api: Api) -> None:
    old = api.create(MAPS, config_map(a="1"))
    api.put(f"{MAPS}/m", old | {"data": {"a": "2"}})
    late = api.put(f"{MAPS}/m", old | {"data": {"a": "3"}})
    assert (late.code, late.document["reason"]) == (409, "Conflict")
    assert late.message == (
        'Operation cannot be fulfilled on configmaps "m": the object has been modified; please apply your changes to'
        " the latest version and try again"
    )
    assert api.get(f"{MAPS}/m").document["data"] == {"a": "2"}


def test_an_update_with_another_uid_is_a_conflict(api: Api) -> None:
    old = api.create(MAPS, config_map())
    old["metadata"] |= {"uid": "other"}
    assert api.put(f"{MAPS}/m", old).code == 409


def test_an_update_that_changes_nothing_keeps_the_revision(api: Api) -> None:
    old = api.create(MAPS, config_map(a="b"))
    assert api.put(f"{MAPS}/m", old).document == old
    assert api.patch(f"{MAPS}/m", {"data": {"a": "b"}}).document == old


def test_unknown_fields_are_refused_told_or_kept_as_asked(api: Api) -> None:
    body = deployment() | {"spce": 1}
    strict = api.post(f"{DEPLOYMENTS}?fieldValidation=Strict", body)
    assert strict.code == 400
    assert strict.message == (
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spce"'
    )
    warned = api.post(f"{DEPLOYMENTS}?dryRun=All", body)
    assert (warned.code, warned.warnings) == (201, ['unknown field "spce"'])
    ignored = api.post(f"{DEPLOYMENTS}?fieldValidation=Ignore", body)
    assert (ignored.code, ignored.warnings) == (201, [])
    assert api.get(f"{DEPLOYMENTS}/d").document["spce"] == 1


def test_a_value_of_the_wrong_type_is_refused_with_its_place(api: Api) -> None:
    answer = api.post(DEPLOYMENTS, deployment(replicas="many"))  # type: ignore[arg-type]
    assert answer.code == 400
    assert "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32" in answer.message


def test_a_dry_run_stores_nothing(api: Api) -> None:
    assert api.post(f"{MAPS}?dryRun=All", config_map()).code == 201
    assert api.get(f"{MAPS}/m").code == 404
    api.create(MAPS, config_map(a="1"))
    assert api.patch(f"{MAPS}/m?dryRun=All", {"data": {"a": "2"}}).document["data"] == {"a": "2"}
    assert api.delete(f"{MAPS}/m?dryRun=All").code == 200
    assert api.get(f"{MAPS}/m").document["data"] == {"a": "1"}


def test_the_main_endpoint_ignores_status_and_the_status_endpoint_ignores_spec(api: Api) -> None:
    made = api.create(DEPLOYMENTS, deployment() | {"status": {"replicas": 9}})
    assert made["status"] == {}
    made["status"] = {"replicas": 2}
    made["spec"]["replicas"] = 5
    by_status = api.put(f"{DEPLOYMENTS}/d/status", made).document
    assert (by_status["status"], by_status["spec"]["replicas"]) == ({"replicas": 2}, 2)
    by_status["status"] = {"replicas": 7}
    by_status["spec"]["replicas"] = 5
    by_main = api.put(f"{DEPLOYMENTS}/d", by_status).document
    assert (by_main["status"], by_main["spec"]["replicas"]) == ({"replicas": 2}, 5)


def test_the_generation_counts_changes_of_the_spec_only(api: Api) -> None:
    assert api.create(DEPLOYMENTS, deployment())["metadata"]["generation"] == 1
    assert api.patch(f"{DEPLOYMENTS}/d", {"metadata": {"labels": {"a": "b"}}}).document["metadata"]["generation"] == 1
    assert api.patch(f"{DEPLOYMENTS}/d", {"spec": {"replicas": 3}}).document["metadata"]["generation"] == 2


def test_all_three_patches_do_what_they_say(api: Api) -> None:
    api.create(DEPLOYMENTS, deployment())
    added = {"op": "add", "path": "/metadata/labels", "value": {"a": "1"}}
    assert api.patch(f"{DEPLOYMENTS}/d", [added], "json").document["metadata"]["labels"] == {"a": "1"}
    merged = api.patch(f"{DEPLOYMENTS}/d", {"metadata": {"labels": {"a": None, "b": "2"}}}).document
    assert merged["metadata"]["labels"] == {"b": "2"}
    patch = {
        "spec": {
            "template": {"spec": {"containers": [{"name": "c", "image": "busybox:2"}, {"name": "e", "image": "x:1"}]}}
        }
    }
    containers = api.patch(f"{DEPLOYMENTS}/d", patch, "strategic").document["spec"]["template"]["spec"]["containers"]
    assert [(entry["name"], entry["image"]) for entry in containers] == [("c", "busybox:2"), ("e", "x:1")]


def test_a_failed_json_patch_test_is_unprocessable(api: Api) -> None:
    api.create(MAPS, config_map(a="1"))
    answer = api.patch(f"{MAPS}/m", [{"op": "test", "path": "/data/a", "value": "2"}], "json")
    assert (answer.code, answer.document["reason"]) == (422, "Invalid")


def test_a_patch_with_a_stale_revision_is_a_conflict(api: Api) -> None:
    old = api.create(MAPS, config_map(a="1"))
    api.patch(f"{MAPS}/m", {"data": {"a": "2"}})
    stale = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"a": "3"}}
    assert api.patch(f"{MAPS}/m", stale).code == 409


def test_nothing_is_created_in_a_namespace_that_is_missing_or_ending(api: Api) -> None:
    missing = api.post("/api/v1/namespaces/none/configmaps", config_map())
    assert (missing.code, missing.message) == (404, 'namespaces "none" not found')
    api.create("/api/v1/namespaces", {"metadata": {"name": "going"}})
    api.delete("/api/v1/namespaces/going")
    ending = api.post("/api/v1/namespaces/going/configmaps", config_map())
    assert (ending.code, ending.document["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")


def test_selectors_of_workloads_cannot_change(api: Api) -> None:
    api.create(DEPLOYMENTS, deployment())
    labels = {"app": "d", "more": "1"}
    patch = {"spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}}
    answer = api.patch(f"{DEPLOYMENTS}/d", patch)
    assert answer.code == 422
    assert answer.message.startswith('Deployment.apps "d" is invalid: spec.selector: Invalid value:')
    assert answer.message.endswith("field is immutable")


def test_a_running_pods_spec_is_fixed_but_its_image_is_not(api: Api) -> None:
    api.create(PODS, pod())
    moved = api.patch(f"{PODS}/p", {"spec": {"nodeName": "elsewhere"}})
    assert (moved.code, "pod updates may not change fields other than" in moved.message) == (422, True)
    image = {"spec": {"containers": [{"name": "c", "image": "busybox:2"}]}}
    assert api.patch(f"{PODS}/p", image, "strategic").code == 200


def test_every_broken_rule_is_named_with_its_path(api: Api) -> None:
    answer = api.post(PODS, pod("P_1", containers=[{"name": "c"}], restartPolicy="Sometimes"))
    fields = {cause["field"] for cause in answer.document["details"]["causes"]}
    assert answer.code == 422
    assert fields == {"metadata.name", "spec.containers[0].image", "spec.restartPolicy"}


def test_bodies_that_make_no_sense_are_refused(api: Api) -> None:
    assert api.post(MAPS, b"{").code == 400
    assert api.post(MAPS, b"[]").code == 400
    assert api.post(MAPS, {"kind": "Secret", "apiVersion": "v1"}).code == 400
    assert api.post(MAPS, {"kind": "ConfigMap", "apiVersion": "v2"}).code == 400
    assert api.post(MAPS, b"a", media="text/plain").code == 415
    assert api.post(MAPS, b"a: &x [*x]", media="application/yaml").code == 400
    assert api.post(MAPS, b"[" * 100_000).code == 400


def test_yaml_is_read_and_written(api: Api) -> None:
    text = b"metadata: {name: y}\ndata: {when: 2026-01-01}\n"
    made = api.post(MAPS, text, media="application/yaml", accept="application/yaml")
    assert made.code == 201
    assert b"when: '2026-01-01'" in made.body


def test_the_events_group_shows_core_events_in_its_own_words(api: Api) -> None:
    about = {"kind": "Pod", "name": "p", "namespace": "default"}
    event = {"metadata": {"name": "e"}, "involvedObject": about, "message": "hello", "reason": "Why", "type": "Normal"}
    api.create("/api/v1/namespaces/default/events", event)
    seen = api.get("/apis/events.k8s.io/v1/namespaces/default/events/e").document
    assert (seen["apiVersion"], seen["note"], seen["regarding"]) == ("events.k8s.io/v1", "hello", about)
    other = {
        "metadata": {"name": "f"},
        "regarding": about,
        "note": "again",
        "reason": "Why",
        "reportingController": "x",
    }
    api.create("/apis/events.k8s.io/v1/namespaces/default/events", other)
    assert api.get("/api/v1/namespaces/default/events/f").document["message"] == "again"

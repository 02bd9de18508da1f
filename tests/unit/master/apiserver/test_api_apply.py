"""Server-side apply and managedFields, as a client sees them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from labctl.runtime.clock import SystemClock
from labctl.runtime.loop import wait_for
from tests.unit.master.apiserver.harness import Answer, Api
from tests.unit.master.apiserver.objects import DEPLOYMENTS, MAPS, PODS, SERVICES, config_map, deployment, pod, service

Document = dict[str, Any]

CBOR = "application/apply-patch+cbor"


def apply(api: Api, target: str, body: Any, manager: str = "me", **options: str) -> Answer:
    query = "&".join(f"{key}={value}" for key, value in {"fieldManager": manager, **options}.items() if value)
    return api.patch(f"{target}?{query}", body, "apply")


def cm(name: str = "m", labels: Document | None = None, **data: str) -> Document:
    metadata = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **({"data": data} if data else {})}


def web(**spec: Any) -> Document:
    whole = deployment("d", **spec)
    return {"apiVersion": "apps/v1", "kind": "Deployment", **whole}


def owners(document: Document) -> dict[tuple[str, str, str], Document]:
    return {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): entry["fieldsV1"]
        for entry in document["metadata"].get("managedFields", ())
    }


def test_apply_creates_and_then_changes(api: Api) -> None:
    made = apply(api, f"{MAPS}/m", cm(a="1"))
    assert made.code == 201
    (entry,) = made.document["metadata"]["managedFields"]
    assert entry.pop("time")
    assert entry == {
        "manager": "me", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:a": {}}},
    }  # fmt: skip
    changed = apply(api, f"{MAPS}/m", cm(a="2", b="3"))
    assert (changed.code, changed.document["data"]) == (200, {"a": "2", "b": "3"})


def test_what_is_no_longer_applied_goes(api: Api) -> None:
    apply(api, f"{MAPS}/m", cm(a="1", b="2", labels={"x": "y"}))
    after = apply(api, f"{MAPS}/m", cm(a="1")).document
    assert (after["data"], after["metadata"].get("labels")) == ({"a": "1"}, None)


def test_what_somebody_else_owns_too_stays_when_one_of_them_lets_go(api: Api) -> None:
    apply(api, f"{MAPS}/m", cm(a="1", b="2"))
    apply(api, f"{MAPS}/m", cm(b="2"), "other")
    after = apply(api, f"{MAPS}/m", cm(a="1")).document
    assert after["data"] == {"a": "1", "b": "2"}
    assert owners(after)["other", "Apply", ""] == {"f:data": {"f:b": {}}}
    assert apply(api, f"{MAPS}/m", cm(), "other").document["data"] == {"a": "1"}


def test_a_conflict_names_the_owner_and_the_field(api: Api) -> None:
    api.post(f"{DEPLOYMENTS}?fieldManager=kubectl-client-side-apply", web(replicas=3))
    answer = apply(api, f"{DEPLOYMENTS}/d", web(replicas=4))
    assert (answer.code, answer.document["reason"]) == (409, "Conflict")
    assert answer.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas'
    )
    assert answer.document["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-client-side-apply" using apps/v1',
            "field": ".spec.replicas",
        }
    ]
    assert api.get(f"{DEPLOYMENTS}/d").document["spec"]["replicas"] == 3


def test_several_conflicts_are_listed_by_owner(api: Api) -> None:
    apply(api, f"{MAPS}/m", cm(a="1"), "one")
    apply(api, f"{MAPS}/m", cm(b="1"), "two")
    answer = apply(api, f"{MAPS}/m", cm(a="2", b="2"))
    assert answer.message == (
        'Apply failed with 2 conflicts: conflicts with "one":\n- .data.a\nconflicts with "two":\n- .data.b'
    )


def test_force_takes_the_field_from_its_owner(api: Api) -> None:
    apply(api, f"{MAPS}/m", cm(a="1", b="1"), "one")
    after = apply(api, f"{MAPS}/m", cm(a="2"), force="true").document
    assert after["data"] == {"a": "2", "b": "1"}
    assert owners(after) == {
        ("one", "Apply", ""): {"f:data": {"f:b": {}}},
        ("me", "Apply", ""): {"f:data": {"f:a": {}}},
    }


def test_the_same_value_is_shared_without_conflict_and_handed_over(api: Api) -> None:
    apply(api, f"{MAPS}/m", cm(a="1"), "one")
    assert apply(api, f"{MAPS}/m", cm(a="1"), "two").code == 200
    kept = apply(api, f"{MAPS}/m", cm(), "one").document
    assert kept["data"] == {"a": "1"}
    assert set(owners(kept)) == {("two", "Apply", "")}


def test_an_apply_that_changes_nothing_is_no_write(api: Api) -> None:
    first = apply(api, f"{MAPS}/m", cm(a="1")).document
    assert apply(api, f"{MAPS}/m", cm(a="1")).document == first


def test_the_hour_alone_does_not_make_an_apply_a_write(api: Api) -> None:
    made = apply(api, f"{DEPLOYMENTS}/d", web()).document
    long_ago = [{**entry, "time": "2020-01-01T00:00:00Z"} for entry in made["metadata"]["managedFields"]]
    aged = api.patch(f"{DEPLOYMENTS}/d", {"metadata": {"managedFields": long_ago, "labels": {"a": "b"}}}).document
    assert apply(api, f"{DEPLOYMENTS}/d", web()).document == aged


def test_fields_are_reset_to_their_defaults_when_nobody_wants_them(api: Api) -> None:
    apply(api, f"{DEPLOYMENTS}/d", web(replicas=5))
    body = web()
    del body["spec"]["replicas"]
    assert apply(api, f"{DEPLOYMENTS}/d", body).document["spec"]["replicas"] == 1


def test_list_items_belong_to_who_applied_them(api: Api) -> None:
    apply(api, f"{DEPLOYMENTS}/d", web())
    sidecar = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}
    sidecar["spec"] = {"template": {"spec": {"containers": [{"name": "s", "image": "side:1"}]}}}
    both = apply(api, f"{DEPLOYMENTS}/d", sidecar, "mesh").document
    assert [entry["name"] for entry in both["spec"]["template"]["spec"]["containers"]] == ["c", "s"]
    assert owners(both)["mesh", "Apply", ""] == {
        "f:spec": {
            "f:template": {"f:spec": {"f:containers": {'k:{"name":"s"}': {".": {}, "f:image": {}, "f:name": {}}}}}
        }
    }
    del sidecar["spec"]
    alone = apply(api, f"{DEPLOYMENTS}/d", sidecar, "mesh").document
    assert [entry["name"] for entry in alone["spec"]["template"]["spec"]["containers"]] == ["c"]


def test_the_protocol_of_a_port_need_not_be_said_to_mean_the_same_port(api: Api) -> None:
    about = {"apiVersion": "v1", "kind": "Service", **service(ports=[{"port": 80, "name": "web"}])}
    made = apply(api, f"{SERVICES}/s", about).document
    ports = owners(made)["me", "Apply", ""]["f:spec"]["f:ports"]
    assert list(ports) == ['k:{"port":80,"protocol":"TCP"}']
    about["spec"]["ports"] = [
        {"port": 80, "protocol": "TCP", "name": "web"},
        {"port": 80, "protocol": "UDP", "name": "u"},
    ]
    after = apply(api, f"{SERVICES}/s", about).document
    assert [(port["port"], port["protocol"]) for port in after["spec"]["ports"]] == [(80, "TCP"), (80, "UDP")]


def test_an_atomic_field_has_one_owner_and_changes_as_a_whole(api: Api) -> None:
    apply(api, f"{DEPLOYMENTS}/d", web())
    selector = owners(api.get(f"{DEPLOYMENTS}/d").document)["me", "Apply", ""]["f:spec"]["f:selector"]
    assert selector == {}
    about = web()
    about["spec"]["selector"]["matchLabels"]["app"] = "other"
    answer = apply(api, f"{DEPLOYMENTS}/d", about, "thief")
    assert ".spec.selector" in answer.message


def test_set_lists_are_shared_item_by_item(api: Api) -> None:
    about = cm(a="1")
    apply(api, f"{MAPS}/m", {**about, "metadata": {"name": "m", "finalizers": ["x.y/one"]}})
    mine = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "finalizers": ["x.y/two"]}}
    both = apply(api, f"{MAPS}/m", mine, "other").document
    assert both["metadata"]["finalizers"] == ["x.y/one", "x.y/two"]
    assert owners(both)["other", "Apply", ""] == {"f:metadata": {"f:finalizers": {'v:"x.y/two"': {}}}}
    left = apply(api, f"{MAPS}/m", about).document
    assert left["metadata"]["finalizers"] == ["x.y/two"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"kind": "ConfigMap", "apiVersion": "v2"}, "invalid object type: /v2, Kind=ConfigMap"),
        ({"kind": "Secret", "apiVersion": "v1"}, "invalid object type: /v1, Kind=Secret"),
        ({}, "invalid object type: /, Kind="),
        ({**cm(), "datum": 1}, ".datum: field not declared in schema"),
        ({**cm(), "data": {"a": 1}}, "failed to create typed patch object (default/m; /v1, Kind=ConfigMap): "),
        ({**cm(), "metadata": {"name": "n"}}, "the name of the object (n) does not match the name on the URL (m)"),
        ({**cm(), "metadata": {"managedFields": []}}, "metadata.managedFields must be nil"),
        (b"a: [", "error decoding YAML: "),
        (b"[1]", "error decoding YAML: "),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(api: Api, body: Any, told: str) -> None:
    answer = apply(api, f"{MAPS}/m", body)
    assert (answer.code, answer.document["reason"]) == (400, "BadRequest")
    assert told in answer.message


def test_an_item_that_comes_twice_is_refused(api: Api) -> None:
    about = web()
    ports = [{"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}]
    about["spec"]["template"]["spec"]["containers"][0]["ports"] = ports
    answer = apply(api, f"{DEPLOYMENTS}/d", about)
    assert answer.code == 400
    assert answer.message.endswith(
        '.spec.template.spec.containers[name="c"].ports: duplicate entries for key [containerPort=80,protocol="TCP"]'
    )


def test_apply_wants_to_know_who_applies(api: Api) -> None:
    answer = apply(api, f"{MAPS}/m", cm(), "")
    assert (answer.code, answer.message) == (
        422,
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
    )
    assert apply(api, f"{MAPS}/m", cm(), "x" * 129).code == 422


def test_only_apply_can_be_forced(api: Api) -> None:
    api.create(MAPS, config_map(a="1"))
    answer = api.patch(f"{MAPS}/m?force=true", {"data": {"a": "2"}})
    assert (answer.code, "force: Forbidden: may not be specified for non-apply patch" in answer.message) == (422, True)


def test_cbor_is_not_accepted(api: Api) -> None:
    answer = api.call("PATCH", f"{MAPS}/m?fieldManager=me", b"\xa0", media=CBOR)
    assert (answer.code, answer.document["reason"]) == (415, "UnsupportedMediaType")


def test_yaml_is_what_apply_speaks(api: Api) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: '1'}\n"
    assert apply(api, f"{MAPS}/m", text).document["data"] == {"a": "1"}


def test_a_dry_run_tells_and_stores_nothing(api: Api) -> None:
    assert apply(api, f"{MAPS}/m", cm(a="1"), dryRun="All").code == 201
    assert api.get(f"{MAPS}/m").code == 404
    apply(api, f"{MAPS}/m", cm(a="1"))
    assert apply(api, f"{MAPS}/m", cm(a="2"), dryRun="All").document["data"] == {"a": "2"}
    assert api.get(f"{MAPS}/m").document["data"] == {"a": "1"}


def test_an_apply_that_means_one_version_or_one_object_is_held_to_it(api: Api) -> None:
    made = apply(api, f"{MAPS}/m", cm(a="1")).document
    stale = cm(a="2")
    stale["metadata"]["resourceVersion"] = "1"
    assert apply(api, f"{MAPS}/m", stale).code == 409
    other = cm("n", a="2")
    other["metadata"]["uid"] = made["metadata"]["uid"]
    answer = apply(api, f"{MAPS}/n", other)
    assert (answer.code, "no existing object was found" in answer.message) == (409, True)


def test_status_is_applied_on_its_own_endpoint_only(api: Api) -> None:
    apply(api, f"{DEPLOYMENTS}/d", {**web(), "status": {"replicas": 7}})
    assert not api.get(f"{DEPLOYMENTS}/d").document.get("status")
    about = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "status": {"replicas": 7}}
    after = apply(api, f"{DEPLOYMENTS}/d/status", {**about, "spec": {"replicas": 9}}, "controller").document
    assert (after["status"]["replicas"], after["spec"]["replicas"]) == (7, 2)
    assert owners(after)["controller", "Apply", "status"] == {"f:status": {"f:replicas": {}}}
    missing = {**about, "metadata": {"name": "none"}}
    assert apply(api, f"{DEPLOYMENTS}/none/status", missing).code == 404


def test_scale_is_applied_as_replicas_of_the_workload(api: Api) -> None:
    apply(api, f"{DEPLOYMENTS}/d", web(replicas=2))
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 5}}
    answer = apply(api, f"{DEPLOYMENTS}/d/scale", scale, "scaler")
    assert (answer.code, answer.document["details"]["causes"][0]["field"]) == (409, ".spec.replicas")
    done = apply(api, f"{DEPLOYMENTS}/d/scale", scale, "scaler", force="true").document
    assert (done["kind"], done["spec"]) == ("Scale", {"replicas": 5})
    after = owners(api.get(f"{DEPLOYMENTS}/d").document)
    assert after["scaler", "Apply", "scale"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in after["me", "Apply", ""]["f:spec"]
    again = apply(api, f"{DEPLOYMENTS}/d", web(replicas=3))
    assert again.message == (
        'Apply failed with 1 conflict: conflict with "scaler" with subresource "scale": .spec.replicas'
    )


def test_keys_that_come_twice_are_told(api: Api) -> None:
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":{"a":"1","a":"2"}}'
    told = apply(api, f"{MAPS}/m", body)
    assert (told.code, told.document["data"]) == (201, {"a": "2"})
    assert 'key "a" already set in map' in told.warnings[0]
    assert apply(api, f"{MAPS}/m", body, fieldValidation="Ignore").warnings == []
    strict = apply(api, f"{MAPS}/m", body, fieldValidation="Strict")
    assert (strict.code, strict.message.startswith("error strict decoding YAML: ")) == (400, True)


def test_who_may_patch_may_not_therefore_create(api: Api) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    api.create(f"{rbac}/roles", {"metadata": {"name": "patcher"}, "rules": rules})
    subject = {"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "Role", "name": "patcher", "apiGroup": "rbac.authorization.k8s.io"}
    api.create(f"{rbac}/rolebindings", {"metadata": {"name": "patcher"}, "subjects": [subject], "roleRef": role})
    ann = api.as_user("ann")

    def only_create_is_refused() -> bool:
        refused = apply(ann, f"{MAPS}/m", cm(a="1"))
        assert refused.code == 403
        return 'cannot create resource "configmaps"' in refused.message

    wait_for(only_create_is_refused, what="the role to count", deadline_s=10, clock=SystemClock(), every_s=0.01)
    apply(api, f"{MAPS}/m", cm(a="1"))
    assert apply(ann, f"{MAPS}/m", cm(b="1"), "ann").code == 200


def test_an_apply_that_is_overtaken_by_a_create_merges_into_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = api.server.context.storage
    create = type(storage).create
    rivals = iter([config_map(b="theirs")])

    def late(self: Any, kind: Any, namespace: str, document: Document) -> bytes:
        if (rival := next(rivals, None)) is not None:
            api.create(f"{MAPS}?fieldManager=rival", rival)
        return create(self, kind, namespace, document)

    monkeypatch.setattr(type(storage), "create", late)
    answer = apply(api, f"{MAPS}/m", cm(a="1"))
    assert (answer.code, answer.document["data"]) == (200, {"a": "1", "b": "theirs"})
    assert set(owners(answer.document)) == {("rival", "Update", ""), ("me", "Apply", "")}


# --- other writes ---------------------------------------------------------------------------------------------------


def test_who_creates_owns_what_they_gave_and_what_is_defaulted_with_it(api: Api) -> None:
    made = api.create(f"{PODS}?fieldManager=creator", pod(labels={"a": "b"}))
    mine = owners(made)["creator", "Update", ""]
    assert mine["f:metadata"] == {"f:labels": {".": {}, "f:a": {}}}
    assert mine["f:spec"]["f:restartPolicy"] == {}
    container = mine["f:spec"]["f:containers"]['k:{"name":"c"}']
    assert {".", "f:image", "f:imagePullPolicy", "f:name"} <= set(container)
    assert "f:status" not in mine
    assert "f:tolerations" not in mine["f:spec"]  # admission added them


def test_every_write_is_noted_under_its_writer(api: Api) -> None:
    api.create(f"{MAPS}?fieldManager=one", config_map(a="1", b="1"))
    api.patch(f"{MAPS}/m?fieldManager=two", {"data": {"a": "2"}})
    whole = api.get(f"{MAPS}/m").document
    whole["data"]["c"] = "3"
    del whole["data"]["b"]
    after = api.put(f"{MAPS}/m?fieldManager=three", whole).document
    assert owners(after) == {
        ("one", "Update", ""): {"f:data": {}},
        ("two", "Update", ""): {"f:data": {"f:a": {}}},
        ("three", "Update", ""): {"f:data": {"f:c": {}}},
    }


def test_status_writes_have_an_entry_of_their_own(api: Api) -> None:
    api.create(f"{PODS}?fieldManager=creator", pod())
    status = {"status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}}
    after = api.patch(f"{PODS}/p/status?fieldManager=kubelet", status, "strategic").document
    mine = owners(after)["kubelet", "Update", "status"]["f:status"]
    assert mine["f:podIP"] == {}
    assert mine["f:conditions"]['k:{"type":"Ready"}'] == {".": {}, "f:status": {}, "f:type": {}}


def test_scaling_has_an_entry_of_its_own_about_the_workload(api: Api) -> None:
    api.create(f"{DEPLOYMENTS}?fieldManager=one", deployment())
    api.patch(f"{DEPLOYMENTS}/d/scale?fieldManager=scaler", {"spec": {"replicas": 7}})
    (entry,) = [
        entry
        for entry in api.get(f"{DEPLOYMENTS}/d").document["metadata"]["managedFields"]
        if entry["manager"] == "scaler"
    ]
    assert (entry["operation"], entry["subresource"], entry["apiVersion"]) == ("Update", "scale", "apps/v1")
    assert entry["fieldsV1"] == {"f:spec": {"f:replicas": {}}}


def test_owners_cannot_be_set_through_a_subresource(api: Api) -> None:
    made = api.create(f"{PODS}?fieldManager=one", pod())
    status = {**made["status"], "message": "x"}
    sent = {**made, "status": status, "metadata": {**made["metadata"], "managedFields": [{}]}}
    after = api.put(f"{PODS}/p/status?fieldManager=kubelet", sent).document
    assert set(owners(after)) == {("one", "Update", ""), ("kubelet", "Update", "status")}


def test_an_event_is_owned_in_the_words_of_the_group_it_came_through(api: Api) -> None:
    about = {"kind": "Pod", "name": "p", "namespace": "default"}
    event = {"metadata": {"name": "f"}, "regarding": about, "note": "hello", "reason": "Why"}
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    made = api.create(f"{path}?fieldManager=one", event)
    (entry,) = made["metadata"]["managedFields"]
    assert (entry["apiVersion"], entry["fieldsV1"]["f:note"]) == ("events.k8s.io/v1", {})
    core = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "f"}, "message": "bye"}
    answer = apply(api, "/api/v1/namespaces/default/events/f", core)
    assert answer.message == ('Apply failed with 1 conflict: conflict with "one" using events.k8s.io/v1: .note')


def test_a_client_that_says_no_name_is_known_by_its_user_agent(api: Api) -> None:
    made = api.create(MAPS, config_map(a="1"))
    assert set(owners(made)) == {("unknown", "Update", "")}


def test_a_write_that_changes_nothing_leaves_the_owners_alone(api: Api) -> None:
    made = api.create(f"{MAPS}?fieldManager=one", config_map(a="1"))
    assert api.put(f"{MAPS}/m?fieldManager=two", made).document == made
    assert api.patch(f"{MAPS}/m?fieldManager=two", {"data": {"a": "1"}}).document == made
    whole = {key: value for key, value in made["metadata"].items() if key != "managedFields"}
    assert api.put(f"{MAPS}/m?fieldManager=two", {**made, "metadata": whole}).document == made


@pytest.mark.parametrize("nothing", [[], [{}]])
def test_owners_are_forgotten_on_request_and_begin_anew_with_an_apply(api: Api, nothing: list[Any]) -> None:
    api.create(f"{MAPS}?fieldManager=one", config_map(a="1", b="1"))
    cleared = api.patch(f"{MAPS}/m", {"metadata": {"managedFields": nothing}}).document
    assert "managedFields" not in cleared["metadata"]
    after = api.patch(f"{MAPS}/m", {"data": {"a": "2"}}).document
    assert "managedFields" not in after["metadata"]
    answer = apply(api, f"{MAPS}/m", cm(a="3"))
    assert answer.message == ('Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.a')
    assert apply(api, f"{MAPS}/m", cm(a="2")).code == 200


def test_owners_can_be_written_as_kubectl_does_when_it_moves_to_server_side_apply(api: Api) -> None:
    made = api.create(f"{MAPS}?fieldManager=kubectl-client-side-apply", config_map(a="1"))
    (entry,) = made["metadata"]["managedFields"]
    moved = [{**entry, "manager": "kubectl", "operation": "Apply"}]
    patch = [
        {"op": "replace", "path": "/metadata/managedFields", "value": moved},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
    ]
    after = api.patch(f"{MAPS}/m", patch, "json").document
    assert set(owners(after)) == {("kubectl", "Apply", "")}
    assert apply(api, f"{MAPS}/m", cm(b="2"), "kubectl").document["data"] == {"b": "2"}


def test_owners_that_make_no_sense_are_ignored(api: Api) -> None:
    made = api.create(f"{MAPS}?fieldManager=one", config_map(a="1"))
    (entry,) = made["metadata"]["managedFields"]
    wrong: tuple[Document, ...] = (
        {"operation": "Eat"}, {"fieldsType": "X"}, {"fieldsV1": {"x": {}}}, {"apiVersion": ""},
    )  # fmt: skip
    for bad in wrong:
        after = api.patch(f"{MAPS}/m", {"metadata": {"managedFields": [{**entry, **bad}]}})
        assert (after.code, owners(after.document)) == (200, owners(made))


def test_no_more_than_ten_updaters_are_kept_apart(api: Api) -> None:
    api.create(f"{MAPS}?fieldManager=m0", config_map(k0="0"))
    for number in range(1, 15):
        api.patch(f"{MAPS}/m?fieldManager=m{number}", {"data": {f"k{number}": "x"}})
    found = owners(api.get(f"{MAPS}/m").document)
    assert len(found) == 10
    assert ("ancient-changes", "Update", "") in found
    everything: set[str] = set().union(*(fields["f:data"] for fields in found.values()))
    assert {f"f:k{number}" for number in range(15)} <= everything


def test_kubectl_takes_over_what_it_applied_client_side_before(api: Api) -> None:
    last = cm(a="1")
    annotation = {"kubectl.kubernetes.io/last-applied-configuration": msgspec.json.encode(last).decode()}
    made = {**last, "metadata": {"name": "m", "annotations": annotation}}
    api.create(f"{MAPS}?fieldManager=kubectl-client-side-apply", made)
    answer = apply(api, f"{MAPS}/m", cm(a="2"), "kubectl")
    assert (answer.code, answer.document.get("data")) == (200, {"a": "2"})
    noted = answer.document["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert msgspec.json.decode(noted)["data"] == {"a": "2"}


def test_versions_of_one_object_keep_their_own_words(api: Api) -> None:
    path = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers"
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3}
    one = {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": spec}
    assert apply(api, path.format("v1") + "/h", one).code == 201
    two = {**one, "apiVersion": "autoscaling/v2", "spec": {**spec, "maxReplicas": 4}}
    answer = apply(api, path.format("v2") + "/h", two, "other")
    assert (answer.code, answer.document["details"]["causes"][0]["field"]) == (409, ".spec.maxReplicas")
    after = apply(api, path.format("v2") + "/h", two, "other", force="true").document
    assert {entry["apiVersion"] for entry in after["metadata"]["managedFields"]} == {"autoscaling/v1", "autoscaling/v2"}

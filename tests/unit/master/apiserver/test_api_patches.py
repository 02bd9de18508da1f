"""JSON patch, merge patch and strategic merge patch, as a client sees them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import DEPLOYMENTS, MAPS, PODS, config_map, deployment, pod

Document = dict[str, Any]

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


@pytest.fixture
def stored(api: Api) -> Document:
    return api.create(DEPLOYMENTS, deployment())


@pytest.mark.parametrize("kind", ["merge", "strategic"])
@pytest.mark.parametrize(("mode", "code"), [("Strict", 422), ("Warn", 200), ("", 200), ("Ignore", 200)])
def test_unknown_fields_are_judged_as_asked(api: Api, stored: Document, kind: str, mode: str, code: int) -> None:
    answer = api.patch(f"{DEPLOYMENTS}/d?fieldValidation={mode}", {"spec": {"foo": 1, "replicas": 3}}, kind)
    assert answer.code == code
    assert answer.warnings == (['unknown field "spec.foo"'] if mode in {"", "Warn"} else [])
    if code == 422:
        assert answer.message.startswith(' "" is invalid: patch: Invalid value: "')
        assert answer.message.endswith('": strict decoding error: unknown field "spec.foo"')
        assert answer.document["details"]["causes"][0]["field"] == "patch"
        assert api.get(f"{DEPLOYMENTS}/d").document == stored


def test_a_strategic_patch_is_shown_as_go_shows_it(api: Api, stored: Document) -> None:
    answer = api.patch(f"{DEPLOYMENTS}/d?fieldValidation=Strict", {"spec": {"foo": 1}}, "strategic")
    assert 'Invalid value: "map[spec:map[foo:1]]": strict decoding error' in answer.message


def test_keys_that_come_twice_are_told(api: Api, stored: Document) -> None:
    body = b'{"spec": {"replicas": 3, "replicas": 4}}'
    answer = api.call("PATCH", f"{DEPLOYMENTS}/d", body, media=MERGE)
    assert (answer.code, answer.document["spec"]["replicas"]) == (200, 4)
    assert answer.warnings == ['duplicate field "spec.replicas"']
    refused = api.call("PATCH", f"{DEPLOYMENTS}/d?fieldValidation=Strict", body, media=STRATEGIC)
    assert (refused.code, 'strict decoding error: duplicate field "spec.replicas"' in refused.message) == (422, True)
    silent = api.call("PATCH", f"{DEPLOYMENTS}/d?fieldValidation=Ignore", body, media=MERGE)
    assert (silent.code, silent.warnings) == (200, [])


def test_members_that_no_json_patch_has_are_told(api: Api, stored: Document) -> None:
    body = b'[{"op": "add", "path": "/metadata/labels", "value": {}, "why": 1, "op": "add"}]'
    answer = api.call("PATCH", f"{DEPLOYMENTS}/d", body, media=JSON)
    assert answer.warnings == ['json patch duplicate field "[0].op"', 'json patch unknown field "[0].why"']


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("merge", {"spec": {"replicas": "x"}}, 422),
        ("strategic", {"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}, 400),
        ("strategic", {"spec": {"$patch": "explode"}}, 400),
        ("merge", [], 400),
        ("merge", b"{", 400),
        ("merge", b"spec: {}", 400),  # YAML is what apply speaks, not what patches speak
        ("strategic", b"null", 400),
        ("json", {}, 400),
        ("json", [{"op": "jump", "path": "/"}], 400),
        ("json", [{"op": "remove", "path": "/spec/none"}], 422),
        ("json", [{"op": "test", "path": "/spec/replicas", "value": 9}], 422),
        ("json", [{"op": "replace", "path": "", "value": []}], 400),
        ("json", [{"op": "test", "path": "/kind", "value": "Deployment"}] * 10_001, 413),
        ("merge", {"metadata": {"name": "other"}}, 400),
        ("merge", {"metadata": {"namespace": "other"}}, 400),
        ("merge", {"metadata": None}, 400),
        ("merge", {"kind": "Pod"}, 422),
        ("merge", {"apiVersion": "v1"}, 422),
        ("merge", {"metadata": {"uid": "other"}}, 409),
    ],
)
def test_a_patch_that_cannot_be_is_refused_and_changes_nothing(
    api: Api, stored: Document, kind: str, body: Any, code: int
) -> None:
    assert api.patch(f"{DEPLOYMENTS}/d", body, kind).code == code
    assert api.get(f"{DEPLOYMENTS}/d").document == stored


def test_a_failed_test_says_so_after_upstreams_words(api: Api, stored: Document) -> None:
    answer = api.patch(f"{DEPLOYMENTS}/d", [{"op": "test", "path": "/spec/replicas", "value": 9}], "json")
    assert answer.document["reason"] == "Invalid"
    assert answer.message.startswith("the server rejected our request due to an error in our request")
    assert "test failed" in answer.message


def test_another_name_is_told_with_both(api: Api, stored: Document) -> None:
    answer = api.patch(f"{DEPLOYMENTS}/d", {"metadata": {"name": "e"}})
    assert answer.message == "the name of the object (e) does not match the name on the URL (d)"


def test_the_media_types_that_patch_speaks_are_listed(api: Api, stored: Document) -> None:
    answer = api.call("PATCH", f"{DEPLOYMENTS}/d", b"{}", media="application/json")
    assert answer.code == 415
    assert answer.message == (
        "the body of the request was in an unknown format - accepted media types include:"
        " application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json,"
        " application/apply-patch+yaml"
    )


def test_a_patch_of_an_older_version_is_a_conflict_and_one_without_is_merged(api: Api, stored: Document) -> None:
    before = stored["metadata"]["resourceVersion"]
    api.patch(f"{DEPLOYMENTS}/d", {"metadata": {"labels": {"a": "b"}}})
    stale = [
        ("merge", {"metadata": {"resourceVersion": before}, "spec": {"replicas": 5}}),
        ("strategic", {"metadata": {"resourceVersion": before}, "spec": {"replicas": 5}}),
        ("json", [{"op": "replace", "path": "/metadata/resourceVersion", "value": before}]),
    ]
    for kind, body in stale:
        answer = api.patch(f"{DEPLOYMENTS}/d", body, kind)
        assert (answer.code, answer.document["reason"]) == (409, "Conflict")
    merged = api.patch(f"{DEPLOYMENTS}/d", {"spec": {"replicas": 5}}).document
    assert (merged["metadata"]["labels"], merged["spec"]["replicas"]) == ({"a": "b"}, 5)


def test_a_patch_without_a_version_wins_against_a_writer_between_read_and_write(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create(MAPS, config_map(a="1"))
    store = api.server.context.storage.store
    update, rivals = store.update, iter(["b", "c", "d"])

    def late(key: str, value: bytes, *, expected: int, ttl_s: int = 0) -> int:
        if (rival := next(rivals, None)) is not None:
            raw = store.get(key)[0]
            assert raw is not None
            document = msgspec.json.decode(raw.value)
            document["data"][rival] = "theirs"
            update(key, msgspec.json.encode(document), expected=raw.revision, ttl_s=ttl_s)
        return update(key, value, expected=expected, ttl_s=ttl_s)

    monkeypatch.setattr(store, "update", late)
    answer = api.patch(f"{MAPS}/m", [{"op": "replace", "path": "/data/a", "value": "2"}], "json")
    assert (answer.code, answer.document["data"]) == (200, {"a": "2", "b": "theirs", "c": "theirs", "d": "theirs"})


def test_a_patch_of_status_leaves_the_rest_alone(api: Api) -> None:
    api.create(PODS, pod(labels={"a": "b"}))
    patch = {"status": {"phase": "Running"}, "spec": {"nodeName": "elsewhere"}}
    after = api.patch(f"{PODS}/p/status", patch).document
    assert (after["status"]["phase"], after["spec"].get("nodeName")) == ("Running", None)


def test_conditions_merge_by_type(api: Api) -> None:
    api.create(PODS, pod())
    for kind, status in (("Ready", "False"), ("Initialized", "True"), ("Ready", "True")):
        patch = {"status": {"conditions": [{"type": kind, "status": status}]}}
        after = api.patch(f"{PODS}/p/status", patch, "strategic").document
    found = {entry["type"]: entry["status"] for entry in after["status"]["conditions"]}
    assert found == {"Ready": "True", "Initialized": "True"}


def test_a_dry_run_shows_and_stores_nothing(api: Api, stored: Document) -> None:
    assert api.patch(f"{DEPLOYMENTS}/d?dryRun=All", {"spec": {"replicas": 9}}).document["spec"]["replicas"] == 9
    assert api.get(f"{DEPLOYMENTS}/d").document == stored

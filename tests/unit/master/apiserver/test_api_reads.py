"""Lists, pages, selectors, freshness, Tables and metadata forms."""

from __future__ import annotations

from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import DEPLOYMENTS, MAPS, PODS, config_map, deployment, pod

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


def names(document: dict) -> list[str]:  # type: ignore[type-arg]
    return [entry["metadata"]["name"] for entry in document["items"]]


def test_pages_together_are_the_list_as_it_was_when_it_began(api: Api) -> None:
    for number in range(5):
        api.create(MAPS, config_map(f"m{number}"))
    first = api.get(f"{MAPS}?limit=2").document
    assert first["metadata"]["remainingItemCount"] == 3
    api.create(MAPS, config_map("m25"))
    api.delete(f"{MAPS}/m3")
    token = first["metadata"]["continue"]
    second = api.get(f"{MAPS}?limit=2&continue={token}").document
    third = api.get(f"{MAPS}?limit=2&continue={second['metadata']['continue']}").document
    assert names(first) + names(second) + names(third) == ["m0", "m1", "m2", "m3", "m4"]
    assert "continue" not in third["metadata"]
    versions = {page["metadata"]["resourceVersion"] for page in (first, second, third)}
    assert len(versions) == 1


def test_a_continue_token_that_was_not_ours_is_refused(api: Api) -> None:
    assert api.get(f"{MAPS}?limit=1&continue=nonsense").code == 400


def test_a_continue_token_of_a_compacted_revision_is_expired(api: Api) -> None:
    for number in range(3):
        api.create(MAPS, config_map(f"m{number}"))
    token = api.get(f"{MAPS}?limit=1").document["metadata"]["continue"]
    made = api.create(MAPS, config_map("later"))
    assert len(names(api.get(MAPS).document)) == 4  # the cache is past the token's revision
    api.server.context.storage.store.compact(int(made["metadata"]["resourceVersion"]))
    answer = api.get(f"{MAPS}?limit=1&continue={token}")
    assert (answer.code, answer.document["reason"]) == (410, "Expired")
    onward = answer.document["metadata"]["continue"]
    assert names(api.get(f"{MAPS}?continue={onward}").document) == ["m1", "m2"]


def test_selectors_choose_by_label_and_field(api: Api) -> None:
    api.create(PODS, pod("a", node="n1", labels={"app": "x"}))
    api.create(PODS, pod("b", labels={"app": "y"}))
    assert names(api.get(f"{PODS}?labelSelector=app%20in%20(x)").document) == ["a"]
    assert names(api.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").document) == ["a"]
    assert names(api.get(f"{PODS}?fieldSelector=metadata.name!%3Da").document) == ["b"]
    assert names(api.get(f"{PODS}?fieldSelector=status.phase%3DPending").document) == ["a", "b"]


def test_selectors_that_cannot_be_understood_are_refused(api: Api) -> None:
    assert api.get(f"{PODS}?labelSelector=%2F%2F").code == 400
    unknown = api.get(f"{PODS}?fieldSelector=spec.colour%3Dred")
    assert (unknown.code, "field label not supported: spec.colour" in unknown.message) == (400, True)


def test_an_exact_revision_is_read_as_it_was(api: Api) -> None:
    made = api.create(MAPS, config_map(a="1"))
    api.patch(f"{MAPS}/m", {"data": {"a": "2"}})
    version = made["metadata"]["resourceVersion"]
    old = api.get(f"{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact").document
    assert old["items"][0]["data"] == {"a": "1"}


def test_a_revision_from_the_future_times_out(api: Api) -> None:
    assert api.get(f"{MAPS}?resourceVersion=999999").code == 504


def test_a_missing_object_is_not_found_in_upstreams_words(api: Api) -> None:
    answer = api.get(f"{DEPLOYMENTS}/none")
    assert (answer.code, answer.message) == (404, 'deployments.apps "none" not found')
    assert answer.document["details"] == {"name": "none", "group": "apps", "kind": "deployments"}


def test_a_resource_that_is_not_served_is_answered_as_kubernetes_does(api: Api) -> None:
    for path in ("/api/v1/namespaces/default/widgets", "/apis/example.com/v1/things", "/api/v2", f"{PODS}/p/sub"):
        answer = api.get(path)
        assert (answer.code, answer.message) == (404, "the server could not find the requested resource")


def test_a_table_has_upstreams_columns_and_carries_metadata(api: Api) -> None:
    api.create(PODS, pod())
    table = api.get(PODS, accept=TABLE).document
    shown = [column["name"] for column in table["columnDefinitions"] if not column["priority"]]
    assert (table["kind"], shown) == ("Table", ["Name", "Ready", "Status", "Restarts", "Age"])
    assert table["rows"][0]["cells"][:4] == ["p", "0/1", "Pending", "0"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


def test_a_table_row_carries_the_whole_object_if_asked(api: Api) -> None:
    api.create(PODS, pod())
    table = api.get(f"{PODS}?includeObject=Object", accept=TABLE).document
    assert table["rows"][0]["object"]["spec"]["containers"]


def test_a_metadata_list_has_nothing_else(api: Api) -> None:
    api.create(DEPLOYMENTS, deployment())
    found = api.get(DEPLOYMENTS, accept=METADATA).document
    assert found["kind"] == "PartialObjectMetadataList"
    assert set(found["items"][0]) == {"kind", "apiVersion", "metadata"}


def test_a_format_that_is_not_served_is_refused_but_a_second_choice_is_taken(api: Api) -> None:
    refused = api.get(PODS, accept="text/html")
    assert (refused.code, refused.document["reason"]) == (406, "NotAcceptable")
    assert api.get(PODS, accept="text/html,application/json").code == 200


def test_a_field_that_is_no_text_can_be_selected_by(api: Api) -> None:
    api.create(PODS, pod("host", hostNetwork=True))
    api.create(PODS, pod("own"))
    assert names(api.get(f"{PODS}?fieldSelector=spec.hostNetwork%3Dtrue").document) == ["host"]
    assert names(api.get(f"{PODS}?fieldSelector=spec.hostNetwork%3Dfalse").document) == ["own"]

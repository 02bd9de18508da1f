"""Watches over the API: what comes, in which order, and how it ends."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.unit.master.apiserver.harness import Answer, Api
from tests.unit.master.apiserver.objects import MAPS, PODS, config_map, pod

Event = dict[str, Any]


def events(answer: Answer) -> list[Event]:
    assert answer.code == 200, answer.body
    return [msgspec.json.decode(line) for line in answer.body.splitlines()]


def told(answer: Answer) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events(answer)]


def test_a_watch_goes_on_exactly_after_the_list(api: Api) -> None:
    api.create(MAPS, config_map("a"))
    version = api.get(MAPS).document["metadata"]["resourceVersion"]
    api.create(MAPS, config_map("b"))
    api.patch(f"{MAPS}/b", {"data": {"x": "y"}})
    api.delete(f"{MAPS}/a")
    seen = told(api.get(f"{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=1"))
    assert seen == [("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "a")]


def test_a_watch_without_a_revision_begins_with_what_is_there(api: Api) -> None:
    api.create(MAPS, config_map("a"))
    assert told(api.get(f"{MAPS}?watch=1&timeoutSeconds=1")) == [("ADDED", "a")]


def test_initial_events_end_with_a_marked_bookmark(api: Api) -> None:
    api.create(MAPS, config_map("a"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    first, mark = events(api.get(f"{MAPS}?{query}"))
    assert (first["type"], mark["type"]) == ("ADDED", "BOOKMARK")
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(mark["object"]["metadata"]["resourceVersion"]) >= int(first["object"]["metadata"]["resourceVersion"])


def test_initial_events_need_the_right_match(api: Api) -> None:
    assert api.get(f"{MAPS}?watch=1&sendInitialEvents=true").code == 422
    assert api.get(f"{MAPS}?watch=1&resourceVersionMatch=NotOlderThan").code == 422


def test_a_selector_shows_an_object_that_begins_to_match_as_added(api: Api) -> None:
    made = api.create(MAPS, config_map("a"))
    api.patch(f"{MAPS}/a", {"metadata": {"labels": {"k": "v"}}})
    api.patch(f"{MAPS}/a", {"metadata": {"labels": {"k": "w"}}})
    version = made["metadata"]["resourceVersion"]
    query = f"watch=1&labelSelector=k%3Dv&resourceVersion={version}&timeoutSeconds=1"
    assert told(api.get(f"{MAPS}?{query}")) == [("ADDED", "a"), ("DELETED", "a")]


def test_one_object_can_be_watched_by_its_path(api: Api) -> None:
    api.create(MAPS, config_map("a"))
    api.create(MAPS, config_map("b"))
    assert told(api.get(f"{MAPS}/b?watch=1&timeoutSeconds=1")) == [("ADDED", "b")]


def test_table_events_name_their_columns_once(api: Api) -> None:
    api.create(PODS, pod("a"))
    api.create(PODS, pod("b"))
    seen = events(api.get(f"{PODS}?watch=1&timeoutSeconds=1", accept="application/json;as=Table;v=v1;g=meta.k8s.io"))
    assert [event["object"]["rows"][0]["cells"][0] for event in seen] == ["a", "b"]
    assert seen[0]["object"]["columnDefinitions"]
    assert seen[1]["object"]["columnDefinitions"] is None


def test_a_deleted_object_carries_the_revision_of_its_delete(api: Api) -> None:
    made = api.create(MAPS, config_map("a"))
    version = made["metadata"]["resourceVersion"]
    api.delete(f"{MAPS}/a")
    (event,) = events(api.get(f"{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=1"))
    assert int(event["object"]["metadata"]["resourceVersion"]) > int(version)


def test_a_watch_ends_when_the_server_stops(api: Api) -> None:
    api.server.context.stop.set()
    assert api.get(f"{MAPS}?watch=1&timeoutSeconds=600").code in {200, 503}

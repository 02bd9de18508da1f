"""The same objects in every form: JSON, YAML, protobuf, metadata alone; watches; documents kept by hash."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from labctl.kube import protobuf
from labctl.kube.protobuf_encode import Encoder
from master.apiserver import schemas
from master.apiserver.negotiate import PROTOBUF, YAML, Form, negotiate, wants_aggregated
from tests.unit.master.apiserver.harness import Api
from tests.unit.master.apiserver.objects import MAPS, config_map, pod

PODS = "/api/v1/namespaces/default/pods"
TABLE = "as=Table;g=meta.k8s.io;v=v1"
PARTIAL = f"{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


def decoded(body: bytes) -> Any:
    return protobuf.decode(body, schemas.load())


def test_an_object_and_a_list_are_served_in_protobuf(api: Api) -> None:
    made = api.post(MAPS, config_map(a="1"), accept=PROTOBUF)
    assert (made.code, made.headers["Content-Type"]) == (201, PROTOBUF)
    in_json = api.get(f"{MAPS}/m").document
    assert decoded(made.body) == in_json
    assert decoded(api.get(f"{MAPS}/m", accept=PROTOBUF).body) == in_json
    listed = decoded(api.get(MAPS, accept=PROTOBUF).body)
    assert (listed["kind"], listed["metadata"].keys()) == ("ConfigMapList", {"resourceVersion"})
    kept = [item | {"kind": "ConfigMap", "apiVersion": "v1"} for item in listed["items"]]
    assert in_json in kept


def test_what_is_written_in_protobuf_is_read_back_the_same(api: Api) -> None:
    body = api.post(f"{PODS}?dryRun=All", pod("p"), accept=PROTOBUF).body
    document = decoded(body)
    for field in ("uid", "creationTimestamp"):
        del document["metadata"][field]
    answer = api.post(PODS, Encoder(schemas.load()).object(document), media=PROTOBUF)
    assert (answer.code, answer.document["spec"]) == (201, document["spec"])


def test_errors_and_deletes_are_told_in_protobuf(api: Api) -> None:
    missing = api.get(f"{MAPS}/absent", accept=PROTOBUF)
    status = decoded(missing.body)
    assert (missing.code, status["kind"], status["reason"], status["code"]) == (404, "Status", "NotFound", 404)
    api.create(MAPS, config_map())
    assert decoded(api.call("DELETE", f"{MAPS}/m", accept=PROTOBUF).body)["status"] == "Success"


def test_metadata_alone_comes_in_protobuf_too(api: Api) -> None:
    api.create(MAPS, config_map(a="1"))
    one = api.get(f"{MAPS}/m", accept=PARTIAL)
    assert b"PartialObjectMetadata" in one.body
    assert b"data" not in one.body.replace(b"PartialObjectMetadata", b"").replace(b"f:data", b"")
    many = api.get(MAPS, accept=PARTIAL.replace("Metadata;", "MetadataList;"))
    assert b"PartialObjectMetadataList" in many.body


def _fields(message: bytes) -> dict[int, bytes]:
    fields = protobuf._fields(memoryview(message))
    return {number: bytes(value) for number, value in fields if not isinstance(value, int)}


def frames(body: bytes) -> list[tuple[str, Any]]:
    found = []
    while body:
        size = int.from_bytes(body[:4], "big")
        event, body = body[4 : 4 + size], body[4 + size :]
        parts = _fields(event)
        found.append((parts[1].decode(), decoded(_fields(parts[2])[1])))
    return found


def test_a_watch_in_protobuf_is_frames_with_a_length(api: Api) -> None:
    version = api.get(MAPS).document["metadata"]["resourceVersion"]
    api.create(MAPS, config_map(a="1"))
    api.delete(f"{MAPS}/m")
    answer = api.get(f"{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=1", accept=PROTOBUF)
    assert answer.headers["Content-Type"] == f"{PROTOBUF};stream=watch"
    told = [(event, document["metadata"]["name"]) for event, document in frames(answer.body)]
    assert told == [("ADDED", "m"), ("DELETED", "m")]


def test_a_watch_in_protobuf_marks_the_end_of_its_initial_events(api: Api) -> None:
    api.create(MAPS, config_map())
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    event, document = frames(api.get(f"{MAPS}?{query}", accept=PROTOBUF).body)[-1]
    assert (event, document["kind"]) == ("BOOKMARK", "ConfigMap")
    assert document["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_watch_has_no_yaml_form(api: Api) -> None:
    refused = api.get(f"{MAPS}?watch=1", accept=YAML)
    assert (refused.code, b"reason: NotAcceptable" in refused.body) == (406, True)


def test_discovery_comes_in_every_form(api: Api) -> None:
    assert decoded(api.get("/apis/apps", accept=PROTOBUF).body)["name"] == "apps"
    assert b"kind: APIGroupList" in api.get("/apis", accept=YAML).body
    assert api.get("/apis", accept="text/html").code == 406


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Form()),
        ("*/*", Form()),
        (f"{PROTOBUF},application/json", Form(PROTOBUF)),
        (f"{PROTOBUF};q=0.5, application/json", Form()),
        ("application/*;q=0.1,application/yaml;q=0.9", Form(YAML)),
        ("*/*,application/yaml", Form(YAML)),
        ("application/json;charset=utf-8", Form()),
        (f"{PROTOBUF};{TABLE},application/json;{TABLE}", Form(transform="Table")),
        ("application/json;as=Table;g=meta.k8s.io;v=v9,application/json", Form()),
        (PARTIAL, Form(PROTOBUF, "PartialObjectMetadata")),
    ],
)
def test_the_form_is_the_one_liked_best(accept: str, expected: Form) -> None:
    assert negotiate(accept) == expected


def test_aggregated_discovery_is_chosen_only_where_it_is_liked_best() -> None:
    wanted = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    assert wants_aggregated(f"{wanted},application/json")
    assert not wants_aggregated("application/json")
    assert not wants_aggregated(wanted.replace("v=v2", "v=v2beta1") + ",application/json")


def test_openapi_is_kept_by_its_hash(api: Api) -> None:
    url = api.get("/openapi/v3").document["paths"]["apis/apps/v1"]["serverRelativeURL"]
    found = api.get(url)
    assert (found.code, found.headers["Cache-Control"]) == (200, "public, immutable")
    assert found.headers["ETag"].strip('"') == url.rpartition("=")[2]
    old = api.get("/openapi/v3/apis/apps/v1?hash=OLD")
    assert (old.code, old.headers["Location"]) == (301, url)
    assert api.get("/openapi/v3/apis/nothing/v1").code == 404


@pytest.mark.parametrize("path", ["/openapi/v2", "/openapi/v3", "/openapi/v3/api/v1", "/api", "/apis"])
def test_large_documents_are_compressed_and_not_sent_twice(api: Api, path: str) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    plain = api.get(path, accept=accept)
    small = api.sending({"HTTP_ACCEPT_ENCODING": "gzip, br"}).get(path, accept=accept)
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.body) == plain.body
    again = api.sending({"HTTP_IF_NONE_MATCH": plain.headers["ETag"]}).get(path, accept=accept)
    assert (again.code, again.body) == (304, b"")

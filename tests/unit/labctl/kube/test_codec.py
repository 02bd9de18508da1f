"""Bodies into documents: JSON, YAML, protobuf, and the check against the schema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from labctl.kube import protobuf
from labctl.kube.codec import DecodeError, clean, decode_json, decode_yaml
from labctl.kube.duplicates import duplicates
from labctl.kube.schema import Schemas
from master.apiserver import schemas as where


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return where.load()


def checked(
    document: dict[str, Any], schemas: Schemas, kind: str = "Pod", group: str = "", version: str = "v1"
) -> list[str]:
    return clean(document, schemas.shape_of(group, version, kind))


def test_nulls_go_as_in_kubernetes(schemas: Schemas) -> None:
    document = {"metadata": {"name": "p", "creationTimestamp": None, "labels": {"a": None}}, "spec": {"nodeName": None}}
    assert checked(document, schemas) == []
    assert document == {"metadata": {"name": "p", "labels": {"a": ""}}, "spec": {}}


def test_unknown_fields_are_found_at_any_depth_and_stay(schemas: Schemas) -> None:
    document = {"spec": {"containers": [{"name": "c", "imagee": "x"}], "more": {"a": 1}}, "top": 1}
    assert checked(document, schemas) == ["spec.containers[0].imagee", "spec.more", "top"]
    assert document["top"] == 1


def test_quantities_are_text_in_canonical_form(schemas: Schemas) -> None:
    limits = {"cpu": 0.5, "memory": 1024, "storage": "1.5Gi"}
    document = {"spec": {"containers": [{"resources": {"limits": limits}}]}}
    checked(document, schemas)
    assert limits == {"cpu": "500m", "memory": "1024", "storage": "1536Mi"}


@pytest.mark.parametrize(
    ("spec", "where_and_type"),
    [
        ({"containers": {}}, "object into Go struct field PodSpec.spec.containers of type []v1.Container"),
        ({"containers": ["x"]}, "string into Go struct field PodSpec.spec.containers of type v1.Container"),
        ({"containers": [{"env": 1}]}, "number into Go struct field Container.spec.containers.env of type []v1.EnvVar"),
        ({"nodeName": 1}, "number into Go struct field PodSpec.spec.nodeName of type string"),
        ({"hostNetwork": "yes"}, "string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        ({"terminationGracePeriodSeconds": 1.5}, "number 1.5 into Go struct field PodSpec.spec.termina"),
        ({"priority": 1 << 31}, "number 2147483648 into Go struct field PodSpec.spec.priority of type int32"),
        ({"nodeSelector": {"a": 1}}, "number into Go struct field PodSpec.spec.nodeSelector of type string"),
        ([], "array into Go struct field Pod.spec of type v1.PodSpec"),
    ],
)
def test_wrong_types_are_named_with_their_place(schemas: Schemas, spec: Any, where_and_type: str) -> None:
    with pytest.raises(DecodeError, match="cannot unmarshal") as raised:
        checked({"spec": spec}, schemas)
    assert where_and_type in str(raised.value)


def test_secrets_hold_base64(schemas: Schemas) -> None:
    with pytest.raises(DecodeError, match="base64"):
        checked({"data": {"a": "not base64!"}}, schemas, "Secret")


def test_deep_nesting_is_refused(schemas: Schemas) -> None:
    with pytest.raises(DecodeError):
        decode_json(b'{"a":' * 5000 + b"1" + b"}" * 5000)
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(200):
        schema = {"not": schema}
    crd = {"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}}
    with pytest.raises(DecodeError, match="nested too deeply"):
        checked(crd, schemas, "CustomResourceDefinition", "apiextensions.k8s.io")


def test_yaml_has_no_tags_or_dates_and_text_for_keys() -> None:
    assert decode_yaml(b"a: 2026-01-01\nb: [1, x]\n3: c\ntrue: d") == {
        "a": "2026-01-01",
        "b": [1, "x"],
        "3": "c",
        "true": "d",
    }
    for bad in (
        b"a: !!python/object:os.system x",
        b"a: [",
        b"\x00",
        b"a: 1\n---\nb: 2",
        b"? [a]\n: b",
        b"a: !!binary AAAA",
    ):
        with pytest.raises(DecodeError):
            decode_yaml(bad)


def test_what_yaml_aliases_share_comes_apart() -> None:
    found = decode_yaml(b"a: &x {b: [1]}\nc: *x")
    found["a"]["b"].append(2)
    assert found["c"] == {"b": [1]}


@pytest.mark.parametrize(
    "bomb",
    [
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (n, n, *[n - 1] * 8) for n in range(98, 108)),
        b"a: &a [*a]",
        b"[" * 5000 + b"]" * 5000,
        b"- " * 1000 + b"x",
    ],
    ids=["aliases of aliases", "an anchor in itself", "deep brackets", "deep lists"],
)
def test_a_yaml_bomb_is_refused_before_it_goes_off(bomb: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_yaml(bomb)


def test_times_are_stored_in_utc_to_the_second(schemas: Schemas) -> None:
    metadata = {"creationTimestamp": "2026-01-01T01:00:00.5+01:00"}
    checked({"metadata": metadata}, schemas)
    assert metadata == {"creationTimestamp": "2026-01-01T00:00:00Z"}
    with pytest.raises(DecodeError, match='parsing time "yesterday" as "2006-01-02T15:04:05Z07:00"'):
        checked({"metadata": {"deletionTimestamp": "yesterday"}}, schemas)


def test_bytes_that_are_not_utf_8_become_the_replacement_character() -> None:
    assert decode_json(b'{"a":"\xff"}') == {"a": "\ufffd"}


def test_a_body_may_be_wide_but_not_deep() -> None:
    assert len(decode_json(b"[" + b"{}," * 999 + b"{}]")) == 1000
    with pytest.raises(DecodeError, match="max depth"):
        decode_json(b"[" * 201 + b"]" * 201)


def test_keys_given_twice_are_found_at_any_depth() -> None:
    body = b'{"a": 1, "b": [{"c": 1, "c": {"d": 1, "d": 2}}], "a": 2}'
    assert duplicates(body, decode_json(body)) == ["b[0].c", "b[0].c.d", "a"]
    once = b'{"a":"\\u00e9","b":[{}]}'
    assert duplicates(once, decode_json(once)) == []


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def field(number: int, value: bytes | int | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    about = field(1, api_version) + field(2, kind)
    return protobuf.MAGIC + field(1, about) + field(2, raw) + field(3, "") + field(4, "")


def test_a_protobuf_body_becomes_the_document_it_stands_for(schemas: Schemas) -> None:
    meta = field(1, "c") + field(3, "") + field(8, b"") + field(11, field(1, "k") + field(2, "v"))
    raw = field(1, meta) + field(2, field(1, "text") + field(2, "x")) + field(3, field(1, "b") + field(2, b"\x00\x01"))
    assert protobuf.decode(envelope("v1", "ConfigMap", raw), schemas) == {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "c", "labels": {"k": "v"}},
        "data": {"text": "x"},
        "binaryData": {"b": "AAE="},
    }


def test_protobuf_keeps_a_zero_that_is_meant_and_drops_one_that_is_not(schemas: Schemas) -> None:
    spec = field(1, 0) + field(5, 0)  # replicas is a pointer in Go, minReadySeconds is not
    found = protobuf.decode(envelope("apps/v1", "Deployment", field(2, spec)), schemas)
    assert found["spec"] == {"replicas": 0}


def test_protobuf_reads_quantities_times_and_int_or_strings(schemas: Schemas) -> None:
    times = field(8, field(1, 86400))
    port = field(3, 80) + field(4, field(1, 1) + field(2, 0) + field(3, "http"))
    raw = field(1, times) + field(2, field(1, port))
    found = protobuf.decode(envelope("v1", "Service", raw), schemas)
    assert found["metadata"]["creationTimestamp"] == "1970-01-02T00:00:00Z"
    assert found["spec"]["ports"] == [{"port": 80, "targetPort": "http"}]


def test_protobuf_puts_inlined_messages_where_json_has_them(schemas: Schemas) -> None:
    volume = field(1, "v") + field(2, field(19, field(1, field(1, "settings"))))
    found = protobuf.decode(envelope("v1", "Pod", field(2, field(1, volume))), schemas)
    assert found["spec"]["volumes"] == [{"name": "v", "configMap": {"name": "settings"}}]


@given(some.binary(max_size=200))
def test_no_protobuf_body_does_worse_than_a_decode_error(data: bytes) -> None:
    loaded = _loaded()
    for body in (data, protobuf.MAGIC + data, envelope("v1", "Pod", data)):
        try:
            protobuf.decode(body, loaded)
        except DecodeError:
            continue


_kept: list[Schemas] = []


def _loaded() -> Schemas:
    if not _kept:
        _kept.append(where.load())
    return _kept[0]


def test_every_kind_of_the_table_has_a_schema_behind_its_fields(schemas: Schemas) -> None:
    unknown = [
        f"{message}.{entry[1:]}"
        for message, fields in protobuf.table().items()
        if message in set(schemas.names())
        for entry in fields.values()
        if entry[0] != "=" and entry[1:] not in schemas.shape(message).properties
    ]
    assert unknown == []

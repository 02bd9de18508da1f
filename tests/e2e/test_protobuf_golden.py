"""Our protobuf against Go's own, for every kind: each field filled, then values that the formats write differently."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from labctl.kube.protobuf import decode
from labctl.kube.protobuf_encode import Encoder
from labctl.kube.schema import Schemas, Shape
from master.apiserver import schemas as where
from master.apiserver.registry import Kind, Registry
from tests.e2e import client_go

Document = dict[str, Any]
_CONFIG_MAP = "io.k8s.api.core.v1.ConfigMap"
TIME, MICRO_TIME = "2026-03-04T05:06:07Z", "2026-03-04T05:06:07.000089Z"
_SCALARS: dict[str, Any] = {
    "string": "ünicode",
    "integer": 7,
    "boolean": True,
    "number": 1.5,
    "bytes": "AAEC/w==",
    "quantity": "250m",
    "intstr": "25%",
    "any": {"free": [1, {"json": None}]},
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(where.load())


def filled(shape: Shape, within: tuple[str, ...] = ()) -> Any:
    """A value with every field there is; a type that contains itself ends there."""
    kind = shape.kind
    if kind == "array":
        assert shape.items is not None
        return [filled(shape.items, within)]
    if kind == "map":
        assert shape.values is not None
        return {"b": filled(shape.values, within), "a": filled(shape.values, within)}
    if kind == "time":
        return MICRO_TIME if shape.ref.endswith("MicroTime") else TIME
    if "JSONSchemaPropsOr" in shape.ref:
        return ["a"] if shape.ref.endswith("StringArray") else {"type": "string"}
    if kind != "object":
        return _SCALARS[kind]
    name = shape.target.name
    if name in within:
        return {}
    return {key: filled(field, (*within, name)) for key, field in shape.properties.items()}


def whole(kind: Kind, schemas: Schemas) -> Document:
    document: Document = filled(schemas.shape(kind.schema_name))
    return document | {"kind": kind.resource.kind, "apiVersion": kind.resource.api_version}


def documents(registry: Registry) -> list[Document]:
    seen = {kind.schema_name: whole(kind, registry.schemas) for kind in registry.all() if kind.schema_name}
    return list(seen.values())


def test_go_reads_every_field_of_every_kind_as_we_write_it(registry: Registry) -> None:
    given = documents(registry)
    assert len(given) > 60
    encoder = Encoder(registry.schemas)
    meant = client_go.to_json(client_go.to_protobuf(given))
    read = client_go.to_json(encoder.object(document) for document in given)
    for expected, found in zip(meant, read, strict=True):
        assert found == expected, f"{expected['apiVersion']} {expected['kind']}"


def test_we_read_every_field_of_every_kind_as_go_writes_it(registry: Registry) -> None:
    given = documents(registry)
    for document, body in zip(given, client_go.to_protobuf(given), strict=True):
        assert decode(body, registry.schemas) == _as_go_keeps_it(document), document["kind"]


def _as_go_keeps_it(document: Document) -> Document:
    """Objects inside others lose their kind: protobuf does not carry it."""
    for template in document["spec"].get("volumeClaimTemplates") or () if document["kind"] == "StatefulSet" else ():
        del template["kind"], template["apiVersion"]
    return document


def config_map(**metadata: Any) -> Document:
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "m", **metadata}}


def pod(**spec: Any) -> Document:
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c"}], **spec},
    }


def of(api_version: str, kind: str, **body: Any) -> Document:
    return {"kind": kind, "apiVersion": api_version, "metadata": {}, **body}


def test_values_that_look_empty_are_told_from_values_that_are_not_there(registry: Registry) -> None:
    limits = {"cpu": "0", "memory": "1.5Gi"}
    probed = {"readinessProbe": {"httpGet": {"port": -1}}, "lifecycle": {"preStop": {"sleep": {"seconds": 0}}}}
    given: list[Document] = [
        pod(volumes=[{"name": "v", "emptyDir": {}}], securityContext={}, hostUsers=False, priority=0),
        pod(terminationGracePeriodSeconds=0, activeDeadlineSeconds=-1, tolerations=[{"tolerationSeconds": -(1 << 62)}]),
        pod(containers=[{"name": "c", "env": [{"name": "E"}], "resources": {"limits": limits}}]),
        pod(containers=[{"name": "c", **probed}]),
        {**config_map(labels={"a": ""}, annotations={"é": "\x00\n\u2028"}), "data": {"": "x"}, "binaryData": {"b": ""}},
        config_map(managedFields=[{"manager": "m", "fieldsV1": {"f:data": {".": {}, "f:a": {}}}, "time": TIME}]),
        config_map(creationTimestamp="1969-12-31T23:59:59Z", ownerReferences=[{"controller": False}]),
        config_map(creationTimestamp=None, deletionGracePeriodSeconds=0, resourceVersion="18446744073709551615"),
        of("v1", "PersistentVolumeClaim", spec={"storageClassName": ""}),
        of("networking.k8s.io/v1", "NetworkPolicy", spec={"podSelector": {}, "ingress": [{}]}),
        of("coordination.k8s.io/v1", "Lease", spec={"renewTime": "2026-01-01T00:00:00.000000Z"}),
        of("apps/v1", "ControllerRevision", data={"spec": [1, None, "x"]}, revision=1 << 60),
        of("policy/v1", "PodDisruptionBudget", spec={"minAvailable": 0, "selector": {}}),
        of("v1", "Service", spec={"selector": {}, "ports": [{"port": 80, "targetPort": 0}]}),
    ]
    encoder = Encoder(registry.schemas)
    bodies = client_go.to_protobuf(given)
    meant = client_go.to_json(bodies)
    assert client_go.to_json(encoder.object(document) for document in given) == meant
    ours = [decode(body, registry.schemas) for body in bodies]
    assert client_go.to_json(encoder.object(document) for document in ours) == meant


def test_lists_statuses_and_metadata_are_what_go_expects(registry: Registry) -> None:
    encoder = Encoder(registry.schemas)
    about = of("v1", "ConfigMapList", metadata={"resourceVersion": "9", "remainingItemCount": 2})
    items = [config_map(), {**config_map(), "data": {"a": "b"}}]
    details = {"name": "m", "causes": [{"reason": "R", "message": "m", "field": "f"}]}
    status = of("v1", "Status", status="Failure", message="no", reason="Invalid", details=details, code=422)
    found = client_go.to_json([encoder.collection(about, _CONFIG_MAP, items), encoder.object(status)])
    assert [item["metadata"]["name"] for item in found[0]["items"]] == ["m", "m"]
    assert found[0]["metadata"] == about["metadata"]
    assert found[0]["items"][1]["data"] == {"a": "b"}
    assert found[1] == status


def test_a_partial_object_is_its_metadata(registry: Registry) -> None:
    encoder = Encoder(registry.schemas)
    metadata = {"name": "m", "labels": {"a": "b"}}
    body = encoder.object({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
    (found,) = client_go.to_json([body])
    assert found["metadata"]["labels"] == {"a": "b"}
    assert msgspec.json.encode(found).count(b"spec") == 0

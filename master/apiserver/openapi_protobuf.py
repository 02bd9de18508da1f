"""/openapi/v2 in protobuf: the only form in which client-go's discovery asks for it.

Source: gnostic-models `openapiv2/OpenAPIv2.proto` (field numbers), kube-openapi `pkg/handler`. Only what our own writer
writes is encoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from labctl.kube.protobuf_encode import field, varint

Document = dict[str, Any]
Write = Callable[[Any], bytes]

MEDIA = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def wants_protobuf(accept: str) -> bool:
    """Whether the client names that form, under its present name or the older one."""
    return "proto-openapi.spec.v2" in accept and "protobuf" in accept


def encode(document: Document) -> bytes:
    """A whole OpenAPI v2 document."""
    paths = [field(2, _named(path, _path_item(item))) for path, item in document["paths"].items()]
    definitions = [field(1, _named(name, _schema(found))) for name, found in document["definitions"].items()]
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    parts = [_text(1, document["swagger"]), field(2, info), field(8, b"".join(paths)), field(9, b"".join(definitions))]
    return b"".join(parts)


def _text(number: int, value: str) -> bytes:
    return field(number, value.encode())


def _flag(number: int, value: bool) -> bytes:
    return varint(number << 3) + (b"\x01" if value else b"\x00")


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + field(2, value)


def _any(value: Any) -> bytes:
    """Free values go as YAML, which JSON is."""
    return field(2, msgspec.json.encode(value) + b"\n")


def _extensions(number: int, node: Document) -> list[bytes]:
    return [field(number, _named(key, _any(value))) for key, value in node.items() if key.startswith("x-")]


def _texts(number: int) -> Write:
    return lambda values: b"".join([_text(number, value) for value in values])


def _more_properties(value: Any) -> bytes:
    return field(21, _flag(2, value) if isinstance(value, bool) else field(1, _schema(value)))


def _properties(value: Document) -> bytes:
    return field(25, b"".join([field(1, _named(name, _schema(found))) for name, found in value.items()]))


_SCHEMA: dict[str, Write] = {
    "$ref": lambda value: _text(1, value),
    "format": lambda value: _text(2, value),
    "title": lambda value: _text(3, value),
    "description": lambda value: _text(4, value),
    "default": lambda value: field(5, _any(value)),
    "required": _texts(19),
    "enum": lambda values: b"".join([field(20, _any(value)) for value in values]),
    "additionalProperties": _more_properties,
    "type": lambda value: field(22, _text(1, value)),
    "items": lambda value: field(23, field(1, _schema(value))),
    "allOf": lambda values: b"".join([field(24, _schema(value)) for value in values]),
    "properties": _properties,
}


def _schema(node: Document) -> bytes:
    parts = [write(value) for key, value in node.items() if (write := _SCHEMA.get(key))]
    return b"".join(parts + _extensions(31, node))


def _path_item(item: Document) -> bytes:
    return b"".join([field(_METHODS[method], _operation(found)) for method, found in item.items()])


def _operation(found: Document) -> bytes:
    parts = [
        _texts(1)(found.get("tags", ())),
        _text(3, found.get("description", "")),
        _text(5, found["operationId"]),
        _texts(6)(found.get("produces", ())),
        _texts(7)(found.get("consumes", ())),
        *(field(8, field(1, _parameter(parameter))) for parameter in found["parameters"]),
        field(9, b"".join([field(1, _named(code, _response(answer))) for code, answer in found["responses"].items()])),
        *_extensions(13, found),
    ]
    return b"".join(parts)


def _parameter(found: Document) -> bytes:
    place, required = found["in"], _flag(4, bool(found.get("required")))
    if place == "body":
        body = _text(2, found["name"]) + _text(3, "body") + required + field(5, _schema(found["schema"]))
        return field(1, body)
    common = _flag(1, bool(found.get("required"))) + _text(2, place) + _text(4, found["name"])
    if place == "path":
        return field(2, field(4, common + _text(5, found["type"])))
    return field(2, field(3, common + _text(6, found["type"]) + _flag(20, bool(found.get("uniqueItems")))))


def _response(found: Document) -> bytes:
    schema = field(2, field(1, _schema(found["schema"]))) if "schema" in found else b""
    return field(1, _text(1, found["description"]) + schema)

"""Kubernetes' protobuf bodies into documents, which typed Go clients send.

Types come from the schemas, field numbers from a table.
Source: apimachinery `runtime/serializer/protobuf` (the `k8s\\0` envelope around runtime.Unknown), protobuf's encoding.
"""

from __future__ import annotations

import base64
import copy
import math
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from labctl.kube.codec import DecodeError
from labctl.kube.schema import Schemas, Shape

Document = dict[str, Any]

MAGIC = b"k8s\x00"
_TABLE = Path(__file__).with_name("protobuf_fields.json")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIGN, _WRAP = 1 << 63, 1 << 64
_MAX_DEPTH = 64
_PROPS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_EMPTY: dict[str, Any] = {"array": [], "object": {}, "string": "", "bytes": "", "quantity": "0"}


@cache
def table() -> dict[str, dict[int, str]]:
    """Each message's fields: number -> flag and JSON name; see `tests/golden/make_protobuf_fields.py`."""
    return msgspec.json.decode(_TABLE.read_bytes(), type=dict[str, dict[int, str]])


def decode(body: bytes, schemas: Schemas) -> Document:
    """The object in a protobuf body; DecodeError."""
    if not body.startswith(MAGIC):
        raise DecodeError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    kind = api_version = ""
    raw = b""
    for number, value in _fields(memoryview(body)[len(MAGIC) :]):
        if number == 1:
            texts = {inner: _text(text) for inner, text in _fields(_message(value))}
            api_version, kind = texts.get(1, ""), texts.get(2, "")
        elif number == 2:
            raw = bytes(_message(value))
    group, _, version = api_version.rpartition("/")
    shape = schemas.shape_of(group, version, kind) or _options(kind, schemas)
    if shape is None or shape.name not in table():
        raise DecodeError(f'no kind "{kind}" is registered for version "{api_version}" in protobuf')
    return {"kind": kind, "apiVersion": api_version, **_object(memoryview(raw), shape, 0)}


def _options(kind: str, schemas: Schemas) -> Shape | None:
    """DeleteOptions and its like are of every group."""
    name = f"io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"
    return schemas.shape(name) if name in table() and kind.endswith("Options") else None


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value): an integer for a varint, else bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in {_FIXED64, _FIXED32}:
            size = 8 if wire == _FIXED64 else 4
        else:
            raise DecodeError(f"proto: illegal wireType {wire}")
        if at + size > end:
            raise DecodeError("proto: unexpected EOF")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    if at < len(data) and data[at] < 128:  # nearly all are this short
        return data[at], at + 1
    value = shift = 0
    while True:
        if at >= len(data):
            raise DecodeError("proto: unexpected EOF")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value & (_WRAP - 1), at
        shift += 7
        if shift > 63:
            raise DecodeError("proto: integer overflow")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise DecodeError("proto: wrong wireType: want a message, got a varint")
    return value


def _text(value: int | memoryview) -> str:
    try:
        return bytes(_message(value)).decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"proto: a string is not UTF-8: {error}") from error


def _integer(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise DecodeError("proto: wrong wireType: want a varint")
    return value - _WRAP if value >= _SIGN else value


def _object(data: memoryview, shape: Shape, depth: int) -> Document:
    if depth > _MAX_DEPTH:
        raise DecodeError("the object is nested too deeply")
    found: Document = {}
    _into(found, data, shape, shape.target.name, depth)
    return found


def _into(found: Document, data: memoryview, shape: Shape, message: str, depth: int) -> None:
    """Decode `message` into `found`; its fields are named by `shape`, which may be that of the message around it."""
    fields = table().get(message)
    if fields is None:
        raise DecodeError(f"{message} is not accepted in protobuf")
    for number, value in _fields(data):
        entry = fields.get(number)
        if entry is None:
            continue  # of a newer version
        flag, name = entry[0], entry[1:]
        if flag == "=":
            _into(found, _message(value), shape, name, depth)
            continue
        field = shape.properties.get(name)
        if field is None:
            continue
        if field.kind == "array":
            found.setdefault(name, []).append(_value(value, field.items, depth))
        elif field.kind == "map":
            _entry(found.setdefault(name, {}), _message(value), field, depth)
        else:
            decoded = _value(value, field, depth)
            if decoded is not None and (flag != "-" or decoded not in ("", 0, False)):
                found[name] = decoded


def _entry(found: Document, data: memoryview, field: Shape, depth: int) -> None:
    values = field.values
    assert values is not None
    key, value = "", None
    for number, part in _fields(data):
        if number == 1:
            key = _text(part)
        elif values.kind == "array":  # a list in a map has a message around it
            value = [_value(item, values.items, depth) for _, item in _fields(_message(part))]
        else:
            value = _value(part, values, depth)
    found[key] = copy.copy(_EMPTY.get(values.kind)) if value is None else value


def _value(value: int | memoryview, field: Shape | None, depth: int) -> Any:
    kind = field.kind if field else "string"
    if kind == "string":
        return _text(value)
    if kind == "integer":
        return _integer(value)
    if kind == "boolean":
        return bool(_integer(value))
    if kind == "bytes":
        return base64.b64encode(_message(value)).decode()
    if kind == "object":
        assert field is not None
        return _object(_message(value), field, depth + 1)
    return _special(_message(value), kind, field, depth)


def _special(data: memoryview, kind: str, field: Shape | None, depth: int) -> Any:
    """Types whose protobuf form is not their JSON form."""
    parts = dict(_fields(data)) if kind != "number" else {}
    if kind == "number":
        return _number(data)
    if kind == "quantity":
        return _text(parts[1]) if 1 in parts else "0"
    if kind == "intstr":
        return _text(parts.get(3, memoryview(b""))) if parts.get(1) == 1 else _integer(parts.get(2, 0))
    if kind == "time":
        return _time(parts, micro=bool(field and field.ref.endswith("MicroTime")))
    if kind == "any" and field is not None:
        return _any(data, parts, field, depth)
    raise DecodeError(f"a {kind} is not accepted in protobuf")


def _number(data: memoryview) -> int | float:
    if len(data) != 8:
        raise DecodeError("proto: wrong wireType: want a double")
    found: float = struct.unpack("<d", data)[0]
    if not math.isfinite(found):
        raise DecodeError(f"json: unsupported value: {found}")
    return int(found) if found.is_integer() else found


def _any(data: memoryview, parts: dict[int, int | memoryview], field: Shape, depth: int) -> Any:
    """Free JSON, or one of the choices that a JSON schema gives its own fields."""
    _, _, choice = field.ref.rpartition("JSONSchemaPropsOr")
    if choice == field.ref:
        try:
            return msgspec.json.decode(bytes(_message(parts[1]))) if 1 in parts else None
        except (msgspec.DecodeError, RecursionError) as error:
            raise DecodeError(f"invalid JSON: {error}") from error
    if choice == "Bool":
        return _object(_message(parts[2]), field.sibling(_PROPS), depth + 1) if 2 in parts else bool(parts.get(1))
    if 1 in parts:
        return _object(_message(parts[1]), field.sibling(_PROPS), depth + 1)
    several = [_message(value) for number, value in _fields(data) if number == 2]
    if choice == "StringArray":
        return [_text(value) for value in several]
    return [_object(value, field.sibling(_PROPS), depth + 1) for value in several]


def _time(parts: dict[int, int | memoryview], *, micro: bool) -> str | None:
    if not parts:
        return None  # Go's zero time
    seconds, nanos = _integer(parts.get(1, 0)), _integer(parts.get(2, 0))
    try:
        moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000 if micro else 0)
    except OverflowError as error:
        raise DecodeError("proto: a time is out of range") from error
    return moment.isoformat(timespec="microseconds" if micro else "seconds").replace("+00:00", "Z")

"""Documents into Kubernetes' protobuf, which typed Go clients and metadata informers ask for.

Each definition is compiled once, when it is first met, into functions from a JSON value to the bytes of its field.
Names and types come from the schemas, numbers from the table that `protobuf` decodes with.
Source: apimachinery `runtime/serializer/protobuf` (the `k8s\\0` envelope around runtime.Unknown), protobuf's encoding.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec

from labctl.kube.protobuf import MAGIC, table
from labctl.kube.schema import Schemas, Shape
from labctl.runtime.errors import LabError

Document = dict[str, Any]
Encode = Callable[[Any], bytes]  # a value -> its payload, or with tag and length around it, the bytes of its field

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_BYTES, _FIXED64 = 2, 1
_ONE = [bytes([number]) for number in range(128)]
_WRAP = (1 << 64) - 1
_NO_ENCODING = b'\x1a\x00"\x00'  # runtime.Unknown's contentEncoding and contentType, both empty
_json = msgspec.json.Encoder().encode


class EncodeError(LabError):
    """The document is of no kind that has a protobuf form, or a value is not what its schema says."""


def varint(number: int) -> bytes:
    """Protobuf's variable-length integer; a negative one as its two's complement of 64 bits."""
    if 0 <= number < 128:
        return _ONE[number]
    number &= _WRAP
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def field(number: int, payload: bytes) -> bytes:
    """A field of bytes: a string, a message."""
    return varint(number << 3 | _BYTES) + varint(len(payload)) + payload


class _Message:
    """One definition. Called with a document, it gives the message's bytes."""

    __slots__ = ("_encoder", "_inlined", "_name", "_shape", "_writers")

    def __init__(self, encoder: Encoder, shape: Shape, name: str) -> None:
        self._encoder, self._shape, self._name = encoder, shape, name
        self._writers: dict[str, Encode] | None = None  # made at the first call: definitions may contain themselves
        self._inlined: list[tuple[bytes, _Message]] = []

    def __call__(self, document: Document) -> bytes:
        writers = self._writers
        if writers is None:
            writers = self._writers = self._compiled()
        parts: list[bytes] = []
        for key, value in document.items():
            write = writers.get(key)
            if write is not None and value is not None:
                parts.append(write(value))
        for tag, message in self._inlined:
            if inner := message(document):
                parts.append(tag + varint(len(inner)) + inner)
        return b"".join(parts)

    def _compiled(self) -> dict[str, Encode]:
        found: dict[str, Encode] = {}
        properties = self._shape.properties
        for number, entry in table()[self._name].items():
            flag, name = entry[0], entry[1:]
            if flag == "=":  # the fields of another message stand in the document as if they were our own
                inner = _Message(self._encoder, self._shape, name)
                self._inlined.append((varint(number << 3 | _BYTES), inner))
            elif name in properties:
                found[name] = self._encoder.writer(number, properties[name])
        return found


class Encoder:
    """Encodes the kinds of one Kubernetes version. Not to be shared by threads that run at the same instant."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._messages: dict[str, _Message] = {}
        self._text = Shape(schemas, {"type": "string"})

    def knows(self, name: str) -> bool:
        """Whether the definition of that name has a protobuf form."""
        return name in table()

    def object(self, document: Document) -> bytes:
        """The whole body for an object, a list, a Status: the envelope around it. EncodeError."""
        kind, api_version = str(document.get("kind", "")), str(document.get("apiVersion", "v1"))
        if api_version.startswith("meta.k8s.io/"):
            return envelope(api_version, kind, self._partial(document))
        group, _, version = api_version.rpartition("/")
        name = self._schemas.name_of(group, version, kind) or _META + kind
        return envelope(api_version, kind, self.message(name, document))

    def message(self, name: str, document: Document) -> bytes:
        """The bare message of the definition `name`. EncodeError."""
        try:
            return self._message(name)(document)
        except (AttributeError, TypeError, ValueError) as error:
            raise EncodeError(f"{name} cannot be encoded: {error}") from error

    def collection(self, about: Document, item: str, documents: Iterable[Document]) -> bytes:
        """The body of a list: `about` has kind, apiVersion and metadata; `item` is the items' definition."""
        parts = [field(1, self.message(_META + "ListMeta", about["metadata"]))]
        parts += [field(2, self.message(item, document)) for document in documents]
        return envelope(about["apiVersion"], about["kind"], b"".join(parts))

    def writer(self, number: int, shape: Shape) -> Encode:
        """What encodes a field: tag, length and value."""
        kind = shape.kind
        if kind == "array":
            assert shape.items is not None
            one = self.writer(number, shape.items)
            return lambda values: b"".join([one(value) for value in values])
        if kind == "map":
            assert shape.values is not None
            return self._map(number, shape.values)
        if kind in {"integer", "boolean"}:
            tag = varint(number << 3)
            return lambda value: tag + varint(int(value))
        if kind == "number":
            tag = varint(number << 3 | _FIXED64)
            return lambda value: tag + struct.pack("<d", value)
        return _framed(varint(number << 3 | _BYTES), self._payload(shape))

    def _message(self, name: str) -> _Message:
        found = self._messages.get(name)
        if found is None:
            if not self.knows(name):
                raise EncodeError(f"{name or 'this kind'} has no protobuf form")
            found = self._messages[name] = _Message(self, self._schemas.shape(name), name)
        return found

    def _map(self, number: int, values: Shape) -> Encode:
        tag, key_of = varint(number << 3 | _BYTES), self.writer(1, self._text)
        if values.kind == "array":  # a list in a map has a message around it
            inner = self.writer(1, values)
            value_of: Encode = _framed(b"\x12", inner)
        else:
            value_of = self.writer(2, values)

        def write(mapping: Document) -> bytes:
            entries = [key_of(key) + value_of(mapping[key]) for key in sorted(mapping) if mapping[key] is not None]
            return b"".join([tag + varint(len(entry)) + entry for entry in entries])

        return write

    def _payload(self, shape: Shape) -> Encode:
        kind = shape.kind
        if kind == "object":
            return self._message(shape.target.name)
        if kind == "any":
            return self._any(shape.ref)
        if kind == "time":
            return _micro_time if shape.ref.endswith("MicroTime") else _time
        return _PAYLOADS[kind]

    def _any(self, ref: str) -> Encode:
        """Types that are free JSON, or a choice of JSON forms, on the wire."""
        if not ref.startswith(_EXTENSIONS + "JSONSchemaPropsOr"):
            return lambda value: field(1, _json(value))
        schema = self._message(_EXTENSIONS + "JSONSchemaProps")

        def choice(value: Any) -> bytes:
            if isinstance(value, bool):
                return b"\x08" + _ONE[value]
            if isinstance(value, list):
                return b"".join([field(2, schema(item) if isinstance(item, dict) else item.encode()) for item in value])
            return b"\x08\x01" + field(2, schema(value)) if ref.endswith("OrBool") else field(1, schema(value))

        return choice

    def _partial(self, document: Document) -> bytes:
        """PartialObjectMetadata, or a list of them: no definitions of their own are published."""
        if "items" not in document:
            return field(1, self.message(_META + "ObjectMeta", document["metadata"]))
        parts = [field(1, self.message(_META + "ListMeta", document["metadata"]))]
        return b"".join([*parts, *(field(2, self._partial(item)) for item in document["items"])])


def _framed(tag: bytes, payload: Encode) -> Encode:
    def write(value: Any) -> bytes:
        data = payload(value)
        size = len(data)
        return tag + (_ONE[size] if size < 128 else varint(size)) + data

    return write


def _quantity(value: Any) -> bytes:
    return field(1, str(value).encode())


def _int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\x00" + field(3, value.encode())
    return b"\x08\x00\x10" + varint(value) + b"\x1a\x00"


def _time(value: str) -> bytes:
    return b"\x08" + varint(int(datetime.fromisoformat(value).timestamp() // 1)) + b"\x10\x00"


def _micro_time(value: str) -> bytes:
    moment = datetime.fromisoformat(value)
    return b"\x08" + varint(int(moment.timestamp() // 1)) + b"\x10" + varint(moment.microsecond * 1000)


_PAYLOADS: dict[str, Encode] = {
    "string": str.encode,
    "bytes": base64.b64decode,
    "quantity": _quantity,
    "intstr": _int_or_string,
}


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    """`k8s\\0` and runtime.Unknown around a message."""
    about = field(1, api_version.encode()) + field(2, kind.encode())
    return MAGIC + field(1, about) + field(2, raw) + _NO_ENCODING


def frame(event: str, body: bytes) -> bytes:
    """One event of a watch: a WatchEvent around an enveloped object, behind its length as four bytes."""
    inner = field(1, event.encode()) + field(2, field(1, body))
    return len(inner).to_bytes(4, "big") + inner

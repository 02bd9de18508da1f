"""What a handler hands back, before it becomes an HTTP answer; and objects in the form the client asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from labctl.kube.protobuf_encode import Encoder
from master.apiserver import schemas
from master.apiserver.negotiate import JSON, PROTOBUF, YAML, Form
from master.apiserver.registry import Kind
from master.apiserver.table import table

Document = dict[str, Any]


@dataclass(slots=True)
class Reply:
    """An answer; `body` is complete, or a stream of chunks."""

    body: bytes | Iterable[bytes]
    code: int = 200
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


@functools.cache
def encoder() -> Encoder:
    """The one protobuf encoder of the process; made where a typed Go client first asks."""
    return Encoder(schemas.load())


def document_reply(document: Any, form: Form, code: int = 200) -> Reply:
    """A document that is no stored object, e.g. a Status or a discovery list; never as a Table."""
    return Reply(document_bytes(document, form), code, form.content_type)


def document_bytes(document: Document, form: Form) -> bytes:
    """A document as it is, in one of the media types."""
    if form.media == PROTOBUF:
        return encoder().object(document)
    return _rendered(msgspec.json.encode(document), form)


def object_reply(raw: bytes, kind: Kind, form: Form, code: int = 200) -> Reply:
    """One object, given as the JSON of its stored version."""
    return Reply(object_bytes(raw, kind, form), code, form.content_type)


def object_bytes(raw: bytes, kind: Kind, form: Form) -> bytes:
    """One object in the form asked for."""
    if not form.transform and form.media != PROTOBUF:
        return _rendered(served(raw, kind), form)
    document = msgspec.json.decode(raw)
    if form.transform == "Table":
        about = {"resourceVersion": document["metadata"].get("resourceVersion", "")}
        return document_bytes(table(kind, [document], about, form), form)
    if form.transform:
        return document_bytes(partial(document, form), form)
    return encoder().object(served_document(document, kind))


def served_document(document: Document, kind: Kind) -> Document:
    """The document of the served version, from that of the stored one."""
    return document if kind.conversion is None else kind.conversion.from_stored(document)


def served(raw: bytes, kind: Kind) -> bytes:
    """The JSON of the served version, from that of the stored one."""
    if kind.conversion is None:
        return raw
    return msgspec.json.encode(served_document(msgspec.json.decode(raw), kind))


def partial(document: Document, form: Form) -> Document:
    """Only the metadata."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{form.version}",
        "metadata": document["metadata"],
    }


def _rendered(raw: bytes, form: Form) -> bytes:
    if form.media != YAML:
        return raw
    import yaml  # noqa: PLC0415 - rarely asked for, slow to import

    text: str = yaml.safe_dump(msgspec.json.decode(raw), sort_keys=False, default_flow_style=False)
    return text.encode()


def list_bytes(raws: Iterable[bytes], kind: Kind, metadata: Document, form: Form) -> bytes:
    """A list of stored objects in the form asked for."""
    resource = kind.resource
    if form.transform:
        documents = (msgspec.json.decode(raw) for raw in raws)
        if form.transform == "Table":
            return document_bytes(table(kind, list(documents), metadata, form), form)
        partials = [partial(document, form) for document in documents]
        version = f"meta.k8s.io/{form.version}"
        about = {"kind": "PartialObjectMetadataList", "apiVersion": version, "metadata": metadata}
        return document_bytes({**about, "items": partials}, form)
    about = {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata}
    if form.media == PROTOBUF:
        items = (served_document(msgspec.json.decode(raw), kind) for raw in raws)
        return encoder().collection(about, kind.schema_name, items)
    head = msgspec.json.encode(about)
    joined = b",".join(raws if kind.conversion is None else (served(raw, kind) for raw in raws))
    return _rendered(head[:-1] + b',"items":[' + joined + b"]}", form)

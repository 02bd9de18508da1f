"""What a handler hands back, before it becomes an HTTP answer; and objects in the form the client asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from master.apiserver.negotiate import JSON, YAML, Form
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


def document_reply(document: Any, form: Form, code: int = 200) -> Reply:
    """A document that is no stored object, e.g. a Status or a discovery list."""
    return Reply(_rendered(msgspec.json.encode(document), form), code, form.content_type)


def object_reply(raw: bytes, kind: Kind, form: Form, code: int = 200) -> Reply:
    """One object, given as the JSON of its stored version."""
    return Reply(object_bytes(raw, kind, form), code, form.content_type)


def object_bytes(raw: bytes, kind: Kind, form: Form) -> bytes:
    """One object in the form asked for."""
    if form.transform:
        document = msgspec.json.decode(raw)
        if form.transform == "Table":
            return msgspec.json.encode(
                table(kind, [document], {"resourceVersion": document["metadata"].get("resourceVersion", "")}, form)
            )
        return msgspec.json.encode(partial(document, form))
    return _rendered(served(raw, kind), form)


def served(raw: bytes, kind: Kind) -> bytes:
    """The JSON of the served version, from that of the stored one."""
    if kind.conversion is None:
        return raw
    converted = kind.conversion.from_stored(msgspec.json.decode(raw))
    return msgspec.json.encode(converted)


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
        documents = [msgspec.json.decode(raw) for raw in raws]
        if form.transform == "Table":
            return msgspec.json.encode(table(kind, documents, metadata, form))
        partials = [partial(document, form) for document in documents]
        whole = {
            "kind": "PartialObjectMetadataList",
            "apiVersion": f"meta.k8s.io/{form.version}",
            "metadata": metadata,
            "items": partials,
        }
        return msgspec.json.encode(whole)
    head = msgspec.json.encode({"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata})
    items = b",".join(raws if kind.conversion is None else (served(raw, kind) for raw in raws))
    return _rendered(head[:-1] + b',"items":[' + items + b"]}", form)

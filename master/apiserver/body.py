"""Request bodies: decoded by their media type, checked against the schema, unknown fields treated as asked."""

from __future__ import annotations

from typing import Any

from labctl.kube.codec import DecodeError, Document, clean, decode_json, decode_yaml
from labctl.kube.errors import BadRequest, UnsupportedMediaType
from master.apiserver import problems
from master.apiserver.registry import Kind, Registry
from master.apiserver.request import Request

_ACCEPTED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")


def media_type(request: Request) -> str:
    """The Content-Type without its parameters; JSON where none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip() or "application/json"


def decode(request: Request, registry: Registry) -> Document:
    """The body as a document, whatever its format; BadRequest or UnsupportedMediaType."""
    media = media_type(request)
    try:
        if media == "application/json":
            found = decode_json(request.body)
        elif media in {"application/yaml", "application/x-yaml", "text/yaml"}:
            found = decode_yaml(request.body)
        elif media == "application/vnd.kubernetes.protobuf":
            found = _protobuf(request.body, registry)
        else:
            listed = ", ".join(_ACCEPTED)
            raise UnsupportedMediaType(
                f"the body of the request was in an unknown format - accepted media types include: {listed}", details={}
            )
    except DecodeError as error:
        raise BadRequest(str(error), details={}) from error
    if not isinstance(found, dict):
        raise BadRequest("the body of the request is not an object", details={})
    return found


def _protobuf(body: bytes, registry: Registry) -> Any:
    # Its table of field numbers is only read where a typed Go client writes.
    from labctl.kube.protobuf import decode as decode_protobuf  # noqa: PLC0415

    return decode_protobuf(body, registry.schemas)


def read_object(request: Request, kind: Kind, registry: Registry, warnings: list[str]) -> Document:
    """The object in the body, of the served version: nulls pruned, types checked, unknown fields judged."""
    return check(decode(request, registry), request, kind, registry, warnings)


def check(document: Document, request: Request, kind: Kind, registry: Registry, warnings: list[str]) -> Document:
    """See `read_object`; for documents that come out of a patch as well."""
    resource = kind.resource
    given_kind, given_version = (
        document.get("kind") or resource.kind,
        document.get("apiVersion") or resource.api_version,
    )
    if given_version != resource.api_version:
        raise BadRequest(
            f"the API version in the data ({given_version}) does not match the expected API version"
            f" ({resource.api_version})",
            details={},
        )
    if given_kind != resource.kind:
        raise problems.undecodable(resource, f'no kind "{given_kind}" is registered at this path')
    document["kind"], document["apiVersion"] = resource.kind, resource.api_version
    if not isinstance(document.setdefault("metadata", {}), dict):
        document["metadata"] = {} if document["metadata"] is None else _not_an_object(kind)
    try:
        unknown = clean(document, registry.shape(kind))
    except DecodeError as error:
        raise problems.undecodable(resource, str(error)) from error
    judge_unknown(unknown, request, kind, warnings)
    return document


def _not_an_object(kind: Kind) -> Document:
    raise problems.undecodable(
        kind.resource, "json: cannot unmarshal into Go struct field metadata of type v1.ObjectMeta"
    )


def judge_unknown(unknown: list[str], request: Request, kind: Kind, warnings: list[str]) -> None:
    """Strict refuses unknown fields, Warn (the default) tells of them, Ignore keeps silent."""
    mode = request.query.get("fieldValidation") or "Warn"
    if mode not in {"Strict", "Warn", "Ignore"}:
        raise BadRequest(
            f'fieldValidation: Unsupported value: "{mode}": supported values: "Ignore", "Strict", "Warn"', details={}
        )
    if not unknown or mode == "Ignore":
        return
    told = [f'unknown field "{path}"' for path in unknown]
    if mode == "Strict":
        raise problems.undecodable(kind.resource, f"strict decoding error: {', '.join(told)}")
    warnings.extend(told[:32])

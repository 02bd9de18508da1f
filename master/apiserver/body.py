"""Request bodies: decoded by their media type, checked against the schema, unknown fields treated as asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labctl.kube.codec import DecodeError, Document, clean, decode_json, decode_yaml
from labctl.kube.duplicates import duplicates
from labctl.kube.errors import BadRequest, UnsupportedMediaType
from master.apiserver import problems
from master.apiserver.registry import Kind, Registry
from master.apiserver.request import Request

_ACCEPTED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_SHOWN = 30  # bytes of a body that makes no sense


def media_type(request: Request) -> str:
    """The Content-Type without its parameters; JSON where none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() or "application/json"


def decode(request: Request, registry: Registry, kind: str = "") -> Document:
    """The body as a document, whatever its format; BadRequest or UnsupportedMediaType. `kind` is what is expected."""
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
        raise _unrecognized(request, kind, f"couldn't get version/kind; {error}") from error
    if not isinstance(found, dict):
        given = "array" if isinstance(found, list) else "null" if found is None else "scalar"
        why = f"json parse error: json: cannot unmarshal {given} into Go value of type struct"
        raise _unrecognized(request, kind, f"couldn't get version/kind; {why}")
    return found


def _unrecognized(request: Request, kind: str, why: str) -> BadRequest:
    """As upstream, with the beginning of the body: its text where it looks like JSON, else in hexadecimal."""
    body = request.body
    begin = body[:_SHOWN].decode(errors="replace") if body[:1] == b"{" else body[:_SHOWN].hex()
    shown = f"{begin} ..." if len(body) > _SHOWN else begin or "<empty>"
    expected = f" (must be of type {kind})" if kind else ""
    return BadRequest(f"the object provided is unrecognized{expected}: {why} ({shown})", details={})


def _protobuf(body: bytes, registry: Registry) -> Any:
    # Its table of field numbers is only read where a typed Go client writes.
    from labctl.kube.protobuf import decode as decode_protobuf  # noqa: PLC0415

    return decode_protobuf(body, registry.schemas)


def read_object(request: Request, kind: Kind, registry: Registry, warnings: list[str]) -> Document:
    """The object in the body, of the served version: nulls pruned, types checked, unknown fields judged."""
    document = decode(request, registry, kind.resource.kind)
    twice = duplicates(request.body, document) if media_type(request) == "application/json" else ()
    return check(document, request, kind, registry, warnings, [f'duplicate field "{path}"' for path in twice])


def read_as(request: Request, registry: Registry, api_version: str, kind: str) -> Document:
    """The body as an object of a kind that is not stored here: an Eviction, a Scale, DeleteOptions. Types checked."""
    return typed(decode(request, registry, kind), registry, api_version, kind)


def typed(document: Document, registry: Registry, api_version: str, kind: str) -> Document:
    """The document, whose values are of the types of that kind, without nulls; BadRequest."""
    group, _, version = api_version.rpartition("/")
    schemas = registry.schemas
    name = schemas.name_of(group, version, kind) or f"io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"
    try:
        clean(document, schemas.shape(name))
    except DecodeError as error:
        raise BadRequest(f'{kind} in version "{version}" cannot be handled as a {kind}: {error}', details={}) from error
    return document


def check(
    document: Document,
    request: Request,
    kind: Kind,
    registry: Registry,
    warnings: list[str],
    told: Sequence[str] = (),
    known: Document | None = None,
) -> Document:
    """See `read_object`; for documents that come out of a patch of `known` as well, which was checked before.

    `told`: what else is wrong with its fields.
    """
    resource = kind.resource
    given_kind = document.get("kind", resource.kind)
    given_version = document.get("apiVersion", resource.api_version)
    for given in (given_kind, given_version):
        if given is not None and not isinstance(given, str):
            why = "json parse error: json: cannot unmarshal into Go struct field of type string"
            raise _unrecognized(request, resource.kind, f"couldn't get version/kind; {why}")
    given_kind, given_version = given_kind or resource.kind, given_version or resource.api_version
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
        unknown = clean(document, registry.shape(kind), known)
    except DecodeError as error:
        raise problems.undecodable(resource, str(error)) from error
    _judge([*told, *(f'unknown field "{path}"' for path in unknown)], request, kind, warnings)
    return document


def _not_an_object(kind: Kind) -> Document:
    raise problems.undecodable(
        kind.resource, "json: cannot unmarshal into Go struct field metadata of type v1.ObjectMeta"
    )


def _judge(told: list[str], request: Request, kind: Kind, warnings: list[str]) -> None:
    """Strict refuses unknown fields and keys given twice, Warn (the default) tells of them, Ignore keeps silent."""
    mode = request.query.get("fieldValidation") or "Warn"
    if mode not in {"Strict", "Warn", "Ignore"}:
        raise problems.bad_option(
            request.options, problems.unsupported("fieldValidation", mode, ("Ignore", "Strict", "Warn"))
        )
    if not told or mode == "Ignore":
        return
    if mode == "Strict":
        raise problems.undecodable(kind.resource, f"strict decoding error: {', '.join(told)}")
    warnings.extend(told[:32])

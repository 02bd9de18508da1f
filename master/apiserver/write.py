"""Create, update and patch: one path for every kind.

Source: apiserver `registry/generic/registry/store.go`, `endpoints/handlers/patch.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from labctl.kube.codec import DecodeError, decode_json, decode_yaml
from labctl.kube.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Invalid,
    NotFound,
    ServerTimeout,
    UnsupportedMediaType,
)
from labctl.kube.patch import PatchError, PatchRejected, json_patch, merge_patch, strategic_patch
from master.apiserver import apply, ownership, problems, strategy
from master.apiserver import metadata as meta
from master.apiserver.admit import Attributes
from master.apiserver.body import check, media_type, read_object
from master.apiserver.context import Context
from master.apiserver.defaults import DEFAULTS
from master.apiserver.registry import Kind
from master.apiserver.request import Request
from master.apiserver.storage import Deleted
from master.apiserver.validation import validate, validate_update

Document = dict[str, Any]

_PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
}
_APPLY_TRIES = 8
_NAME_TRIES = 8


def create(context: Context, request: Request, kind: Kind, warnings: list[str]) -> bytes:
    """POST: the stored object's JSON, of the stored version."""
    assert request.target is not None
    document = read_object(request, kind, context.registry, warnings)
    namespace, metadata = request.target.namespace, document["metadata"]
    if metadata.get("name") or not metadata.get("generateName"):
        return create_object(context, request, kind, document, namespace)
    encoded = msgspec.json.encode(document)
    for _ in range(_NAME_TRIES):
        try:
            return create_object(context, request, kind, msgspec.json.decode(encoded), namespace)
        except AlreadyExists as error:
            taken = error  # the letters were not random enough: draw again
    raise problems.no_free_name(taken)


def create_object(context: Context, request: Request, kind: Kind, document: Document, namespace: str) -> bytes:
    """Store `document` (of the served version) in `namespace`."""
    metadata = document["metadata"]
    if metadata.get("resourceVersion"):
        raise BadRequest("resourceVersion should not be set on objects to be created", details={})
    _same_namespace(kind, metadata, namespace)
    owners = apply.created(context, request, kind, document) if ownership.applies(request) else None
    if kind.conversion:
        document = kind.conversion.to_stored(document)
    meta.begin(metadata, namespace if kind.resource.namespaced else "", context.clock)
    apply_defaults(kind, document)
    _must_be_named(kind, metadata)
    if owners is None:
        owners = ownership.created(context, request, kind, document)
    if owners:
        metadata["managedFields"] = owners
    strategy.prepare_create(kind.resource, document)
    name = metadata["name"]
    write = Attributes("create", kind, namespace, name, document, None, request.user, dry_run=request.dry_run)
    context.admission.admit(write)
    apply_defaults(kind, document)  # again: what admission added
    if errors := [*meta.errors(metadata, _rule(kind)), *validate(kind.resource, document)]:
        raise problems.rejected(kind.resource, name, errors)
    with context.allocation.for_create(kind, document, dry_run=request.dry_run) as taken:
        if request.dry_run:
            if context.storage.find(kind, namespace, name) is not None:
                raise problems.already_exists(kind.resource, name)
            context.admission.check(write)
            return msgspec.json.encode(document)
        context.admission.check(write)
        try:
            stored = context.storage.create(kind, namespace, document)
        except AlreadyExists:
            context.allocation.not_stored(kind, document)
            raise
        taken.keep()
    return stored


def _must_be_named(kind: Kind, metadata: Document) -> None:
    if not metadata.get("name"):
        raise problems.rejected(
            kind.resource, "", [problems.required("metadata.name", "name or generateName is required")]
        )


def _rule(kind: Kind) -> tuple[str, str]:
    return kind.resource.group, kind.resource.plural


def _same_namespace(kind: Kind, metadata: Document, namespace: str) -> None:
    given = metadata.get("namespace")
    if kind.resource.namespaced and given and given != namespace:
        raise BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request", details={}
        )


def apply_defaults(kind: Kind, document: Document) -> None:
    """Upstream's defaults, where the kind has some. A document that is no longer well formed is left to validation."""
    if fill := DEFAULTS.get((kind.stored.group, kind.stored.plural)):
        fill(document)


def update(context: Context, request: Request, kind: Kind, warnings: list[str]) -> bytes:
    """PUT on the object or on its /status."""
    assert request.target is not None
    target = request.target
    given = read_object(request, kind, context.registry, warnings)
    metadata = given["metadata"]
    if metadata.get("name") and metadata["name"] != target.name:
        raise BadRequest(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})",
            details={},
        )
    _same_namespace(kind, metadata, target.namespace)
    encoded = msgspec.json.encode(given)

    return store_changed(context, request, kind, lambda _: msgspec.json.decode(encoded))


def store_changed(context: Context, request: Request, kind: Kind, change: Callable[[Document], Document]) -> bytes:
    """Store `change(old)`, prepared; the JSON of what is stored now (or was last, if this removed it)."""
    assert request.target is not None
    target = request.target
    with context.allocation.for_update(kind, dry_run=request.dry_run) as allocated:

        def prepared(old: Document) -> Document:
            new = prepare_update(context, request, kind, change(old), old)
            allocated.fill(new, old, target.subresource)
            return new

        raw, gone = context.storage.change(kind, target.namespace, target.name, prepared, dry_run=request.dry_run)
        allocated.stored(raw)
    if gone and not request.dry_run:
        context.allocation.deleted(kind, raw)
    return raw


def prepare_update(context: Context, request: Request, kind: Kind, new: Document, old: Document) -> Document:
    """The document to store instead of `old`: preconditions, status apart, defaults, admission, validation.

    `new` is of the served version, `old` as stored.
    """
    assert request.target is not None
    resource, name, sub = kind.resource, request.target.name, request.target.subresource
    sub = "" if sub == "scale" else sub  # what comes through it is a change of spec like any other
    metadata = new["metadata"]
    _preconditions(kind, name, metadata, old["metadata"])
    if kind.conversion:
        new = kind.conversion.to_stored(new)
    owners = metadata.get("managedFields")
    meta.carry(metadata, old["metadata"])
    apply_defaults(kind, new)
    if sub in {"status", "approval"}:
        new = strategy.prepare_status(resource, new, old)
    else:
        strategy.prepare_update(resource, new, old)
    if not ownership.applies(request):
        owners = ownership.updated(context, request, kind, (old, new), owners)
    _own(new, owners)
    write = Attributes(
        "update", kind, request.target.namespace, name, new, old, request.user, sub, dry_run=request.dry_run
    )
    context.admission.admit(write)
    errors = meta.update_errors(new["metadata"], old["metadata"]) if sub != "status" else []
    errors += validate_update(resource, new, old, sub)
    if errors:
        raise problems.rejected(resource, name, errors)
    context.admission.check(write)
    _finish_deletion(new)
    return ownership.settled(new, old)


def _own(document: Document, owners: list[Document]) -> None:
    metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    document["metadata"] = {**metadata, "managedFields": owners} if owners else metadata


def _preconditions(kind: Kind, name: str, given: Document, old: Document) -> None:
    if (uid := given.get("uid")) and uid != old.get("uid"):
        raise problems.conflict(
            kind.resource,
            name,
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old.get('uid')}",
        )
    if (version := given.get("resourceVersion")) and version not in {"0", old.get("resourceVersion")}:
        raise problems.conflict(kind.resource, name)


def _finish_deletion(new: Document) -> None:
    """An object that waits for its last finalizer goes when that is gone (and its grace is over)."""
    metadata = new["metadata"]
    if (
        metadata.get("deletionTimestamp")
        and not metadata.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
    ):
        if new.get("kind") == "Namespace" and (new.get("spec") or {}).get("finalizers"):
            return
        raise Deleted(new)


def patch(context: Context, request: Request, kind: Kind, warnings: list[str]) -> tuple[bytes, int]:
    """PATCH on the object or on its /status: (the object's JSON, 201 where an apply created it, else 200).

    Retried on conflict unless the patch carries a resourceVersion.
    """
    if ownership.applies(request):
        return apply_object(context, request, kind)
    if "force" in request.query:
        why = "Forbidden: may not be specified for non-apply patch"
        raise ownership.refused_option(request, "FieldValueForbidden", "force", why)
    how, body = _patch_body(request)

    def change(old: Document) -> Document:
        served = kind.conversion.from_stored(old) if kind.conversion else old
        return _patched(context, request, kind, (how, body), served, warnings)

    return store_changed(context, request, kind, change), 200


def apply_object(context: Context, request: Request, kind: Kind) -> tuple[bytes, int]:
    """Server-side apply: change the object, or create it where there is none."""
    assert request.target is not None
    target, config = request.target, apply.read_config(context, request, kind)
    _same_namespace(kind, config["metadata"], target.namespace)

    def change(old: Document) -> Document:
        served = kind.conversion.from_stored(old) if kind.conversion else old
        return apply.merged(context, request, kind, served, config)

    for _ in range(_APPLY_TRIES):
        try:
            return store_changed(context, request, kind, change), 200
        except NotFound:
            if target.subresource or context.storage.find(kind, target.namespace, target.name) is not None:
                raise
        if mismatch := apply.no_such_uid(kind, target.name, config):
            raise mismatch
        # Who may patch may not therefore create.
        context.authorizer.authorize(msgspec.structs.replace(request, method="POST"))
        try:
            fresh = msgspec.json.decode(msgspec.json.encode(config))
            return create_object(context, request, kind, fresh, target.namespace), 201
        except AlreadyExists:
            continue  # somebody else was faster: merge into theirs
    raise ServerTimeout(f"{kind.resource.qualified} {target.name!r}: comes and goes, try again")


def _patch_body(request: Request) -> tuple[str, Any]:
    media = media_type(request)
    how = _PATCHES.get(media)
    if how is None:
        listed = ", ".join((*_PATCHES, ownership.APPLY_TYPE))
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {listed}", details={}
        )
    try:
        body = decode_json(request.body)
    except DecodeError:
        try:
            body = decode_yaml(request.body)
        except DecodeError as error:
            raise BadRequest(f"error decoding patch: {error}", details={}) from error
    if how == "json" and not isinstance(body, list):
        raise BadRequest(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch", details={}
        )
    if how != "json" and not isinstance(body, dict):
        raise BadRequest("error decoding patch: the patch is not an object", details={})
    return how, body


def _patched(
    context: Context, request: Request, kind: Kind, patch: tuple[str, Any], old: Document, warnings: list[str]
) -> Document:
    """The document after the patch, of the served version, checked like a body."""
    assert request.target is not None
    how, body = patch
    try:
        patched = patch_document(how, body, old, context, kind)
    except PatchError as error:
        raise BadRequest(str(error), details={}) from error
    except PatchRejected as error:
        raise _unprocessable(str(error)) from error
    if not isinstance(patched, dict):
        raise BadRequest("error decoding patch: the result is not an object", details={})
    patched = msgspec.json.decode(msgspec.json.encode(patched))  # parts are shared with `old`
    warnings.clear()
    if patched.get("kind", kind.resource.kind) != kind.resource.kind:
        raise BadRequest("the kind of an object cannot be patched", details={})
    given = (patched.get("metadata") or {}).get("name") if isinstance(patched.get("metadata"), dict) else None
    if given != request.target.name:
        raise problems.rejected(
            kind.resource, request.target.name, [problems.invalid("metadata.name", given, "field is immutable")]
        )
    return check(patched, request, kind, context.registry, warnings)


def patch_document(how: str, body: Any, old: Document, context: Context, kind: Kind) -> Any:
    """Apply one of the patch types."""
    if how == "json":
        return json_patch(old, body)
    if how == "merge":
        return merge_patch(old, body)
    return strategic_patch(old, body, context.registry.shape(kind))


def _unprocessable(message: str) -> ApiError:
    return Invalid(f"the server rejected our request due to an error in our request: {message}", details={})

"""Create and update: one path for every kind; patches have a module of their own.

Source: apiserver `registry/generic/registry/store.go`, `endpoints/handlers/create.go`, `update.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from labctl.kube.errors import AlreadyExists, BadRequest, NotFound
from master.apiserver import advice, apply, ownership, problems, strategy
from master.apiserver import metadata as meta
from master.apiserver.admit import Attributes
from master.apiserver.body import read_object
from master.apiserver.context import Context
from master.apiserver.defaults import DEFAULTS
from master.apiserver.registry import Kind
from master.apiserver.request import Request
from master.apiserver.storage import Deleted
from master.apiserver.validation import validate, validate_update

Document = dict[str, Any]

_NAME_TRIES = 8  # as upstream, with fresh random letters each


def create(context: Context, request: Request, kind: Kind, warnings: list[str]) -> bytes:
    """POST: the stored object's JSON, of the stored version."""
    assert request.target is not None
    document = read_object(request, kind, context.registry, warnings)
    namespace, metadata = request.target.namespace, document["metadata"]
    warnings += advice.of_object(kind.resource, document)
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
    same_namespace(kind, metadata, namespace)
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


def same_namespace(kind: Kind, metadata: Document, namespace: str) -> None:
    """BadRequest where an object says it is of another namespace than the path."""
    given = metadata.get("namespace")
    if kind.resource.namespaced and given and given != namespace:
        raise BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request", details={}
        )


def apply_defaults(kind: Kind, document: Document) -> None:
    """Upstream's defaults, where the kind has some. A document that is no longer well formed is left to validation."""
    if fill := DEFAULTS.get((kind.stored.group, kind.stored.plural)):
        fill(document)


def update(context: Context, request: Request, kind: Kind, warnings: list[str]) -> tuple[bytes, int]:
    """PUT on the object or on its /status: (its JSON, 201 where that created it, as few kinds let it, else 200)."""
    assert request.target is not None
    target = request.target
    given = read_object(request, kind, context.registry, warnings)
    metadata = given["metadata"]
    if metadata.get("name") and metadata["name"] != target.name:
        raise BadRequest(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})",
            details={},
        )
    same_namespace(kind, metadata, target.namespace)
    encoded = msgspec.json.encode(given)

    try:
        return store_changed(context, request, kind, lambda _: msgspec.json.decode(encoded), warnings), 200
    except NotFound:
        if target.subresource or not strategy.is_created_by_update(kind.resource):
            raise
    if uid := metadata.get("uid"):
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
        raise problems.conflict(kind.resource, target.name, why)
    context.authorizer.authorize(msgspec.structs.replace(request, method="POST"))  # who may update may not so create
    metadata["name"] = target.name
    return create_object(context, request, kind, given, target.namespace), 201


def store_changed(
    context: Context,
    request: Request,
    kind: Kind,
    change: Callable[[Document], Document],
    warnings: list[str] | None = None,
) -> bytes:
    """Store `change(old)`, prepared; the JSON of what is stored now (or was last, if this removed it)."""
    assert request.target is not None
    target = request.target
    told: list[str] = []
    with context.allocation.for_update(kind, dry_run=request.dry_run) as allocated:

        def prepared(old: Document) -> Document:
            new = prepare_update(context, request, kind, change(old), old)
            allocated.fill(new, old, target.subresource)
            told[:] = advice.of_object(kind.resource, new, old) if warnings is not None else []
            return new

        raw, gone = context.storage.change(kind, target.namespace, target.name, prepared, dry_run=request.dry_run)
        allocated.stored(raw)
    if warnings is not None:
        warnings += told
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
    if (
        request.method == "PUT"
        and not sub
        and not metadata.get("resourceVersion")
        and strategy.is_conditional(resource)
    ):
        told = problems.invalid("metadata.resourceVersion", 0, "must be specified for an update")
        raise problems.rejected(resource, name, [told])
    if kind.conversion:
        new = kind.conversion.to_stored(new)
    owners = metadata.get("managedFields")
    meta.carry(metadata, old["metadata"])
    apply_defaults(kind, new)
    if sub in {"status", "approval"}:
        new = strategy.prepare_status(resource, new, old)
    elif sub in strategy.PARTS:
        new = strategy.prepare_part(sub, new, old)
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

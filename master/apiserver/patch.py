"""The four patches: JSON patch, merge patch, strategic merge patch and server-side apply.

Source: apiserver `endpoints/handlers/patch.go`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from labctl.kube.codec import DecodeError, decode_json
from labctl.kube.duplicates import duplicates
from labctl.kube.errors import (
    AlreadyExists,
    BadRequest,
    Invalid,
    NotFound,
    ServerTimeout,
    TooLarge,
    UnsupportedMediaType,
)
from labctl.kube.patch import MAX_OPERATIONS, PatchError, PatchRejected, json_patch, merge_patch
from labctl.kube.strategic import shown, strategic_patch
from master.apiserver import apply, ownership, problems
from master.apiserver.body import check, media_type
from master.apiserver.context import Context
from master.apiserver.registry import Kind
from master.apiserver.request import Request
from master.apiserver.write import create_object, same_namespace, store_changed

Document = dict[str, Any]

_PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
}
_OPERATION = frozenset({"op", "path", "from", "value"})
_APPLY_TRIES = 8


def patch(context: Context, request: Request, kind: Kind, warnings: list[str]) -> tuple[bytes, int]:
    """PATCH on the object or on its /status: (the object's JSON, 201 where an apply created it, else 200).

    Retried on conflict unless the patch carries a resourceVersion.
    """
    if ownership.applies(request):
        return apply_object(context, request, kind, warnings)
    how, body = patch_body(request)
    told = _flaws(request, how, body)

    def change(old: Document) -> Document:
        served = kind.conversion.from_stored(old) if kind.conversion else old
        if b"managedFields" not in request.body:  # who does not speak of owners need not carry them along
            about = {key: value for key, value in served["metadata"].items() if key != "managedFields"}
            served = {**served, "metadata": about}
        warnings.clear()  # of an earlier try
        new = apply_patch(context, kind, (how, body), served)
        # A JSON patch moves parts of the old document to where they were never checked.
        known = None if how == "json" else served
        new = new if known else _copy(new)
        try:
            new = check(new, request, kind, context.registry, warnings, told, known)
        except BadRequest as error:
            why = error.message.rpartition(f" cannot be handled as a {kind.resource.kind}: ")[2]
            raise _unusable(shown(body) if how == "strategic" else msgspec.json.encode(new).decode(), why) from error
        _still_itself(request, kind, new)
        return _copy(new) if known else new

    return store_changed(context, request, kind, change, warnings), 200


def apply_object(context: Context, request: Request, kind: Kind, warnings: list[str]) -> tuple[bytes, int]:
    """Server-side apply: change the object, or create it where there is none."""
    assert request.target is not None
    target, config = request.target, apply.read_config(context, request, kind, warnings)
    same_namespace(kind, config["metadata"], target.namespace)

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


def patch_body(request: Request) -> tuple[str, Any]:
    """(json, merge or strategic; the patch) of a PATCH that is no apply. BadRequest, UnsupportedMediaType, Invalid."""
    how = _PATCHES.get(media_type(request))
    if how is None:
        listed = ", ".join((*_PATCHES, ownership.APPLY_TYPE))
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {listed}", details={}
        )
    if "force" in request.query:
        error = problems.forbidden_field("force", "may not be specified for non-apply patch")
        raise problems.bad_option(request.options, error)
    try:
        body = decode_json(request.body)
    except DecodeError as error:
        raise BadRequest(f"error decoding patch: {error}", details={}) from error
    if how == "json" and not isinstance(body, list):
        raise BadRequest(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch", details={}
        )
    if how == "json" and len(body) > MAX_OPERATIONS:
        raise TooLarge(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(body)}", details={}
        )
    if how != "json" and not isinstance(body, dict):
        raise BadRequest("error decoding patch: the patch is not an object", details={})
    return how, body


def apply_patch(context: Context, kind: Kind, patch: tuple[str, Any], old: Document) -> Document:
    """`old` with a patch of one of the three kinds carried out; parts are shared. BadRequest, or 422."""
    how, body = patch
    try:
        if how == "json":
            patched = json_patch(old, body)
        elif how == "merge":
            patched = merge_patch(old, body)
        else:
            patched = strategic_patch(old, body, context.registry.shape(kind))
    except PatchError as error:
        raise BadRequest(str(error), details={}) from error
    except PatchRejected as error:
        told = f"the server rejected our request due to an error in our request: {error}"
        raise Invalid(told, details={}) from error
    if not isinstance(patched, dict):
        raise BadRequest("error decoding patch: the result is not an object", details={})
    return patched


def _copy(document: Document) -> Document:
    """A document of its own, that shares nothing with the one it was patched from."""
    copied: Document = msgspec.json.decode(msgspec.json.encode(document))
    return copied


def _flaws(request: Request, how: str, body: Any) -> list[str]:
    """Keys that come twice in a patch, and in a JSON patch members that no operation has."""
    twice = [f'duplicate field "{path}"' for path in duplicates(request.body, body)]
    if how != "json":
        return twice
    odd = [
        f'unknown field "[{at}].{key}"'
        for at, operation in enumerate(body)
        if isinstance(operation, dict)
        for key in operation
        if key not in _OPERATION
    ]
    return [f"json patch {flaw}" for flaw in (*twice, *odd)]


def _still_itself(request: Request, kind: Kind, new: Document) -> None:
    """No patch renames an object or moves it elsewhere. BadRequest."""
    assert request.target is not None
    same_namespace(kind, new["metadata"], request.target.namespace)
    given = new["metadata"].get("name")
    if given != request.target.name:
        raise BadRequest(
            f"the name of the object ({given}) does not match the name on the URL ({request.target.name})", details={}
        )


def _unusable(patch: str, why: str) -> Invalid:
    """What comes out of the patch is no object of the kind: upstream's error, which names no object."""
    error = problems.invalid("patch", patch, why)
    causes = [{"reason": error.reason, "message": error.message, "field": error.field}]
    return Invalid(f' "" is invalid: {error}', details={"causes": causes})

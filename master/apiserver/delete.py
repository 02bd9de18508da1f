"""Delete and deletecollection: preconditions, grace, finalizers, propagation.

Source: apiserver `registry/rest/delete.go`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from labctl.kube.errors import BadRequest, NotFound
from labctl.runtime.clock import parse_time, rfc3339
from master.apiserver import problems, strategy
from master.apiserver.admit import Attributes
from master.apiserver.body import read_as
from master.apiserver.context import Context
from master.apiserver.negotiate import Form
from master.apiserver.read import select
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply, document_reply, list_bytes, object_reply
from master.apiserver.request import Request
from master.apiserver.storage import Deleted

Document = dict[str, Any]

_ORPHAN, _FOREGROUND = "orphan", "foregroundDeletion"
_LONGEST_GRACE_S = 1 << 31  # beyond which times have no form
_POLICIES = ("Orphan", "Background", "Foreground")


class Options(msgspec.Struct, frozen=True, rename="camel"):
    """What a delete may say, in its body or its query."""

    grace_period_seconds: int | None = None
    preconditions: dict[str, str] | None = None
    propagation_policy: str = ""
    orphan_dependents: bool | None = None
    dry_run: list[str] | None = None

    @property
    def is_dry(self) -> bool:
        """Whether nothing may be stored."""
        return bool(self.dry_run)


def read_options(request: Request, context: Context) -> Options:
    """DeleteOptions from the body, else from the query."""
    document: Document = {}
    if request.body:
        document = read_as(request, context.registry, "v1", "DeleteOptions")
        if document.get("kind", "DeleteOptions") != "DeleteOptions":
            raise BadRequest(f"the body of a delete is DeleteOptions, not {document['kind']}", details={})
    else:
        if (grace := request.number("gracePeriodSeconds")) is not None:
            document["gracePeriodSeconds"] = grace
        if policy := request.query.get("propagationPolicy"):
            document["propagationPolicy"] = policy
    if request.dry_run:
        document["dryRun"] = ["All"]
    return convert_options({key: value for key, value in document.items() if value is not None})


def convert_options(document: Document) -> Options:
    """DeleteOptions from a document; BadRequest, or 422 where a value is not known."""
    try:
        options = msgspec.convert(document, Options)
    except msgspec.ValidationError as error:
        raise BadRequest(f"DeleteOptions: {error}", details={}) from error
    if options.propagation_policy not in {"", *_POLICIES}:
        raise problems.bad_option(
            "DeleteOptions", problems.unsupported("propagationPolicy", options.propagation_policy, _POLICIES)
        )
    if options.dry_run not in (None, [], ["All"]):
        raise BadRequest('dryRun: Unsupported value: supported values: "All"', details={})
    return options


def delete(context: Context, request: Request, kind: Kind, form: Form) -> Reply:
    """DELETE of one object: the object while it lingers, else a Status (or the object, for some kinds)."""
    assert request.target is not None
    target = request.target
    namespace = target.namespace if kind.resource.namespaced else ""
    options = read_options(request, context)
    raw, gone = delete_object(context, request, kind, (namespace, target.name), options)
    if not gone or kind.resource.plural in strategy.RETURNS_DELETED:
        return object_reply(raw, kind, form)
    uid = msgspec.json.decode(raw)["metadata"].get("uid", "")
    details = {"name": target.name, "group": kind.resource.group, "kind": kind.resource.plural, "uid": uid}
    details = {key: value for key, value in details.items() if value}
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    return document_reply(status, form)


def delete_object(
    context: Context, request: Request, kind: Kind, where: tuple[str, str], options: Options
) -> tuple[bytes, bool]:
    """Delete the object (namespace, name), or begin to; (its JSON, whether it is gone)."""
    namespace, name = where
    context.admission.admit(Attributes("delete", kind, namespace, name, None, None, request.user))
    now = context.clock.now()

    def change(old: Document) -> Document:
        check_preconditions(kind, name, old["metadata"], options.preconditions or {})
        grace = grace_s(old, options)
        return mark(kind, old, options, (rfc3339(now + timedelta(seconds=grace)), grace))

    raw, gone = context.storage.change(kind, namespace, name, change, dry_run=options.is_dry)
    if gone and not options.is_dry:
        context.allocation.deleted(kind, raw)
    return raw, gone


def check_preconditions(kind: Kind, name: str, metadata: Document, wanted: Document) -> None:
    """Conflict unless uid and resourceVersion are as asked for."""
    for key, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if wanted.get(key) and wanted[key] != metadata.get(key):
            why = f"Precondition failed: {label} in precondition: {wanted[key]}, {label} in object meta: "
            why += str(metadata.get(key))
            raise problems.conflict(kind.resource, name, why)


def grace_s(document: Document, options: Options) -> int:
    """How long a pod gets to end; 0 for every other kind, and for a pod that runs nowhere."""
    if document.get("kind") != "Pod":
        return 0
    spec, phase = document.get("spec") or {}, (document.get("status") or {}).get("phase")
    if not spec.get("nodeName") or phase in {"Succeeded", "Failed"}:
        return 0
    period = options.grace_period_seconds
    if period is None:
        period = spec.get("terminationGracePeriodSeconds", 30)
    return 1 if period < 0 else min(int(period), _LONGEST_GRACE_S)


def mark(kind: Kind, old: Document, options: Options, when: tuple[str, int]) -> Document:
    """The object being deleted; raises Deleted where nothing holds it any more."""
    metadata = old["metadata"]
    stamp, grace = when
    _finalizers(kind, metadata, options)
    had = metadata.get("deletionTimestamp")
    if had is None:
        metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"] = stamp, grace
        if "generation" in metadata:
            metadata["generation"] += 1
    elif grace < (metadata.get("deletionGracePeriodSeconds") or 0):
        # Never later than before, and the new grace counts from the moment the first delete came.
        began = parse_time(had) - timedelta(seconds=metadata["deletionGracePeriodSeconds"])
        metadata["deletionTimestamp"] = rfc3339(began + timedelta(seconds=grace))
        metadata["deletionGracePeriodSeconds"] = grace
    if old.get("kind") == "Namespace":
        old["status"] = {**(old.get("status") or {}), "phase": "Terminating"}
        if (old.get("spec") or {}).get("finalizers"):
            return old
    if metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds"):
        return old
    raise Deleted(old)


def _finalizers(kind: Kind, metadata: Document, options: Options) -> None:
    policy = options.propagation_policy
    if not policy and options.orphan_dependents is not None:
        policy = "Orphan" if options.orphan_dependents else "Background"
    if not policy:
        had = metadata.get("finalizers") or ()
        if _ORPHAN in had or _FOREGROUND in had:
            return
        policy = "Orphan" if kind.resource.plural == "replicationcontrollers" else "Background"
    kept = [entry for entry in metadata.get("finalizers") or () if entry not in {_ORPHAN, _FOREGROUND}]
    if policy == "Orphan":
        kept.append(_ORPHAN)
    elif policy == "Foreground":
        kept.append(_FOREGROUND)
    if kept:
        metadata["finalizers"] = kept
    else:
        metadata.pop("finalizers", None)


def delete_collection(context: Context, request: Request, kind: Kind, form: Form) -> Reply:
    """DELETE of everything a list with the same options would show; the list is the answer."""
    options = read_options(request, context)
    found, metadata = select(context, request, kind)
    for raw in found:
        about = msgspec.json.decode(raw)["metadata"]
        try:
            delete_object(context, request, kind, (about.get("namespace", ""), about["name"]), options)
        except NotFound:
            continue  # somebody was faster
    return Reply(list_bytes(found, kind, metadata, form), 200, form.content_type)

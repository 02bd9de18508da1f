"""Subresources: status, scale, binding, eviction, finalize. Logs, tokens and streams live in files of their own.

Sources: `pkg/registry/core/pod/storage`, `pkg/registry/apps/deployment/storage`, `pkg/registry/core/namespace/storage`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from labctl.kube.resources import builtin
from labctl.runtime.clock import rfc3339
from master.apiserver import problems
from master.apiserver.body import read_as, read_object, typed
from master.apiserver.columns import selector as selector_text
from master.apiserver.context import Context
from master.apiserver.eviction import evict
from master.apiserver.log import pod_log
from master.apiserver.negotiate import Form
from master.apiserver.ownership import applies
from master.apiserver.patch import apply_patch, patch, patch_body
from master.apiserver.proxy import proxy
from master.apiserver.read import get
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply, document_reply, object_reply
from master.apiserver.request import Request
from master.apiserver.storage import Deleted
from master.apiserver.streams import connect
from master.apiserver.token import create_token
from master.apiserver.write import prepare_update, update

Document = dict[str, Any]
Handler = Callable[[Context, Request, Kind, Form, list[str]], Reply]

_SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def handle(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """Dispatch by the subresource's name; as upstream, one the kind does not have is not found."""
    assert request.target is not None
    name = request.target.subresource
    if name not in kind.resource.subresources:
        raise problems.no_such_resource()
    handler = _HANDLERS.get(name)
    if handler is None:
        raise problems.no_such_resource()
    return handler(context, request, kind, form, warnings)


def _status(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """Also /approval, /resize and /ephemeralcontainers, which are written the same way."""
    if request.method in {"GET", "HEAD"}:
        return get(context, request, kind, form)
    if request.method == "PUT":
        raw, code = update(context, request, kind, warnings)
        return object_reply(raw, kind, form, code)
    if request.method == "PATCH":
        raw, code = patch(context, request, kind, warnings)
        return object_reply(raw, kind, form, code)
    raise problems.method_not_allowed()


def _finalize(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """PUT: the only way to change a namespace's spec.finalizers; the last one gone, the namespace goes."""
    if request.method != "PUT":
        raise problems.method_not_allowed()
    assert request.target is not None
    name = request.target.name
    given = read_object(request, kind, context.registry, warnings)
    wanted = (given.get("spec") or {}).get("finalizers") or []

    def change(old: Document) -> Document:
        version = given["metadata"].get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            raise problems.conflict(kind.resource, name)
        old["spec"] = {**(old.get("spec") or {}), "finalizers": wanted}
        if not wanted:
            del old["spec"]["finalizers"]
            if old["metadata"].get("deletionTimestamp") and not old["metadata"].get("finalizers"):
                raise Deleted(old)
        return old

    raw, _ = context.storage.change(kind, "", name, change, dry_run=request.dry_run)
    return object_reply(raw, kind, form)


def _scale_of(document: Document) -> Document:
    metadata = document["metadata"]
    spec, status = document.get("spec") or {}, document.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = spec.get("selector") or {}
    if document.get("kind") == "ReplicationController":
        selector = {"matchLabels": selector}
    text = selector_text(selector)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": spec.get("replicas", 0)},
        "status": {"replicas": status.get("replicas", 0), "selector": "" if text == "<none>" else text},
    }


def _scale(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """The Scale view of a workload: only spec.replicas is written."""
    del warnings
    assert request.target is not None
    target = request.target
    if request.method in {"GET", "HEAD"}:
        found = context.storage.get(kind, target.namespace, target.name)
        return document_reply(_scale_of(found.document), form)
    if request.method == "PUT":
        given = read_as(request, context.registry, "autoscaling/v1", "Scale")

        def wanted(scale: Document) -> Document:
            del scale
            return given

    elif applies(request):
        applied, code = patch(context, request, kind, [])
        return document_reply(_scale_of(msgspec.json.decode(applied)), form, code)
    elif request.method == "PATCH":
        how, body = patch_body(request)

        def wanted(scale: Document) -> Document:
            patched = apply_patch(context, kind, ("merge" if how == "strategic" else how, body), scale)
            return typed(patched, context.registry, "autoscaling/v1", "Scale")

    else:
        raise problems.method_not_allowed()

    def change(old: Document) -> Document:
        scale = wanted(_scale_of(old))
        version = (scale.get("metadata") or {}).get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            raise problems.conflict(kind.resource, target.name)
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if replicas < 0:
            error = problems.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
            raise problems.rejected(builtin("deployments", "apps"), target.name, [error])
        new = msgspec.json.decode(msgspec.json.encode(old))
        new["spec"]["replicas"] = replicas
        return prepare_update(context, request, kind, new, old)

    raw, _ = context.storage.change(kind, target.namespace, target.name, change, dry_run=request.dry_run)
    return document_reply(_scale_of(msgspec.json.decode(raw)), form)


def _binding(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """POST: the scheduler's decision, once and for all."""
    del warnings
    if request.method != "POST":
        raise problems.method_not_allowed()
    return bind(context, request, kind, form, read_as(request, context.registry, "v1", "Binding"))


def bind(context: Context, request: Request, kind: Kind, form: Form, binding: Document) -> Reply:
    """Assign the pod to `binding.target`. Source: `pkg/registry/core/pod/storage/storage.go` (assignPod)."""
    assert request.target is not None
    given = binding.get("metadata") or {}
    name = request.target.name or str(given.get("name", ""))
    node = (binding.get("target") or {}).get("name")
    if not node:
        raise problems.rejected(builtin("bindings"), name, [problems.required("target.name")])
    now = rfc3339(context.clock.now())

    def change(pod: Document) -> Document:
        metadata, spec = pod["metadata"], pod["spec"]
        if given.get("uid") and given["uid"] != metadata["uid"]:
            why = f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: {metadata['uid']}"
            raise problems.conflict(kind.resource, name, why)
        if metadata.get("deletionTimestamp"):
            raise problems.conflict(kind.resource, name, f"pod {name} is being deleted, cannot be assigned to a host")
        if spec.get("nodeName"):
            raise problems.conflict(kind.resource, name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
        if spec.get("schedulingGates"):
            raise problems.conflict(kind.resource, name, f"pod {name} has non-empty .spec.schedulingGates")
        spec["nodeName"] = node
        if given.get("annotations"):
            metadata["annotations"] = {**(metadata.get("annotations") or {}), **given["annotations"]}
        conditions = [entry for entry in pod["status"].get("conditions") or () if entry.get("type") != "PodScheduled"]
        conditions.append({"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now})
        pod["status"]["conditions"] = conditions
        return pod

    context.storage.change(kind, request.target.namespace, name, change, dry_run=request.dry_run)
    return document_reply(_SUCCESS, form, 201)


_HANDLERS: dict[str, Handler] = {
    "status": _status,
    "approval": _status,
    "resize": _status,
    "ephemeralcontainers": _status,
    "finalize": _finalize,
    "scale": _scale,
    "binding": _binding,
    "eviction": evict,
    "log": pod_log,
    "exec": connect,
    "attach": connect,
    "portforward": connect,
    "proxy": proxy,
    "token": create_token,
}

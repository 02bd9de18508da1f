"""Subresources: status, scale, binding, eviction, finalize. Logs, tokens and streams live in files of their own.

Sources: `pkg/registry/core/pod/storage`, `pkg/registry/apps/deployment/storage`, `pkg/registry/core/namespace/storage`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from labctl.kube.errors import BadRequest, TooManyRequests
from labctl.kube.resources import builtin
from labctl.kube.selectors import from_label_selector, matches
from labctl.runtime.clock import rfc3339
from master.apiserver import problems
from master.apiserver.body import read_as, read_object, typed
from master.apiserver.columns import selector as selector_text
from master.apiserver.context import Context
from master.apiserver.delete import convert_options, delete_object
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

_SEVERAL_BUDGETS = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
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
        return object_reply(update(context, request, kind, warnings), kind, form)
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


def _eviction(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """POST: a delete that a PodDisruptionBudget may refuse with 429. Source: `pod/storage/eviction.go`."""
    del warnings
    if request.method != "POST":
        raise problems.method_not_allowed()
    assert request.target is not None
    target = request.target
    body = read_as(request, context.registry, "policy/v1", "Eviction")
    named = (body.get("metadata") or {}).get("name")
    if named and named != target.name:
        raise BadRequest("name in URL does not match name in Eviction object", details={})
    options = convert_options(
        {key: value for key, value in (body.get("deleteOptions") or {}).items() if value is not None}
    )
    pod = context.storage.get(kind, target.namespace, target.name).document
    phase = (pod.get("status") or {}).get("phase")
    if phase not in {"Succeeded", "Failed", "Pending"} and not pod["metadata"].get("deletionTimestamp"):
        _spend(context, pod, dry_run=request.dry_run or options.is_dry)
    if request.dry_run:
        options = msgspec.structs.replace(options, dry_run=["All"])
    delete_object(context, request, kind, (target.namespace, target.name), options)
    return document_reply(_SUCCESS, form, 201)


def _spend(context: Context, pod: Document, *, dry_run: bool) -> None:
    """Take one disruption from the pod's budget; TooManyRequests while there is none."""
    kind = context.registry.of(builtin("poddisruptionbudgets", "policy"))
    namespace, labels = pod["metadata"]["namespace"], pod["metadata"].get("labels") or {}
    budgets = []
    for entry in context.storage.current(kind).list(kind.scope(namespace))[0]:
        selector = from_label_selector((entry.document.get("spec") or {}).get("selector"))
        if selector is not None and matches(selector, labels):
            budgets.append(entry.document["metadata"]["name"])
    if len(budgets) > 1:
        raise problems.rejected(
            builtin("pods"), pod["metadata"]["name"],
            [problems.forbidden_field("", _SEVERAL_BUDGETS)],
        )  # fmt: skip
    now = rfc3339(context.clock.now())
    for name in budgets:

        def change(budget: Document, name: str = name) -> Document:
            status = budget.get("status") or {}
            if status.get("disruptionsAllowed", 0) < 1:
                raise _refused(name, status)
            disrupted = {**(status.get("disruptedPods") or {}), pod["metadata"]["name"]: now}
            budget["status"] = {
                **status,
                "disruptionsAllowed": status["disruptionsAllowed"] - 1,
                "disruptedPods": disrupted,
            }
            return budget

        context.storage.change(kind, namespace, name, change, dry_run=dry_run)


def _refused(name: str, status: Document) -> TooManyRequests:
    needed, healthy = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
    message = f"The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
    details = {"causes": [{"reason": "DisruptionBudget", "message": message}]}
    return TooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", details=details)


_HANDLERS: dict[str, Handler] = {
    "status": _status,
    "approval": _status,
    "resize": _status,
    "ephemeralcontainers": _status,
    "finalize": _finalize,
    "scale": _scale,
    "binding": _binding,
    "eviction": _eviction,
    "log": pod_log,
    "exec": connect,
    "attach": connect,
    "portforward": connect,
    "proxy": proxy,
    "token": create_token,
}

"""Resources that are answered, not stored: access reviews, who am I, token reviews, bindings, component statuses."""

from __future__ import annotations

from typing import Any

import msgspec

from labctl.kube.resources import PODS
from labctl.runtime.clock import rfc3339
from master.apiserver import problems
from master.apiserver.authz import allowed, rules_of
from master.apiserver.body import read_object
from master.apiserver.context import Context
from master.apiserver.negotiate import Form
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply, document_reply, list_bytes
from master.apiserver.request import Request, User
from master.apiserver.subresources import bind

Document = dict[str, Any]


def handle(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """Answer a request to one of these resources."""
    plural = kind.resource.plural
    if plural == "componentstatuses":
        return _component_statuses(context, request, kind, form)
    document = read_object(request, kind, context.registry, warnings)
    if plural == "bindings":
        return bind(context, request, context.registry.of(PODS), form, document)
    document["metadata"].setdefault("creationTimestamp", rfc3339(context.clock.now()))
    spec = document.get("spec") or {}
    if plural == "selfsubjectreviews":
        document["status"] = {"userInfo": _user_info(request.user)}
    elif plural == "tokenreviews":
        document["status"] = {"user": {}, "error": "invalid bearer token"}
    elif plural == "selfsubjectrulesreviews":
        document["status"] = _rules(request.user)
    elif plural == "selfsubjectaccessreviews":
        document["status"] = _decision(request.user, spec)
    else:
        document["status"] = _decision(User(spec.get("user", ""), tuple(spec.get("groups") or ())), spec)
    return document_reply(document, form, 201)


def _user_info(user: User) -> Document:
    return {"username": user.name, "groups": list(user.groups)}


def _decision(user: User, spec: Document) -> Document:
    if (path := spec.get("nonResourceAttributes")) is not None:
        fits = any(rule.allows_path(path.get("verb", ""), path.get("path", "")) for rule in rules_of(user))
        return {"allowed": fits}
    wanted = spec.get("resourceAttributes") or {}
    resource = wanted.get("resource", "")
    if wanted.get("subresource"):
        resource += f"/{wanted['subresource']}"
    return {"allowed": allowed(user, wanted.get("verb", ""), wanted.get("group", ""), resource)}


def _rules(user: User) -> Document:
    resources, others = [], []
    for rule in rules_of(user):
        if rule.resources:
            resources.append(
                {"verbs": list(rule.verbs), "apiGroups": list(rule.groups), "resources": list(rule.resources)}
            )
        if rule.paths:
            others.append({"verbs": list(rule.verbs), "nonResourceURLs": list(rule.paths)})
    return {"resourceRules": resources, "nonResourceRules": others, "incomplete": False}


def _component_statuses(context: Context, request: Request, kind: Kind, form: Form) -> Reply:
    """What this API server can tell: the store answers, or the request fails."""
    assert request.target is not None
    context.storage.store.revision()
    condition = {"type": "Healthy", "status": "True", "message": "ok"}
    found = {"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": "etcd-0"}, "conditions": [condition]}
    if request.target.name:
        if request.target.name != "etcd-0":
            raise problems.not_found(kind.resource, request.target.name)
        return document_reply(found, form)
    return Reply(list_bytes([msgspec.json.encode(found)], kind, {}, form), 200, form.content_type)

"""Resources that are answered, not stored: access reviews, who am I, token reviews, bindings, component statuses.

Source: k/k `pkg/registry/{authorization,authentication}`, `pkg/apis/authorization/validation`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from labctl.kube.errors import BadRequest
from labctl.kube.resources import PODS
from labctl.runtime.clock import rfc3339
from master.apiserver import problems
from master.apiserver.authz.attributes import Attributes
from master.apiserver.authz.node import node_of
from master.apiserver.body import read_object
from master.apiserver.context import Context
from master.apiserver.negotiate import Form
from master.apiserver.problems import FieldError
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply, document_reply, list_bytes
from master.apiserver.request import Request, User
from master.apiserver.subresources import bind
from master.apiserver.tokens import AUDIENCES, InvalidToken

Document = dict[str, Any]

_ONE_OF = "exactly one of nonResourceAttributes or resourceAttributes must be specified"


def handle(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """Answer a request to one of these resources."""
    plural = kind.resource.plural
    if plural == "componentstatuses":
        return _component_statuses(context, request, kind, form)
    document = read_object(request, kind, context.registry, warnings)
    if plural == "bindings":
        return bind(context, request, context.registry.of(PODS), form, document)
    spec = document.get("spec") or {}
    if plural.endswith("accessreviews"):
        document["status"] = _access(context, request, kind, spec)
    elif plural == "selfsubjectrulesreviews":
        document["status"] = _rules(context, request.user, spec)
    elif plural == "tokenreviews":
        document["status"] = _token(context, spec)
    else:
        document["status"] = {"userInfo": _user_info(request.user)}
    document["metadata"].setdefault("creationTimestamp", rfc3339(context.clock.now()))
    return document_reply(document, form, 201)


def _user_info(user: User) -> Document:
    found: Document = {"username": user.name}
    if user.uid:
        found["uid"] = user.uid
    found["groups"] = list(user.groups)
    if user.extra:
        found["extra"] = {key: list(values) for key, values in user.extra}
    return found


def _access(context: Context, request: Request, kind: Kind, spec: Document) -> Document:
    """Whether somebody may do something; the reason names the binding that says so."""
    mine = kind.resource.plural.startswith("self")
    local = request.target.namespace if request.target is not None and kind.resource.namespaced else None
    if errors := _spec_errors(spec, mine=mine, local=local):
        raise problems.rejected(kind.resource, "", errors)
    user = request.user if mine else _named(spec)
    decision = context.authorizer.decide(_attributes(user, spec))
    status: Document = {"allowed": decision.allowed}
    return status | ({"reason": decision.reason} if decision.reason else {})


def _spec_errors(spec: Document, *, mine: bool, local: str | None) -> list[FieldError]:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    errors = []
    if (resource is None) == (path is None):
        errors.append(problems.invalid("spec", path, _ONE_OF))
    if not mine and not spec.get("user") and not spec.get("groups"):
        why = "at least one of user or group must be specified"
        errors.append(problems.invalid("spec.user", spec.get("user", ""), why))
    if local is not None and resource is not None and resource.get("namespace", "") != local:
        field = "spec.resourceAttributes.namespace"
        errors.append(problems.invalid(field, resource.get("namespace", ""), "must match metadata.namespace"))
    if local is not None and path is not None:
        errors.append(problems.invalid("spec.nonResourceAttributes", path, "disallowed on this kind of request"))
    return errors


def _named(spec: Document) -> User:
    extra = tuple((key, tuple(values or ())) for key, values in (spec.get("extra") or {}).items())
    return User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)


def _attributes(user: User, spec: Document) -> Attributes:
    if (path := spec.get("nonResourceAttributes")) is not None:
        return Attributes(user=user, verb=path.get("verb", ""), path=path.get("path", ""))
    wanted = spec["resourceAttributes"]
    return Attributes(
        user=user,
        verb=wanted.get("verb", ""),
        group=wanted.get("group", ""),
        resource=wanted.get("resource", "") or "*",
        subresource=wanted.get("subresource", ""),
        namespace=wanted.get("namespace", ""),
        name=wanted.get("name", ""),
        field_selector=_selector(wanted.get("fieldSelector") or {}),
    )


def _selector(given: Document) -> str:
    """A field selector as requests carry it; of requirements, only those that ask for one value."""
    if raw := given.get("rawSelector"):
        return str(raw)
    terms = given.get("requirements") or ()
    return ",".join(
        f"{term['key']}={term['values'][0]}"
        for term in terms
        if term.get("operator") == "In" and len(term.get("values") or ()) == 1
    )


def _rules(context: Context, user: User, spec: Document) -> Document:
    """Everything that RBAC grants the user in a namespace; the node authorizer's answers cannot be listed."""
    namespace = spec.get("namespace", "")
    if not namespace:
        raise BadRequest("no namespace on request", details={})
    holding = context.authorizer.holding(user, namespace)
    resources: list[Document] = []
    others: list[Document] = []
    for grant in holding.grants:
        rule = msgspec.to_builtins(grant.rule)
        (others if grant.rule.non_resource_urls else resources).append({"verbs": [], **rule})
    errors = list(holding.errors)
    if node_of(user) is not None:
        errors.append("node authorizer does not support user rule resolution")
    status = {"resourceRules": resources, "nonResourceRules": others, "incomplete": bool(errors)}
    return status | ({"evaluationError": ", ".join(errors)} if errors else {})


def _token(context: Context, spec: Document) -> Document:
    if not spec.get("token"):
        raise BadRequest("token is required for TokenReview in authentication", details={})
    try:
        user, audiences = context.tokens.verify(spec["token"], spec.get("audiences") or AUDIENCES)
    except InvalidToken as error:
        return {"user": {}, "error": str(error)}
    return {"authenticated": True, "user": _user_info(user), "audiences": audiences}


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

"""serviceaccounts/token: a signed JWT for a ServiceAccount, perhaps bound to a pod, a secret or a node.

Sources: k/k `pkg/registry/core/serviceaccount/storage/token.go`, `pkg/apis/authentication/validation`,
`pkg/serviceaccount/claims.go`.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from labctl.kube.codec import DecodeError, clean
from labctl.kube.errors import ApiError, BadRequest, Conflict, Invalid
from labctl.kube.resources import NODES, PODS, SECRETS
from labctl.runtime.clock import rfc3339
from master.apiserver import problems
from master.apiserver.admit import Attributes
from master.apiserver.body import decode
from master.apiserver.context import Context
from master.apiserver.negotiate import Form
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply, document_reply
from master.apiserver.request import Request
from master.apiserver.tokens import AUDIENCES, ISSUER, PROJECTED_S

Document = dict[str, Any]

_GROUP, _KIND = "authentication.k8s.io", "TokenRequest"
_SHORTEST_S, _LONGEST_S, _DEFAULT_S = 600, 1 << 32, 3600
_EXTENDED_S = 365 * 24 * 3600


def create_token(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """POST a TokenRequest; it comes back with its status filled in."""
    del warnings
    if request.method != "POST":
        raise problems.method_not_allowed()
    assert request.target is not None
    namespace, name = request.target.namespace, request.target.name
    body = _read(context, request)
    account = context.storage.get(kind, namespace, name).document["metadata"]
    spec = body["spec"]
    seconds = spec["expirationSeconds"] = spec.get("expirationSeconds", _DEFAULT_S)
    # Admission sees the request as it was sent: a node asks for an audience that its pod names, or for none.
    context.admission.admit(Attributes("create", kind, namespace, name, body, None, request.user, "token"))
    spec["audiences"] = spec.get("audiences") or list(AUDIENCES)
    _check(body, namespace, name, account)
    about: Document = {"namespace": namespace, "serviceaccount": {"name": name, "uid": account["uid"]}}
    if ref := spec.get("boundObjectRef"):
        about |= _bound(context, namespace, name, ref)
    now = context.clock.now()
    lasts_s = seconds
    if "pod" in about and seconds == PROJECTED_S and set(spec["audiences"]) <= set(AUDIENCES):
        lasts_s = _EXTENDED_S
        about["warnafter"] = int(now.timestamp()) + seconds
    stamp = int(now.timestamp())
    claims = {
        "aud": spec["audiences"],
        "exp": stamp + lasts_s,
        "iat": stamp,
        "iss": ISSUER,
        "jti": str(uuid.uuid4()),
        "kubernetes.io": about,
        "nbf": stamp,
        "sub": f"system:serviceaccount:{namespace}:{name}",
    }
    status = {
        "token": context.tokens.sign(claims),
        "expirationTimestamp": rfc3339(now + timedelta(seconds=seconds)),
    }
    metadata = {"name": name, "namespace": namespace, "uid": account["uid"], "creationTimestamp": rfc3339(now)}
    head = {"kind": _KIND, "apiVersion": f"{_GROUP}/v1"}
    return document_reply(head | {"metadata": metadata, "spec": spec, "status": status}, form, 201)


def _read(context: Context, request: Request) -> Document:
    """The body, whose fields are of the right types. It is no kind of its own: nothing is served under its name."""
    body = decode(request, context.registry)
    schemas = context.registry.schemas
    try:
        clean(body, schemas.shape(schemas.name_of(_GROUP, "v1", _KIND)))
    except DecodeError as error:
        raise BadRequest(f'{_KIND} in version "v1" cannot be handled as a {_KIND}: {error}', details={}) from error
    body["metadata"] = body.get("metadata") or {}
    body["spec"] = body.get("spec") or {}
    return body


def _check(body: Document, namespace: str, name: str, account: Document) -> None:
    metadata, seconds = body["metadata"], body["spec"]["expirationSeconds"]
    errors = []
    for field, wanted in (("name", name), ("namespace", namespace)):
        if metadata.get(field) and metadata[field] != wanted:
            why = f"must match the service account {field} if specified"
            errors.append(problems.invalid(f"metadata.{field}", metadata[field], why))
    if seconds < _SHORTEST_S:
        why = "may not specify a duration less than 10 minutes"
        errors.append(problems.invalid("spec.expirationSeconds", seconds, why))
    if seconds > _LONGEST_S:
        why = "may not specify a duration larger than 2^32 seconds"
        errors.append(problems.invalid("spec.expirationSeconds", seconds, why))
    if errors:
        raise _invalid(errors)
    if metadata.get("uid") and metadata["uid"] != account["uid"]:
        why = "the UID in the token request ({}) does not match the UID of the service account ({})"
        raise _conflict(_KIND, name, why.format(metadata["uid"], account["uid"]))


def _invalid(errors: list[problems.FieldError]) -> ApiError:
    texts = [str(error) for error in errors]
    told = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    causes = [{"reason": error.reason, "message": error.message, "field": error.field} for error in errors]
    details = {"group": _GROUP, "kind": _KIND, "causes": causes}
    return Invalid(f'{_KIND}.{_GROUP} "" is invalid: {told}', details=details)


def _conflict(what: str, name: str, why: str) -> Conflict:
    return Conflict(
        f'Operation cannot be fulfilled on {what}.{_GROUP} "{name}": {why}',
        details={"name": name, "group": _GROUP, "kind": what},
    )


def _bound(context: Context, namespace: str, account: str, ref: Document) -> Document:
    """The claims about the object that the token is bound to; a pod brings its node along."""
    what, name = (ref.get("apiVersion") or "v1", ref.get("kind", "")), ref.get("name", "")
    resource = {("v1", "Pod"): PODS, ("v1", "Secret"): SECRETS, ("v1", "Node"): NODES}.get(what)
    if resource is None:
        group, _, version = what[0].rpartition("/")
        raise BadRequest(f"cannot bind token to object of type {group}/{version}, Kind={what[1]}", details={})
    found = context.storage.get(context.registry.of(resource), namespace if resource.namespaced else "", name).document
    uid = found["metadata"]["uid"]
    claims: Document = {resource.singular: {"name": name, "uid": uid}}
    if resource is PODS:
        if found["spec"].get("serviceAccountName") != account:
            raise BadRequest(
                f'cannot bind token for serviceaccount "{account}" to pod running with different serviceaccount name.',
                details={},
            )
        if node := found["spec"].get("nodeName"):
            kind = context.registry.of(NODES)
            seen = context.storage.cache(kind).get(kind.key("", node))
            claims["node"] = {"name": node} | ({"uid": seen.document["metadata"]["uid"]} if seen is not None else {})
    if ref.get("uid") and ref["uid"] != uid:
        why = (
            f"the UID in the bound object reference ({ref['uid']}) does not match the UID in record."
            " The object might have been deleted and then recreated"
        )
        raise _conflict(resource.kind, name, why)
    return claims

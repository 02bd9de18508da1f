"""serviceaccounts/token: a signed JWT for a ServiceAccount.

Source: `pkg/registry/core/serviceaccount/storage/token.go`.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from labctl.kube.errors import Unavailable
from labctl.runtime.clock import rfc3339
from master.apiserver import problems
from master.apiserver.body import decode
from master.apiserver.context import Context
from master.apiserver.negotiate import Form
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply, document_reply
from master.apiserver.request import Request

Document = dict[str, Any]

ISSUER = "https://kubernetes.default.svc.cluster.local"
_SHORTEST_S, _DEFAULT_S = 600, 3600


def create_token(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """POST a TokenRequest; it comes back with its status filled in."""
    del warnings
    if request.method != "POST":
        raise problems.method_not_allowed()
    assert request.target is not None
    account = context.storage.get(kind, request.target.namespace, request.target.name).document
    body = decode(request, context.registry)
    spec = body.get("spec") or {}
    lasts_s = spec.get("expirationSeconds") or _DEFAULT_S
    audiences = spec.get("audiences") or [ISSUER]
    if lasts_s < _SHORTEST_S:
        error = problems.invalid("spec.expirationSeconds", lasts_s, "may not specify a duration less than 10 minutes")
        raise problems.rejected(kind.resource, "", [error])
    now = context.clock.now()
    expires = now + timedelta(seconds=lasts_s)
    claims = _claims(account, spec) | {
        "aud": audiences,
        "iss": ISSUER,
        "iat": int(now.timestamp()),
        "nbf": int(now.timestamp()),
        "exp": int(expires.timestamp()),
        "jti": str(uuid.uuid4()),
    }
    status = {"token": _signed(context, claims), "expirationTimestamp": rfc3339(expires)}
    given = {**spec, "audiences": audiences, "expirationSeconds": lasts_s}
    metadata = {"name": request.target.name, "namespace": request.target.namespace, "creationTimestamp": rfc3339(now)}
    found = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "metadata": metadata}
    return document_reply({**found, "spec": given, "status": status}, form, 201)


def _claims(account: Document, spec: Document) -> Document:
    metadata = account["metadata"]
    about: Document = {
        "namespace": metadata["namespace"],
        "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
    }
    bound = spec.get("boundObjectRef") or {}
    if bound.get("kind") in {"Pod", "Secret", "Node"}:
        about[bound["kind"].lower()] = {"name": bound.get("name", ""), "uid": bound.get("uid", "")}
    return {
        "kubernetes.io": about,
        "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}",
    }


def _signed(context: Context, claims: Document) -> str:
    path = context.config.service_account_key_file
    if not path:
        raise Unavailable("tokens cannot be signed: service_account_key_file is not set", details={})
    import jwt  # noqa: PLC0415 - slow to import, seldom used
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    key = load_pem_private_key(Path(path).read_bytes(), password=None)
    algorithm = "ES256" if isinstance(key, EllipticCurvePrivateKey) else "RS256"
    return jwt.encode(claims, key, algorithm=algorithm)  # type: ignore[arg-type]

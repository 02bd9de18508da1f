"""Acting as somebody else: the Impersonate-* headers, each of which RBAC must allow.

Source: apiserver `endpoints/filters/impersonation`. WSGI hands repeated headers over as one, joined by commas,
and header names in upper case: groups are split again, and an extra's key is lower case, as upstream makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from labctl.kube.errors import BadRequest
from master.apiserver.audit import IMPERSONATOR
from master.apiserver.authz.attributes import Attributes
from master.apiserver.authz.authorizer import Authorizer, refusal
from master.apiserver.request import ANONYMOUS, User

_USER, _GROUP, _UID = "HTTP_IMPERSONATE_USER", "HTTP_IMPERSONATE_GROUP", "HTTP_IMPERSONATE_UID"
_EXTRA = "HTTP_IMPERSONATE_EXTRA_"
_AUTHENTICATION = "authentication.k8s.io"
_ACCOUNT = "system:serviceaccount:"
_AUTHENTICATED, _UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"


def impersonated(user: User, environ: dict[str, Any], authorizer: Authorizer) -> User:
    """Whom the request is to be judged as; Forbidden where `user` may not act as them."""
    if _USER not in environ and _GROUP not in environ and _UID not in environ:
        return user  # on every request, so it looks no further: extra alone says nothing
    headers = {key: str(value) for key, value in environ.items() if key.startswith("HTTP_IMPERSONATE_")}
    name = headers.get(_USER, "")
    groups = _values(headers.get(_GROUP, ""))
    extra = {_key(key): _values(value) for key, value in headers.items() if key.startswith(_EXTRA)}
    uid = headers.get(_UID, "")
    if not name:
        raise BadRequest("requested impersonation of groups, a uid or extra without impersonating a user", details={})
    environ[IMPERSONATOR] = user
    for wanted in _wanted(user, name, groups, (uid, extra)):
        decision = authorizer.decide(wanted)
        if not decision.allowed:
            raise refusal(wanted, decision.reason)
    return User(name, _groups(name, groups), uid, tuple((key, tuple(values)) for key, values in extra.items()))


def _values(header: str) -> list[str]:
    return [value.strip() for value in header.split(",") if value.strip()]


def _key(header: str) -> str:
    return unquote(header.removeprefix(_EXTRA).lower().replace("_", "-"))


def account_of(name: str) -> tuple[str, str] | None:
    """Namespace and name of the ServiceAccount that a user name stands for."""
    namespace, colon, account = name.removeprefix(_ACCOUNT).partition(":")
    if not name.startswith(_ACCOUNT) or not colon or not namespace or not account or ":" in account:
        return None
    return namespace, account


def _wanted(
    user: User, name: str, groups: list[str], more: tuple[str, Mapping[str, list[str]]]
) -> Iterator[Attributes]:
    """Everything that must be allowed."""
    uid, extra = more
    if (account := account_of(name)) is not None:
        yield Attributes(
            user=user, verb="impersonate", resource="serviceaccounts", namespace=account[0], name=account[1]
        )
    else:
        yield Attributes(user=user, verb="impersonate", resource="users", name=name)
    for group in groups:
        yield Attributes(user=user, verb="impersonate", resource="groups", name=group)
    for key, values in extra.items():
        for value in values:
            yield Attributes(
                user=user,
                verb="impersonate",
                group=_AUTHENTICATION,
                resource="userextras",
                subresource=key,
                name=value,
            )
    if uid:
        yield Attributes(user=user, verb="impersonate", group=_AUTHENTICATION, resource="uids", name=uid)


def _groups(name: str, given: list[str]) -> tuple[str, ...]:
    """The groups named, else those that follow from a ServiceAccount; and that the user is signed in, or is nobody."""
    groups = list(given)
    if not groups and (account := account_of(name)) is not None:
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{account[0]}"]
    if name == ANONYMOUS.name:
        return (*groups, *([] if _UNAUTHENTICATED in groups else [_UNAUTHENTICATED]))
    known = {_AUTHENTICATED, _UNAUTHENTICATED} & set(groups)
    return (*groups, *([] if known else [_AUTHENTICATED]))

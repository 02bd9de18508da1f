"""Get and list, from memory, as fresh as asked for. Source: Kubernetes API concepts, "Resource versions"."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from labctl.kube.errors import ApiError, BadRequest
from master.apiserver import problems
from master.apiserver.context import Context
from master.apiserver.negotiate import Form
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply, list_bytes, object_reply
from master.apiserver.request import Request
from master.apiserver.selection import selection
from master.apiserver.watchcache import Cached, WatchCache, with_resource_version
from master.store.protocol import Compacted

_WAIT_S = 3.0

_ANY = -1  # a token's revision: whatever is there now


class _Token(msgspec.Struct, rename={"revision": "rv", "after": "start"}):
    """What `continue` says: go on after this key, at this revision."""

    revision: int
    after: str
    version: str = "meta.k8s.io/v1"


def get(context: Context, request: Request, kind: Kind, form: Form) -> Reply:
    """GET of one object."""
    assert request.target is not None
    namespace, name = request.target.namespace, request.target.name
    cache = _fresh(context, request, kind)
    found = cache.get(kind.key(namespace if kind.resource.namespaced else "", name))
    if found is None:
        raise problems.not_found(kind.resource, name)
    return object_reply(found.raw, kind, form)


def revision_of(request: Request) -> int | None:
    """The `resourceVersion` option as a number; None where it is not given."""
    text = request.query.get("resourceVersion", "")
    if not text:
        return None
    digits = text.isascii() and text.isdigit()
    if digits and len(text) < 20:
        return int(text)
    why = "value out of range" if digits else "invalid syntax"
    shown = text[:100]
    raise BadRequest(
        f'resourceVersion: Invalid value: "{shown}": strconv.ParseUint: parsing "{shown}": {why}', details={}
    )


def _fresh(context: Context, request: Request, kind: Kind) -> WatchCache:
    """The cache, at least as new as the request wants: now, any (0), or a revision."""
    revision = revision_of(request)
    if revision is None:
        return context.storage.current(kind)
    cache = context.storage.cache(kind)
    if revision:
        cache.wait_until(revision, deadline_s=_WAIT_S)
    return cache


def list_objects(context: Context, request: Request, kind: Kind, form: Form) -> Reply:
    """GET of a collection."""
    assert request.target is not None
    found, metadata = select(context, request, kind)
    return Reply(list_bytes(found, kind, metadata, form), 200, form.content_type)


def select(context: Context, request: Request, kind: Kind) -> tuple[list[bytes], dict[str, Any]]:
    """The raw objects a list names, and the list's metadata."""
    assert request.target is not None
    scope = kind.scope(request.target.namespace)
    limit = request.number("limit") or 0
    request.number("timeoutSeconds")  # has no meaning here, but must be one
    match = selection(request, kind)
    token = request.query.get("continue", "")
    exact = _exactly(request)
    if token:
        if revision_of(request):
            raise BadRequest("specifying resource version is not allowed when using continue", details={})
        entries, revision, after = _at(context, kind, scope, _decoded(token))
    elif exact:
        entries, revision, after = _at(context, kind, scope, _Token(exact, ""))
    else:
        cached, revision = _fresh(context, request, kind).list(scope)
        entries, after = list(cached), ""
    if after:
        entries = [entry for entry in entries if entry.key > after]
    return _page(entries, revision, limit, match)


def _page(entries: list[Cached], revision: int, limit: int, match: Any) -> tuple[list[bytes], dict[str, Any]]:
    metadata: dict[str, Any] = {"resourceVersion": str(revision)}
    if not limit or len(entries) <= limit:
        return [entry.raw for entry in entries if match is None or match(entry)], metadata
    page: list[bytes] = []
    for at, entry in enumerate(entries):
        if match is None or match(entry):
            page.append(entry.raw)
        if len(page) == limit and at + 1 < len(entries):
            metadata["continue"] = _encoded(_Token(revision, entry.key))
            if match is None:
                metadata["remainingItemCount"] = len(entries) - at - 1
            break
    return page, metadata


def _exactly(request: Request) -> int:
    """The revision of `resourceVersionMatch=Exact`; 0 where it is not asked for."""
    match, revision = request.query.get("resourceVersionMatch", ""), revision_of(request)
    if match not in {"", "Exact", "NotOlderThan"}:
        raise problems.bad_option(
            "ListOptions", problems.unsupported("resourceVersionMatch", match, ("Exact", "NotOlderThan", ""))
        )
    if match and revision is None:
        raise _forbidden_match("resourceVersionMatch is forbidden unless resourceVersion is provided")
    if match == "Exact" and not revision:
        raise _forbidden_match('resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
    return revision or 0 if match == "Exact" else 0


def _forbidden_match(why: str) -> ApiError:
    return problems.bad_option("ListOptions", problems.forbidden_field("resourceVersionMatch", why))


def _at(context: Context, kind: Kind, scope: str, token: _Token) -> tuple[list[Cached], int, str]:
    """Everything beyond the token, as it stood at its revision: from memory if that is the present, else the store."""
    cache = context.storage.cache(kind)
    entries, revision = cache.list(scope)
    if token.revision in {revision, _ANY}:
        return list(entries), revision, token.after
    cache.wait_until(token.revision, deadline_s=_WAIT_S)
    try:
        page = context.storage.store.list(scope, revision=token.revision, after=token.after)
    except Compacted as error:
        raise _gone(token.after) from error
    found = [_cached(entry.key, entry.value, entry.revision) for entry in page.entries]
    return found, token.revision, token.after


class _Old:
    """An object as it stood at an older revision."""

    __slots__ = ("document", "key", "raw", "revision")

    def __init__(self, key: str, raw: bytes, revision: int) -> None:
        self.key, self.raw, self.revision = key, raw, revision
        self.document = msgspec.json.decode(raw)


def _cached(key: str, value: bytes, revision: int) -> Any:
    return _Old(key, with_resource_version(value, revision), revision)


def _gone(after: str) -> ApiError:
    """Expired; with a token that goes on from there all the same, though not at the same moment."""
    if not after:
        return problems.expired("The resourceVersion for the provided list is too old.")
    error = problems.expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list"
        " without the continue parameter, or use the continue token in this response to retrieve the remainder of the"
        " results. Continuing with the provided token results in an inconsistent list - objects that were created,"
        " modified, or deleted between the time the first chunk was returned and now may show up in the list."
    )
    error.metadata = {"continue": _encoded(_Token(_ANY, after))}
    return error


def _encoded(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).rstrip(b"=").decode()


def _decoded(text: str) -> _Token:
    try:
        padded = text + "=" * (-len(text) % 4)
        token = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Token)
    except (ValueError, msgspec.MsgspecError) as error:
        raise BadRequest(f"continue key is not valid: {error}", details={}) from error
    if (token.revision != _ANY and not 0 < token.revision < 1 << 63) or token.version != "meta.k8s.io/v1":
        raise BadRequest("continue key is not valid: incorrect encoded start resourceVersion", details={})
    return token

"""`metadata.managedFields` on every write: who owns which fields.

Sources: apiserver `endpoints/handlers/create.go`, `update.go`, apimachinery `util/managedfields/internal`.
"""

from __future__ import annotations

import contextlib
from typing import Any

from labctl.kube import managed
from labctl.kube.managed import UPDATE, Manager
from labctl.kube.typed import Difference, Rule, compare, rule_of
from labctl.runtime.clock import rfc3339
from master.apiserver import problems, strategy
from master.apiserver.body import media_type
from master.apiserver.context import Context
from master.apiserver.registry import Kind
from master.apiserver.request import Request

Document = dict[str, Any]

APPLY_TYPE = "application/apply-patch+yaml"
_LONGEST_NAME = 128


def applies(request: Request) -> bool:
    """Whether this is a server-side apply."""
    return request.method == "PATCH" and media_type(request) == APPLY_TYPE


def manager_name(request: Request) -> str:
    """As the client calls itself: the option, else the User-Agent up to its first slash. 422 where it cannot be."""
    name = request.query.get("fieldManager", "")
    if not name:
        agent = request.headers.get("user-agent", "").partition("/")[0]
        return "".join(letter for letter in agent if letter.isprintable())[:_LONGEST_NAME]
    if len(name.encode()) > _LONGEST_NAME:
        raise problems.bad_option(request.options, problems.too_long("fieldManager", _LONGEST_NAME))
    if not name.isprintable():
        error = problems.invalid("fieldManager", name, "should only contain printable characters")
        raise problems.bad_option(request.options, error)
    return name


def writes_as(request: Request, kind: Kind, operation: str) -> Manager:
    """The owner that this request writes as."""
    assert request.target is not None
    return managed.writer(manager_name(request), operation, kind.resource.api_version, request.target.subresource)


def rule(context: Context, kind: Kind) -> Rule:
    """How objects of the kind divide into fields."""
    return rule_of(context.registry.shape(kind))


def created(context: Context, request: Request, kind: Kind, document: Document) -> list[Document]:
    """The owners of a new object, of the stored version, with defaults and without what admission will add."""
    served = kind.conversion.from_stored(document) if kind.conversion else document
    writes = writes_as(request, kind, UPDATE)
    skip = ("status",) if strategy.has_status(kind.resource) else ()
    return managed.created(writes, served, rule(context, kind), rfc3339(context.clock.now()), skip)


class Versions:
    """How two states of an object differ, in any version that is served. States are of the stored version."""

    def __init__(self, context: Context, kind: Kind, old: Document, new: Document) -> None:
        self._context, self._kind, self._old, self._new = context, kind, old, new
        self._found: dict[str, Difference | None] = {}

    def __call__(self, version: str) -> Difference | None:
        """None: that version is not served."""
        if version not in self._found:
            self._found[version] = self._differ(version)
        return self._found[version]

    def _differ(self, version: str) -> Difference | None:
        kind, registry = self._kind, self._context.registry
        if version != kind.resource.api_version:
            group, _, name = version.rpartition("/")
            other = registry.find(group, name, kind.resource.plural)
            if other is None or other.prefix != kind.prefix:
                return None
            kind = other
        old, new = self._old, self._new
        if kind.conversion:
            old, new = kind.conversion.from_stored(old), kind.conversion.from_stored(new)
        return compare(old, new, rule(self._context, kind))


def updated(
    context: Context, request: Request, kind: Kind, states: tuple[Document, Document], given: Any
) -> list[Document]:
    """The owners after an update that turns `states[0]` into `states[1]`. `given`: what the client sent as owners.

    Who may not know of owners sends none and clears none; one empty entry forgets them all.
    """
    assert request.target is not None
    old, new = states
    before: list[Document] = old["metadata"].get("managedFields") or []
    if not request.target.subresource and given is not None and given != before:
        if managed.is_reset(given):
            return []
        with contextlib.suppress(ValueError, RecursionError):  # as upstream: what makes no sense changes nothing
            before = managed.encode(managed.given(given)) or before
    if not before:
        return []  # nobody kept track so far; the first apply begins
    differs = Versions(context, kind, old, new)
    if not differs(kind.resource.api_version):
        return before
    try:
        owners = managed.decode(before)
    except ValueError:
        return []
    writes = writes_as(request, kind, UPDATE)
    return managed.encode(
        managed.track(owners, writes, kind.resource.api_version, rfc3339(context.clock.now()), differs)
    )


def settled(new: Document, old: Document) -> Document:
    """What to store: `old` itself where `new` differs from it in nothing, or in the times of its owners alone."""
    if new.keys() != old.keys() or any(value != old[key] for key, value in new.items() if key != "metadata"):
        return new
    metadata, before = new["metadata"], old["metadata"]
    mine, theirs = metadata.get("managedFields"), before.get("managedFields")
    if mine and theirs and mine != theirs and managed.same_but_time(mine, theirs):
        metadata = {**metadata, "managedFields": theirs}
    return old if metadata == before else new

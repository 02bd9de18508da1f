"""Role based access control, evaluated from the watch caches of roles and bindings.

An index of bindings by subject is brought up to date when one of the four caches has moved, and what a user holds in a
namespace is worked out once and kept until then: a decision looks at the few rules that speak of the resource.
Sources: k/k `plugin/pkg/auth/authorizer/rbac/rbac.go`, `pkg/registry/rbac/validation/rule.go`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import msgspec

from labctl.kube.resources import Resource, builtin
from master.apiserver.authz.attributes import Attributes
from master.apiserver.authz.rules import Rule
from master.apiserver.registry import Kind, Registry
from master.apiserver.request import User
from master.apiserver.storage import Storage
from master.apiserver.watchcache import WatchCache

GROUP = "rbac.authorization.k8s.io"
ROLES = builtin("roles", GROUP)
CLUSTER_ROLES = builtin("clusterroles", GROUP)
ROLE_BINDINGS = builtin("rolebindings", GROUP)
CLUSTER_ROLE_BINDINGS = builtin("clusterrolebindings", GROUP)

T = TypeVar("T")

_KEPT_USERS = 4096  # users and namespaces for which rules are kept worked out
_KEPT_ANSWERS = 512  # for each of them


class RoleRef(msgspec.Struct, frozen=True):
    """What a binding grants."""

    kind: str = ""
    name: str = ""


class _Subject(msgspec.Struct, frozen=True):
    kind: str = ""
    name: str = ""
    namespace: str = ""


class _Meta(msgspec.Struct, frozen=True):
    name: str
    namespace: str = ""


class _Role(msgspec.Struct, frozen=True):
    metadata: _Meta
    rules: tuple[Rule, ...] | None = None


class _Binding(msgspec.Struct, frozen=True, rename={"role": "roleRef"}):
    metadata: _Meta
    role: RoleRef = RoleRef()
    subjects: tuple[_Subject, ...] | None = None


class Grant(msgspec.Struct, frozen=True):
    """A rule that a user holds, and the words for why."""

    rule: Rule
    source: str


class Holding:
    """All that a user may do in one namespace; `errors` are the bindings that lead nowhere."""

    def __init__(self, grants: Iterable[Grant], errors: Iterable[str]) -> None:
        self.grants, self.errors = tuple(grants), tuple(errors)
        self._about: dict[tuple[str, str, str], tuple[Grant, ...]] = {}
        self._paths = tuple(grant for grant in self.grants if grant.rule.non_resource_urls)

    def find(self, wanted: Attributes) -> Grant | None:
        """The first grant that covers the request."""
        if not wanted.resource:
            for grant in self._paths:
                if grant.rule.has_verb(wanted.verb) and grant.rule.has_path(wanted.path):
                    return grant
            return None
        key = wanted.group, wanted.combined, wanted.verb
        about = self._about.get(key)
        if about is None:
            about = tuple(self._covering(*key))
            if len(self._about) < _KEPT_ANSWERS:
                self._about[key] = about
        for grant in about:
            if grant.rule.has_name(wanted.name):
                return grant
        return None

    def _covering(self, group: str, resource: str, verb: str) -> Iterator[Grant]:
        """The grants for some objects at least."""
        for grant in self.grants:
            if grant.rule.has_verb(verb) and grant.rule.has_resource(group, resource):
                yield grant


class Rbac:
    """Decides from roles and bindings. Safe to share between threads."""

    def __init__(self, storage: Storage, registry: Registry) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._roles = _Followed(storage, registry, (ROLES, CLUSTER_ROLES), _Role)
        self._bindings = _Followed(storage, registry, (ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS), _Binding)
        self._by_subject: dict[tuple[str, str], list[tuple[_Binding, str]]] = {}
        self._kept: dict[tuple[str, tuple[str, ...], str], Holding] = {}

    def holding(self, user: User, namespace: str) -> Holding:
        """What `user` may do in `namespace` ("": in the whole cluster)."""
        if self._roles.stale or self._bindings.stale:
            with self._lock:
                self._refresh()
        key = (user.name, user.groups, namespace)
        found = self._kept.get(key)
        if found is None:
            kept = self._kept
            if len(kept) >= _KEPT_USERS:
                kept.clear()
            found = kept[key] = self._work_out(user, namespace)
        return found

    def rules_of(self, role: RoleRef, namespace: str) -> tuple[Rule, ...] | None:
        """The rules of a role; None where there is none."""
        if self._roles.stale:
            with self._lock:
                self._refresh()
        found = self._roles.items.get((role.kind, namespace if role.kind == "Role" else "", role.name))
        return None if found is None else found.rules or ()

    def _refresh(self) -> None:
        self._roles.refresh()
        if self._bindings.refresh():
            index: dict[tuple[str, str], list[tuple[_Binding, str]]] = {}
            for binding in self._bindings.items.values():
                for subject, key in _subjects(binding):
                    index.setdefault(key, []).append((binding, subject))
            self._by_subject = index
        self._kept = {}

    def _work_out(self, user: User, namespace: str) -> Holding:
        grants: list[Grant] = []
        errors: list[str] = []
        for binding, subject in self._bindings_of(user):
            where = binding.metadata.namespace
            if where not in {"", namespace}:
                continue
            rules = self.rules_of(binding.role, where)
            if rules is None:
                kind = "role" if binding.role.kind == "Role" else "clusterrole"
                errors.append(f'{kind}.{GROUP} "{binding.role.name}" not found')
                continue
            source = _told(binding, subject)
            grants += [Grant(rule, source) for rule in rules]
        return Holding(grants, errors)

    def _bindings_of(self, user: User) -> Iterator[tuple[_Binding, str]]:
        """Each binding that names the user once, the cluster's first."""
        keys = [("User", user.name), *(("Group", group) for group in user.groups)]
        found = {id(binding): (binding, subject) for key in keys for binding, subject in self._by_subject.get(key, ())}
        yield from sorted(found.values(), key=lambda entry: (entry[0].metadata.namespace, entry[0].metadata.name))


def _subjects(binding: _Binding) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each subject: the words for it, and the key it is found by."""
    for subject in binding.subjects or ():
        if subject.kind in {"User", "Group"}:
            yield f'{subject.kind} "{subject.name}"', (subject.kind, subject.name)
        elif subject.kind == "ServiceAccount" and (namespace := subject.namespace or binding.metadata.namespace):
            words = f'ServiceAccount "{subject.name}/{namespace}"'
            yield words, ("User", f"system:serviceaccount:{namespace}:{subject.name}")


def _told(binding: _Binding, subject: str) -> str:
    meta = binding.metadata
    kind, name = (
        ("RoleBinding", f"{meta.name}/{meta.namespace}") if meta.namespace else ("ClusterRoleBinding", meta.name)
    )
    return f'{kind} "{name}" of {binding.role.kind} "{binding.role.name}" to {subject}'


class _Followed(Generic[T]):
    """The decoded objects of two resources by kind, namespace and name; only what changed is decoded again."""

    def __init__(self, storage: Storage, registry: Registry, resources: tuple[Resource, ...], view: type[T]) -> None:
        self.items: dict[tuple[str, str, str], T] = {}
        self._storage, self._kinds = storage, tuple(registry.of(resource) for resource in resources)
        self._decoder = msgspec.json.Decoder(view)
        self._caches: tuple[tuple[Kind, WatchCache, set[str]], ...] = ()

    @property
    def stale(self) -> bool:
        """Whether a cache has moved, or none was read yet."""
        for _, _, changed in self._caches:
            if changed:
                return True
        return not self._caches

    def refresh(self) -> bool:
        """Take in what changed; whether anything did."""
        if not self._caches:
            caches = [(kind, self._storage.cache(kind)) for kind in self._kinds]
            self._caches = tuple((kind, cache, cache.follow()) for kind, cache in caches)
        moved = False
        for kind, cache, changed in self._caches:
            while changed:
                moved = True
                key = changed.pop()
                self._take(kind, cache, key)
        return moved

    def _take(self, kind: Kind, cache: WatchCache, key: str) -> None:
        namespace, _, name = key.removeprefix(kind.prefix).rpartition("/")
        where = kind.resource.kind, namespace, name
        found = cache.get(key)
        try:
            if found is not None:
                self.items[where] = self._decoder.decode(found.raw)
                return
        except msgspec.MsgspecError:
            pass  # it grants nothing
        self.items.pop(where, None)

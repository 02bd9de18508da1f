"""Who may do what, until RBAC takes over: rules for the lab's own components, as upstream's default roles grant.

Source: `plugin/pkg/auth/authorizer/rbac/bootstrappolicy`, `plugin/pkg/auth/authorizer/node`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from labctl.kube.errors import Forbidden
from master.apiserver.request import Request, User

_READ = ("get", "list", "watch")
_WRITE = ("create", "update", "patch", "delete", "deletecollection")
_ALL = ("*",)


class Rule(msgspec.Struct, frozen=True):
    """As an RBAC PolicyRule; `*` stands for everything."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()  # `pods`, or `pods/status`
    paths: tuple[str, ...] = ()  # for requests that name no resource

    def allows(self, verb: str, group: str, resource: str) -> bool:
        """Whether it covers a resource request."""
        return (
            (verb in self.verbs or "*" in self.verbs)
            and (group in self.groups or "*" in self.groups)
            and (
                resource in self.resources
                or "*" in self.resources
                or f"*/{resource.partition('/')[2]}" in self.resources
            )
        )

    def allows_path(self, verb: str, path: str) -> bool:
        """Whether it covers a path; `/healthz/*` covers what lies below."""
        fits = any(
            entry in {path, "*"} or (entry.endswith("*") and path.startswith(entry[:-1])) for entry in self.paths
        )
        return fits and (verb in self.verbs or "*" in self.verbs)


def _r(verbs: Sequence[str], groups: str, resources: str) -> Rule:
    return Rule(
        tuple(verbs), tuple(group if group != "core" else "" for group in groups.split()), tuple(resources.split())
    )


_PUBLIC = (
    Rule(
        ("get", "head"),
        paths=("/healthz", "/healthz/*", "/livez", "/livez/*", "/readyz", "/readyz/*", "/version", "/version/"),
    ),
)
_SIGNED_IN = (
    Rule(
        ("get", "head"),
        paths=("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version", "/version/", "/metrics"),
    ),
    _r(("create",), "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
    _r(("create",), "authentication.k8s.io", "selfsubjectreviews"),
)
_EVENTS = _r(("create", "patch", "update"), "core events.k8s.io", "events")
_LEASES = _r((*_READ, *_WRITE), "coordination.k8s.io", "leases")

_SCHEDULER = (
    _EVENTS,
    _LEASES,
    _r(("get", "list", "watch", "delete"), "core", "pods"),
    _r(("create",), "core", "bindings pods/binding"),
    _r(("patch", "update"), "core", "pods/status"),
    _r(_READ, "core", "nodes namespaces services replicationcontrollers persistentvolumes persistentvolumeclaims"),
    _r(_READ, "apps", "replicasets statefulsets deployments daemonsets"),
    _r(_READ, "policy", "poddisruptionbudgets"),
    _r(_READ, "storage.k8s.io resource.k8s.io scheduling.k8s.io", "*"),
)
# Upstream gives every controller an identity of its own; together they may do all of this.
_CONTROLLERS = (
    Rule((*_READ, *_WRITE), ("*",), ("*",)),
    Rule(("get",), paths=("*",)),
)
_PROXY = (
    _EVENTS,
    _r(_READ, "core", "nodes services endpoints"),
    _r(_READ, "discovery.k8s.io", "endpointslices"),
    _r(_READ, "networking.k8s.io", "servicecidrs"),
)
_NODES = (
    _EVENTS,
    _LEASES,
    _r(("create", *_READ, "update", "patch"), "core", "nodes"),
    _r(("get", "update", "patch"), "core", "nodes/status pods/status"),
    _r((*_READ, "create", "delete"), "core", "pods"),
    _r(("create",), "core", "pods/eviction serviceaccounts/token"),
    _r(
        _READ, "core", "services configmaps secrets persistentvolumes persistentvolumeclaims namespaces serviceaccounts"
    ),
    _r(_READ, "node.k8s.io storage.k8s.io resource.k8s.io discovery.k8s.io", "*"),
    _r(("create", "get", *_WRITE), "storage.k8s.io", "csinodes"),
    _r(
        ("create",),
        "authentication.k8s.io authorization.k8s.io",
        "tokenreviews subjectaccessreviews localsubjectaccessreviews",
    ),
)

_BY_USER: dict[str, tuple[Rule, ...]] = {
    "system:kube-scheduler": _SCHEDULER,
    "system:kube-controller-manager": _CONTROLLERS,
    "system:kube-proxy": _PROXY,
}
_BY_GROUP: dict[str, tuple[Rule, ...]] = {
    "system:nodes": _NODES,
    "system:authenticated": _PUBLIC + _SIGNED_IN,
    "system:unauthenticated": _PUBLIC,
}
_MASTERS = (Rule(_ALL, _ALL, _ALL, _ALL),)


def rules_of(user: User) -> tuple[Rule, ...]:
    """Every rule that speaks for a user."""
    if "system:masters" in user.groups:
        return _MASTERS
    found = list(_BY_USER.get(user.name, ()))
    for group in user.groups:
        found += _BY_GROUP.get(group, ())
    return tuple(found)


def allowed(user: User, verb: str, group: str, resource: str) -> bool:
    """Whether the user may do this to a resource (`pods/log` for a subresource)."""
    return any(rule.allows(verb, group, resource) for rule in rules_of(user))


def authorize(request: Request) -> None:
    """Forbidden, in upstream's words, unless some rule covers the request."""
    user, target, verb = request.user, request.target, request.verb
    if "system:masters" in user.groups:
        return
    if target is None or not target.is_resource:
        if any(rule.allows_path(verb, request.path) for rule in rules_of(user)):
            return
        raise Forbidden(f'forbidden: User "{user.name}" cannot {verb} path "{request.path}"', details={})
    resource = f"{target.plural}/{target.subresource}" if target.subresource else target.plural
    if allowed(user, verb, target.group, resource):
        return
    where = (
        f' in the namespace "{target.namespace}"'
        if target.namespace and target.plural != "namespaces"
        else " at the cluster scope"
    )
    subject = f"{target.plural}.{target.group}" if target.group else target.plural
    named = f'"{target.name}" ' if target.name else ""
    why = f'User "{user.name}" cannot {verb} resource "{resource}" in API group "{target.group}"{where}'
    details = {"name": target.name, "group": target.group, "kind": target.plural}
    raise Forbidden(
        f"{subject} {named}is forbidden: {why}", details={key: value for key, value in details.items() if value}
    )

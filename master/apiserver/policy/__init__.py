"""The roles and bindings that every cluster begins with, as documents. Reconciling them is `bootstrap_rbac`'s part.

Beyond upstream's there are two roles of our own: the controller manager runs every controller under one identity, so it
holds what upstream's controllers hold together, and leader election patches Leases where upstream replaces them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from master.apiserver.authz.rules import Rule, compact
from master.apiserver.policy import controllers, roles

Document = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"
LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
ANNOTATIONS = {f"{GROUP.replace('k8s', 'kubernetes', 1)}/autoupdate": "true"}
_READ, _WRITE = ("get", "list", "watch"), ("create", "delete", "deletecollection", "patch", "update")
_SETS = {"read": _READ, "write": _WRITE, "all": _READ + _WRITE}
_CONTROLLERS = "system:controller:"
_MANAGER, _SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"


class Role(msgspec.Struct, frozen=True):
    """A default role; `aggregates` names what its rules are gathered from, `feeds` what gathers its rules."""

    name: str
    rules: tuple[Rule, ...]
    namespace: str = ""
    feeds: str = ""
    aggregates: str = ""


def parse(text: str) -> Iterator[Role]:
    """Read the notation of `roles` and `controllers`."""
    head, rules = "", []
    for line in _whole_lines(text):
        if line.startswith(" "):
            rules.append(_rule(line))
            continue
        if head:
            yield _role(head, rules)
        head, rules = line, []
    if head:
        yield _role(head, rules)


def _whole_lines(text: str) -> Iterator[str]:
    """Lines with their continuations, which are indented deeper."""
    pending = ""
    for line in text.strip().splitlines():
        if line.startswith("    "):
            pending += f" {line.strip()}"
            continue
        if pending:
            yield pending
        pending = line
    yield pending


def _role(head: str, rules: list[Rule]) -> Role:
    path, *marks = head.split()
    namespace, _, name = path.rpartition("/")
    feeds = next((mark[1:] for mark in marks if mark.startswith("+")), "")
    aggregates = next((mark[1:] for mark in marks if mark.startswith("<")), "")
    return Role(name, tuple(rules), namespace, feeds, aggregates)


def _rule(line: str) -> Rule:
    words, _, rest = line.partition(": ")
    verbs: list[str] = []
    groups: tuple[str, ...] = ("",)
    for word in words.split():
        if word.startswith("@"):
            groups = tuple("" if group == "core" else group for group in word[1:].split(","))
        else:
            verbs += _SETS.get(word, (word,))
    targets, _, names = rest.partition(" [")
    things, sorted_verbs = tuple(targets.split()), tuple(sorted(verbs))
    if "@" not in words and (things[0].startswith("/") or things[0] == "*"):
        return Rule(verbs=sorted_verbs, non_resource_urls=things)
    return Rule(
        verbs=sorted_verbs, api_groups=groups, resources=things, resource_names=tuple(names.rstrip("]").split())
    )


def node_rules() -> tuple[Rule, ...]:
    """What the node authorizer grants every node alike."""
    return next(role.rules for role in parse(roles.CLUSTER_ROLES) if role.name == "system:node")


def _own() -> tuple[Role, ...]:
    every = compact(rule for role in parse(controllers.CLUSTER_ROLES) for rule in role.rules)
    leases = Rule(
        verbs=("patch",),
        api_groups=("coordination.k8s.io",),
        resources=("leases",),
        resource_names=("kube-controller-manager", "kube-scheduler"),
    )
    return Role("labctl:controllers", tuple(every)), Role("labctl:leader-election", (leases,), "kube-system")


def default_roles() -> list[Document]:
    """Every Role and ClusterRole."""
    found = [*parse(roles.CLUSTER_ROLES), *parse(roles.ROLES)]
    found += [
        msgspec.structs.replace(role, name=f"{_CONTROLLERS}{role.name}") for role in parse(controllers.CLUSTER_ROLES)
    ]
    return [_document(role, found) for role in (*found, *_own())]


def _document(role: Role, every: list[Role]) -> Document:
    labels = LABELS | ({f"{GROUP}/aggregate-to-{role.feeds}": "true"} if role.feeds else {})
    metadata = {"name": role.name, "labels": labels, "annotations": dict(ANNOTATIONS)}
    if role.namespace:
        metadata["namespace"] = role.namespace
    document: Document = {
        "kind": "Role" if role.namespace else "ClusterRole",
        "apiVersion": f"{GROUP}/v1",
        "metadata": metadata,
    }
    if role.aggregates:
        labels = {f"{GROUP}/aggregate-to-{role.aggregates}": "true"}
        document["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": labels}]}
    document["rules"] = msgspec.to_builtins(_gathered(role, every))
    return document


def _gathered(role: Role, every: list[Role]) -> list[Rule]:
    """A role's rules; an aggregated role's as its controller would fill them in, so that it works from the start."""
    if not role.aggregates:
        return list(role.rules)
    parts = [part for part in every if part.feeds == role.aggregates]
    rules = [rule for part in sorted(parts, key=lambda part: part.name) for rule in _gathered(part, every)]
    return list(dict.fromkeys(rules))


def default_bindings() -> list[Document]:
    """Every RoleBinding and ClusterRoleBinding."""
    found = [_binding(line) for line in _whole_lines(roles.BINDINGS)]
    found += [
        _bind("", f"{_CONTROLLERS}{role.name}", f"{_CONTROLLERS}{role.name}", [f"sa:kube-system/{role.name}"])
        for role in parse(controllers.CLUSTER_ROLES)
    ]
    users = [f"user:{_MANAGER}", f"user:{_SCHEDULER}"]
    found.append(_bind("", "labctl:controllers", "labctl:controllers", users[:1]))
    found.append(_bind("kube-system", "labctl:leader-election", "labctl:leader-election", users))
    return found


def _binding(line: str) -> Document:
    head, _, subjects = f"{line} ".partition(": ")
    path, _, role = head.partition(" = ")
    namespace, _, name = path.rpartition("/")
    return _bind(namespace, name, role or name, subjects.split())


def _bind(namespace: str, name: str, role: str, subjects: list[str]) -> Document:
    metadata: Document = {"name": name, "labels": dict(LABELS), "annotations": dict(ANNOTATIONS)}
    if namespace:
        metadata["namespace"] = namespace
    document: Document = {
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "apiVersion": f"{GROUP}/v1",
        "metadata": metadata,
        "roleRef": {"apiGroup": GROUP, "kind": "Role" if namespace else "ClusterRole", "name": role},
    }
    if subjects:
        document["subjects"] = [_subject(text) for text in subjects]
    return document


def _subject(text: str) -> Document:
    kind, _, name = text.partition(":")
    if kind == "sa":
        namespace, _, name = name.partition("/")
        return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return {"apiGroup": GROUP, "kind": kind.capitalize(), "name": name}

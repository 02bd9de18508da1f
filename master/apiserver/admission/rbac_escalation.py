"""Nobody grants what they do not hold: writes of roles and bindings, but for those who may `escalate` or `bind`.

Upstream checks this in the storage of these kinds, after admission; here it is admission's last word.
Source: k/k `pkg/registry/rbac/{escalation_check.go,*/policybased/storage.go,validation/rule.go}`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from master.apiserver import problems
from master.apiserver.admit import Attributes, World
from master.apiserver.authz.attributes import Attributes as Wanted
from master.apiserver.authz.authorizer import MASTERS
from master.apiserver.authz.rbac import GROUP, RoleRef
from master.apiserver.authz.rules import Rule, compact, covers, quoted
from master.apiserver.registry import Kind

Document = dict[str, Any]

_EVERYTHING = (
    Rule(verbs=("*",), api_groups=("*",), resources=("*",)),
    Rule(verbs=("*",), non_resource_urls=("*",)),
)
_COLLECTOR_FIELDS = frozenset({"ownerReferences", "finalizers", "resourceVersion", "managedFields"})


class _RbacEscalation:
    name = "RBACEscalation"
    order = 900
    operations = frozenset({"create", "update"})
    resources = frozenset({"roles", "clusterroles", "rolebindings", "clusterrolebindings"})

    def admit(self, write: Attributes, world: World) -> None:
        new = write.document
        assert new is not None
        if write.kind.resource.group != GROUP or MASTERS in write.user.groups:
            return
        if write.old is not None and _lasting(new) == _lasting(write.old):
            return  # as the garbage collector does
        if "roleRef" in new:
            _binding(write, world, new)
        else:
            _role(write, world, new)


def _lasting(document: Document) -> Document:
    metadata = {key: value for key, value in document["metadata"].items() if key not in _COLLECTOR_FIELDS}
    return {**document, "metadata": metadata}


def _role(write: Attributes, world: World, new: Document) -> None:
    resource = write.kind.resource
    wanted = Wanted(
        user=write.user,
        verb="escalate",
        group=GROUP,
        resource=resource.plural,
        namespace=write.namespace,
        name=write.name if write.operation == "update" else "",
    )
    if world.authorizer.decide(wanted).allowed:
        return
    _must_hold(write, world, msgspec.convert(new.get("rules") or (), tuple[Rule, ...]))
    if _aggregated(new) or _aggregated(write.old or {}):
        holding = world.authorizer.holding(write.user, "")
        if covers([grant.rule for grant in holding.grants], _EVERYTHING):
            why = "must have cluster-admin privileges to use the aggregationRule"
            raise problems.forbidden(resource, write.name, why)


def _aggregated(role: Document) -> bool:
    return bool((role.get("aggregationRule") or {}).get("clusterRoleSelectors"))


def _binding(write: Attributes, world: World, new: Document) -> None:
    ref = new.get("roleRef") or {}
    role = RoleRef(str(ref.get("kind", "")), str(ref.get("name", "")))
    resource = {"ClusterRole": "clusterroles", "Role": "roles"}.get(role.kind)
    if resource is None:
        return  # validation says what is wrong with it
    wanted = Wanted(
        user=write.user, verb="bind", group=GROUP, resource=resource, namespace=write.namespace, name=role.name
    )
    if world.authorizer.decide(wanted).allowed:
        return
    rules = world.authorizer.rbac.rules_of(role, write.namespace)
    if rules is None:
        raise problems.not_found(_kind(world, resource).resource, role.name)
    _must_hold(write, world, rules)


def _kind(world: World, plural: str) -> Kind:
    found = world.registry.find(GROUP, "v1", plural)
    assert found is not None
    return found


def _must_hold(write: Attributes, world: World, rules: tuple[Rule, ...]) -> None:
    holding = world.authorizer.holding(write.user, write.namespace)
    missing = covers([grant.rule for grant in holding.grants], rules)
    if not missing:
        return
    told = "\n".join(sorted({str(rule) for rule in compact(missing)}))
    why = (
        f'user "{write.user.name}" (groups={quoted(write.user.groups)}) is attempting to grant RBAC permissions not'
        f" currently held:\n{told}"
    )
    if holding.errors:
        why += f"; resolution errors: [{', '.join(holding.errors)}]"
    raise problems.forbidden(write.kind.resource, write.name, why)


ADMISSION = _RbacEscalation()

"""Brings the default roles and bindings to what upstream ships: missing ones made, lost rules and subjects given back.

One list of each resource, then only what differs is written, many objects in one write: first what the cluster's own
components need, then the rest. API servers that start together each begin somewhere else, so that they share the work.
What an administrator added stays, and an object annotated with autoupdate "false" is left alone.
Source: k/k `pkg/registry/rbac/rest/storage_rbac.go`, `staging/src/k8s.io/component-helpers/auth/rbac/reconciliation`.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping, Sequence, Set
from typing import Any

import msgspec

from labctl.kube.errors import NotFound
from labctl.kube.resources import Resource
from master.apiserver import metadata as meta
from master.apiserver import policy
from master.apiserver.authz.rbac import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from master.apiserver.authz.rules import Rule, compact, covers
from master.apiserver.context import Context
from master.apiserver.startup import COMPONENTS
from master.apiserver.storage import encode
from master.store.protocol import KeyExists

Document = dict[str, Any]

_THIRDS = 3
_AT_ONCE = 48  # objects of one write: more would hold up the nodes' heartbeats
_RESOURCES: dict[str, Resource] = {
    resource.kind: resource for resource in (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)
}
_AUTOUPDATE = next(iter(policy.ANNOTATIONS))


def run(context: Context) -> None:
    """Reconcile everything; returns once it is written. Components are admitted as soon as they can work."""
    wanted = in_own_order([*policy.default_roles(), *policy.default_bindings()], context.config.advertise_address)
    standing = _standing(context)
    first = needed_by(COMPONENTS, wanted)
    _reconcile(context, [document for document in wanted if _name(document) in first], standing)
    context.startup.admit_components()
    _reconcile(context, [document for document in wanted if _name(document) not in first], standing)


def in_own_order(documents: Sequence[Document], address: str) -> list[Document]:
    """The same in this server's own order: masters, whose addresses follow each other, begin a third apart. Pure."""
    start = int(ipaddress.ip_address(address)) % _THIRDS * len(documents) // _THIRDS
    return [*documents[start:], *documents[:start]]


def needed_by(subjects: Set[str], policy: Sequence[Document]) -> set[tuple[str, str, str]]:
    """The bindings of `policy` that name one of `subjects`, and the roles they grant: kind, namespace, name. Pure."""
    found: set[tuple[str, str, str]] = set()
    for binding in policy:
        if subjects & {subject["name"] for subject in binding.get("subjects") or ()}:
            role, namespace = binding["roleRef"], binding["metadata"].get("namespace", "")
            found |= {_name(binding), (role["kind"], namespace if role["kind"] == ROLES.kind else "", role["name"])}
    return found


def _name(document: Document) -> tuple[str, str, str]:
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


def _reconcile(context: Context, wanted: Sequence[Document], standing: Mapping[str, Document]) -> None:
    missing = {}
    for document in wanted:
        kind = context.registry.of(_RESOURCES[document["kind"]])
        namespace = document["metadata"].get("namespace", "")
        key = kind.key(namespace, document["metadata"]["name"])
        if key not in standing:
            meta.begin(document["metadata"], namespace, context.clock)
            missing[key] = encode(document)
        elif _mended(standing[key], document) is not None:
            _mend(context, document)
    made = list(missing.items())
    for first in range(0, len(made), _AT_ONCE):
        _create(context, dict(made[first : first + _AT_ONCE]))


def _standing(context: Context) -> dict[str, Document]:
    """The policy as it is now, by key."""
    return {
        entry.key: entry.document
        for resource in _RESOURCES.values()
        for entry in context.storage.current(context.registry.of(resource)).list()[0]
    }


def _create(context: Context, values: Mapping[str, bytes]) -> None:
    """All of them in one write; where another API server was faster with some, what is left, one by one."""
    store = context.storage.store
    try:
        store.create_all(values)
    except KeyExists:
        there = _standing(context)
        for key in (key for key in values if key not in there):
            with contextlib.suppress(KeyExists):
                store.create(key, values[key])


def _mend(context: Context, document: Document) -> None:
    kind = context.registry.of(_RESOURCES[document["kind"]])
    metadata = document["metadata"]
    with contextlib.suppress(NotFound):  # deleted under our hands: the next start makes it again
        context.storage.change(
            kind, metadata.get("namespace", ""), metadata["name"], lambda old: _mended(old, document) or old
        )


def _mended(old: Document, wanted: Document) -> Document | None:
    """What should stand instead of `old`; None where it is good as it is. Pure."""
    had = old["metadata"]
    if (had.get("annotations") or {}).get(_AUTOUPDATE) == "false":
        return None
    new = dict(old)
    if missing := {
        field: values
        for field in ("labels", "annotations")
        if (values := wanted["metadata"].get(field)) and not values.items() <= (had.get(field) or {}).items()
    }:
        merged = {field: {**(had.get(field) or {}), **values} for field, values in missing.items()}
        new["metadata"] = {**had, **merged}
    if "roleRef" in wanted:
        subjects = list(old.get("subjects") or ())
        if lost := [subject for subject in wanted.get("subjects") or () if subject not in subjects]:
            new["subjects"] = [*subjects, *lost]
    elif "aggregationRule" in wanted:
        selectors = list((old.get("aggregationRule") or {}).get("clusterRoleSelectors") or ())
        lost = [entry for entry in wanted["aggregationRule"]["clusterRoleSelectors"] if entry not in selectors]
        if lost:
            new["aggregationRule"] = {"clusterRoleSelectors": [*selectors, *lost]}
    else:
        held = msgspec.convert(old.get("rules") or (), tuple[Rule, ...])
        if lost_parts := covers(held, msgspec.convert(wanted["rules"], tuple[Rule, ...])):
            new["rules"] = [*(old.get("rules") or ()), *msgspec.to_builtins(compact(lost_parts))]
    return None if new == old else new

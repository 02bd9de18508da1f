"""Brings the default roles and bindings to what upstream ships: missing ones made, lost rules and subjects given back.

One list of each resource, then only what differs is written, several at once: first what the cluster's own components
need, then, with less haste, the rest. API servers that start together each begin somewhere else, so that they share the
work. What an administrator added stays, and an object annotated with autoupdate "false" is left alone.
Source: k/k `pkg/registry/rbac/rest/storage_rbac.go`, `staging/src/k8s.io/component-helpers/auth/rbac/reconciliation`.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec

from labctl.kube.errors import AlreadyExists, NotFound
from labctl.kube.resources import Resource
from master.apiserver import metadata as meta
from master.apiserver import policy
from master.apiserver.authz.rbac import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from master.apiserver.authz.rules import Rule, compact, covers
from master.apiserver.context import Context
from master.apiserver.startup import COMPONENTS

Document = dict[str, Any]

_THIRDS = 3
_AT_ONCE = {True: 16, False: 4}  # by whether somebody waits for it: the rest must not hold up the nodes' heartbeats
_RESOURCES: dict[str, Resource] = {
    resource.kind: resource for resource in (ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS)
}
_AUTOUPDATE = next(iter(policy.ANNOTATIONS))


def run(context: Context) -> None:
    """Reconcile everything; returns once it is written. Components are admitted as soon as they can work."""
    wanted = in_own_order([*policy.default_roles(), *policy.default_bindings()], context.config.advertise_address)
    standing = {
        entry.key: entry.document
        for resource in _RESOURCES.values()
        for entry in context.storage.current(context.registry.of(resource)).list()[0]
    }
    first = needed_by(COMPONENTS, wanted)
    writes: dict[bool, list[Callable[[], None]]] = {True: [], False: []}
    for document in wanted:
        kind = context.registry.of(_RESOURCES[document["kind"]])
        key = kind.key(document["metadata"].get("namespace", ""), document["metadata"]["name"])
        if key not in standing:
            writes[_name(document) in first].append(partial(_create, context, document))
        elif _mended(standing[key], document) is not None:
            writes[_name(document) in first].append(partial(_mend, context, document))
    _write(writes[True], _AT_ONCE[True])
    context.startup.admit_components()
    _write(writes[False], _AT_ONCE[False])


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


def _write(writes: Sequence[Callable[[], None]], at_once: int) -> None:
    if writes:
        with ThreadPoolExecutor(at_once, thread_name_prefix="rbac-defaults") as pool:
            for done in [pool.submit(write) for write in writes]:
                done.result()


def _create(context: Context, document: Document) -> None:
    kind = context.registry.of(_RESOURCES[document["kind"]])
    namespace = document["metadata"].get("namespace", "")
    if context.storage.cache(kind).get(kind.key(namespace, document["metadata"]["name"])) is not None:
        return  # another API server's, made since we looked
    meta.begin(document["metadata"], namespace, context.clock)
    with contextlib.suppress(AlreadyExists):  # another API server was faster
        context.storage.create(kind, namespace, document)


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

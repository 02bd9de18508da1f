"""True up what ResourceQuotas say is used. Pure: no clock, no network, no log.

The API server charges a quota before it stores an object and gives back when the object is gone; what a crash between
the two leaves is mended here. A count that is off is believed only once it has stood still for a while: a request
that was charged may be on its way to the store, and our copy may lag behind it.

Source: k/k `pkg/controller/resourcequota/resource_quota_controller.go` (syncResourceQuota).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from labctl.kube import quota
from labctl.kube.errors import Document
from labctl.kube.quantity import parse
from labctl.kube.resources import Resource, builtin
from master.controllers.protocol import NEVER_S, Controller, HasMeta, Kind, Plan, Step, World, each, patch, ref
from master.controllers.views import PODS_KIND, Pod
from master.controllers.views_apps import CLAIMS_KIND, Claim
from master.controllers.views_policy import Quota
from master.controllers.views_services import SERVICES_KIND, Service

_QUOTAS = builtin("resourcequotas")
QUOTAS_KIND = Kind(_QUOTAS, Quota)
_SETTLED_S = 30.0  # longer than any request takes from its charge to the store
_UNSEEN_SCOPE = "CrossNamespacePodAffinity"  # of what our view of a pod leaves out


@dataclass(frozen=True, slots=True)
class Memory:
    """Since when (our clock) each quota, by uid, has been off in just this way."""

    off: Mapping[str, tuple[tuple[str, str], float]] = field(default_factory=dict)


def plan(world: World, memory: Memory) -> Plan:
    """Write the counts that have been off for long enough; look again when the others would have been."""
    quotas = world.all(QUOTAS_KIND)
    if not quotas:
        return Plan(memory=Memory())
    objects = _by_namespace(world, {one.metadata.namespace for one in quotas.values()})
    off: dict[str, tuple[tuple[str, str], float]] = {}
    wakes: list[float] = []

    def decide(item: Quota) -> Iterator[Step]:
        if item.metadata.deleting or _UNSEEN_SCOPE in msgspec.json.encode(item.spec).decode():
            return
        used = count(item, tuple(world.objects), objects.get(item.metadata.namespace, {}))
        if _same(used, item.status.used) and _same(item.spec.hard, item.status.hard):
            return
        state = (item.metadata.resource_version, msgspec.json.encode(used, order="sorted").decode())
        known = memory.off.get(item.metadata.uid)
        since_s = known[1] if known is not None and known[0] == state else world.now_s
        off[item.metadata.uid] = (state, since_s)
        if (left_s := _SETTLED_S - (world.now_s - since_s)) > 0:
            wakes.append(left_s)
            return
        gone = {name: None for name in item.status.used if name not in used}
        over = {name: None for name in item.status.hard if name not in item.spec.hard}
        status = {"hard": {**item.spec.hard, **over}, "used": {**used, **gone}}
        change = patch(_QUOTAS, item.metadata, {"status": status}, exact=True, subresource="status")
        yield Step(ref(_QUOTAS, item.metadata), (change,))

    steps = tuple(each(_QUOTAS, quotas.values(), decide))
    return Plan(steps, min(wakes, default=NEVER_S), Memory(off))


def count(item: Quota, followed: Iterable[Resource], objects: Mapping[Resource, Iterable[HasMeta]]) -> quota.Amounts:
    """What the objects of a quota's namespace use of each name; names that no kind counts for stay as they are."""
    hard = item.spec.hard
    ours = {name for resource in followed for name in quota.counts(resource.group, resource.plural, hard)}
    used = {name: "0" if name in ours else item.status.used.get(name, "0") for name in hard}
    spec: Document = msgspec.to_builtins(item.spec)
    for resource, members in objects.items():
        names = quota.counts(resource.group, resource.plural, hard)
        for member in members if names else ():
            document = _document(member)
            if quota.matches(spec, resource.group, resource.plural, document):
                found = quota.usage(resource.group, resource.plural, document)
                used = quota.plus(used, {name: amount for name, amount in found.items() if name in names})
    return used


def _by_namespace(world: World, namespaces: set[str]) -> dict[str, dict[Resource, list[Any]]]:
    found: dict[str, dict[Resource, list[Any]]] = {}
    for resource, members in world.objects.items():
        for member in members.values() if resource.namespaced else ():
            if member.metadata.namespace in namespaces:
                found.setdefault(member.metadata.namespace, {}).setdefault(resource, []).append(member)
    return found


def _document(member: HasMeta) -> Document:
    """What `quota.usage` reads of an object."""
    if isinstance(member, Pod):
        return {"spec": msgspec.to_builtins(member.spec), "status": {"phase": member.status.phase}}
    if isinstance(member, Service | Claim):
        return {"spec": msgspec.to_builtins(member.spec)}
    return {}


def _same(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return one.keys() == other.keys() and all(parse(amount) == parse(other[name]) for name, amount in one.items())


CONTROLLER = Controller(
    name="resource_quota",
    reads=(QUOTAS_KIND, PODS_KIND, SERVICES_KIND, CLAIMS_KIND),
    plan=plan,
    memory=Memory(),
    reads_everything=True,
    min_interval_s=1.0,
)

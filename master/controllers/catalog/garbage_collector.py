"""Delete what lost its owners: in the background, in the foreground, or not at all where orphans are wanted. Pure.

Source: k/k `pkg/controller/garbagecollector/garbagecollector.go` (attemptToDeleteItem, processDeletingDependentsItem,
orphanDependents). Before a delete the API server is asked whether the owner is really gone: our copy may lag.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.errors import Document
from labctl.kube.meta import ObjectMeta, OwnerReference
from labctl.kube.resources import Resource
from master.controllers.protocol import Action, ConfirmAbsent, Controller, Plan, Step, Tell, World, delete, patch, ref
from master.controllers.views import Owned

_FOREGROUND = "foregroundDeletion"
_ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class _Object:
    """An object of any kind."""

    resource: Resource
    meta: ObjectMeta

    @property
    def waits_for_dependents(self) -> bool:
        """Whether it is being deleted in the foreground."""
        return self.meta.deleting and _FOREGROUND in self.meta.finalizers


@dataclass(frozen=True, slots=True)
class _Graph:
    """Who is there, and who names whom as an owner."""

    by_uid: Mapping[str, _Object]
    dependents: Mapping[str, list[_Object]]
    known: Mapping[tuple[str, str], Resource]  # (apiVersion's group, kind) -> a resource that we follow


def plan(world: World, memory: None) -> Plan:
    """One look at every object with an owner, and at every owner that waits."""
    graph = _graph(world)
    steps: list[Step] = []
    for item in graph.by_uid.values():
        if item.meta.deleting:
            steps += _finish(item, graph)
        elif item.meta.owner_references:
            steps += _collect(item, graph)
    return Plan(tuple(steps), memory=memory)


def _graph(world: World) -> _Graph:
    by_uid: dict[str, _Object] = {}
    dependents: dict[str, list[_Object]] = {}
    known: dict[tuple[str, str], Resource] = {}
    for resource in world.settings.kinds:
        if resource not in world.objects:
            continue
        known.setdefault((resource.group, resource.kind), resource)
        entries: Iterable[Owned] = world.objects[resource].values()
        for entry in entries:
            item = _Object(resource, entry.metadata)
            by_uid[entry.metadata.uid] = item
            for owner in entry.metadata.owner_references:
                dependents.setdefault(owner.uid, []).append(item)
    return _Graph(by_uid, dependents, known)


def _collect(item: _Object, graph: _Graph) -> Iterator[Step]:
    """An object whose owners are all gone (or wait for it) goes; one with an owner left only loses the references."""
    gone: list[OwnerReference] = []
    waiting: list[OwnerReference] = []
    solid = 0
    for owner in item.meta.owner_references:
        found = graph.by_uid.get(owner.uid)
        if found is None or _misplaced(found, item):
            if found is None and (_group(owner), owner.kind) not in graph.known:
                solid += 1  # a kind that we cannot see: assume the best
            else:
                gone.append(owner)
        elif found.waits_for_dependents and owner.block_owner_deletion:
            waiting.append(owner)
        else:
            solid += 1
    if not gone and not waiting:
        return
    about = ref(item.resource, item.meta)
    checks: tuple[Action, ...] = tuple(_absent(owner, item, graph) for owner in gone)
    if solid:
        removed = [{"$patch": "delete", "uid": owner.uid} for owner in (*gone, *waiting)]
        yield Step(about, (*checks, _references(item, removed)))
    else:
        propagation = "Foreground" if waiting and graph.dependents.get(item.meta.uid) else "Background"
        if _ORPHAN in item.meta.finalizers:
            propagation = "Orphan"
        elif _FOREGROUND in item.meta.finalizers:
            propagation = "Foreground"
        yield Step(about, (*checks, delete(item.resource, item.meta, propagation=propagation)))


def _misplaced(owner: _Object, item: _Object) -> bool:
    """An owner in another namespace owns nothing here."""
    return owner.resource.namespaced and owner.meta.namespace != item.meta.namespace


def _absent(owner: OwnerReference, item: _Object, graph: _Graph) -> Action:
    resource = graph.known[_group(owner), owner.kind]
    namespace = item.meta.namespace if resource.namespaced else ""
    if resource.namespaced and not namespace:
        message = f"ownerRef [{owner.api_version}/{owner.kind}, name: {owner.name}] is namespaced, its object is not"
        return Tell(reason="OwnerRefInvalidNamespace", message=message, type="Warning")
    return ConfirmAbsent(resource=resource, name=owner.name, namespace=namespace, uid=owner.uid)


def _group(owner: OwnerReference) -> str:
    return owner.api_version.rpartition("/")[0]


def _references(item: _Object, removed: list[dict[str, str]]) -> Action:
    return patch(item.resource, item.meta, {"metadata": {"ownerReferences": removed}}, exact=True, kind=STRATEGIC_PATCH)


def _finish(item: _Object, graph: _Graph) -> Iterator[Step]:
    """Take our finalizer off once what it stands for is done."""
    dependents = graph.dependents.get(item.meta.uid, [])
    if _FOREGROUND in item.meta.finalizers:
        blocking = [
            one
            for one in dependents
            if any(owner.uid == item.meta.uid and owner.block_owner_deletion for owner in one.meta.owner_references)
        ]
        if not blocking:
            yield _without(item, _FOREGROUND)
    elif _ORPHAN in item.meta.finalizers:
        if not dependents:
            yield _without(item, _ORPHAN)
        for one in dependents:
            removed = [{"$patch": "delete", "uid": item.meta.uid}]
            yield Step(ref(one.resource, one.meta), (_references(one, removed),))


def _without(item: _Object, finalizer: str) -> Step:
    left = [name for name in item.meta.finalizers if name != finalizer]
    body: Document = {"metadata": {"finalizers": left}}
    return Step(ref(item.resource, item.meta), (patch(item.resource, item.meta, body, exact=True),))


CONTROLLER = Controller(name="garbage_collector", reads=(), plan=plan, reads_everything=True, min_interval_s=0.1)

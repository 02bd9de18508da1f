"""Delete what lost its owners: in the background, in the foreground, or not at all where orphans are wanted. Pure.

Source: k/k `pkg/controller/garbagecollector/garbagecollector.go` (attemptToDeleteItem, processDeletingDependentsItem,
orphanDependents). Before a delete the API server is asked whether the owner is really gone: our copy may lag.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.errors import Document
from labctl.kube.meta import ObjectMeta, OwnerReference
from labctl.kube.resources import Resource
from master.controllers.protocol import Action, ConfirmAbsent, Controller, Plan, Step, Tell, World, delete, patch, ref
from master.controllers.views import Owned

_FOREGROUND = "foregroundDeletion"
_ORPHAN = "orphan"

Told = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Memory:
    """Objects (by uid) of which an owner (by uid) was told to be none, so that an Event comes once for it."""

    told: Told = frozenset()


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
    strangers: list[tuple[_Object, OwnerReference]] = field(default_factory=list)  # owners in another namespace


def plan(world: World, memory: Memory) -> Plan:
    """One look at every object with an owner, and at every owner that waits."""
    graph = _graph(world)
    steps: list[Step] = []
    for item in graph.by_uid.values():
        if item.meta.deleting:
            steps += _finish(item, graph)
        elif item.meta.owner_references:
            steps += _collect(item, graph)
    told = frozenset((item.meta.uid, owner.uid) for item, owner in graph.strangers)
    fresh = [(item, owner) for item, owner in graph.strangers if (item.meta.uid, owner.uid) not in memory.told]
    complaints = [Step(ref(item.resource, item.meta), (_stranger(item, owner),)) for item, owner in fresh]
    return Plan((*complaints, *steps), memory=Memory(told))


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
    gone: list[tuple[OwnerReference, Resource]] = []
    waiting: list[OwnerReference] = []
    solid = 0
    for owner in item.meta.owner_references:
        found = graph.by_uid.get(owner.uid)
        kind = graph.known.get((_group(owner), owner.kind))
        if found is not None and found.resource.namespaced and found.meta.namespace != item.meta.namespace:
            graph.strangers.append((item, owner))  # it owns nothing here
            found = None
        if found is not None and found.waits_for_dependents:
            waiting.append(owner)
        elif found is not None or kind is None or (kind.namespaced and not item.meta.namespace):
            solid += 1  # it lives, or it is of a kind that cannot be looked up for this object: assume the best
        else:
            gone.append((owner, kind))
    if not gone and not waiting:
        return
    about = ref(item.resource, item.meta)
    checks: list[Action] = [_absent(owner, kind, item) for owner, kind in gone]
    if solid:
        removed: list[Document] = [
            {"$patch": "delete", "uid": owner.uid} for owner in (*(one for one, _ in gone), *waiting)
        ]
        yield Step(about, (*checks, _references(item, removed)))
        return
    dependents = graph.dependents.get(item.meta.uid, [])
    propagation = "Background"
    version = item.meta.resource_version  # whose owners were looked at: one that came since would be overlooked
    if waiting and dependents:
        propagation = "Foreground"
        if any(one.waits_for_dependents for one in dependents):  # a circle: one of them must not wait for the other
            free: list[Document] = [
                {"uid": owner.uid, "blockOwnerDeletion": False} for owner in item.meta.owner_references
            ]
            checks.append(_references(item, free))
            version = ""  # the patch before it is on that condition already
    elif _ORPHAN in item.meta.finalizers:
        propagation = "Orphan"
    elif _FOREGROUND in item.meta.finalizers:
        propagation = "Foreground"
    yield Step(about, (*checks, delete(item.resource, item.meta, propagation=propagation, resource_version=version)))


def _absent(owner: OwnerReference, kind: Resource, item: _Object) -> Action:
    namespace = item.meta.namespace if kind.namespaced else ""
    return ConfirmAbsent(resource=kind, name=owner.name, namespace=namespace, uid=owner.uid)


def _stranger(item: _Object, owner: OwnerReference) -> Tell:
    """An owner of another namespace, or a namespaced one of an object that is in none, in upstream's words."""
    namespace = f", namespace: {item.meta.namespace}" if item.meta.namespace else ""
    named = f"[{owner.api_version}/{owner.kind}{namespace}, name: {owner.name}, uid: {owner.uid}]"
    message = f'ownerRef {named} does not exist in namespace "{item.meta.namespace}"'
    return Tell(reason="OwnerRefInvalidNamespace", message=message, type="Warning")


def _group(owner: OwnerReference) -> str:
    return owner.api_version.rpartition("/")[0]


def _references(item: _Object, changed: list[Document]) -> Action:
    return patch(item.resource, item.meta, {"metadata": {"ownerReferences": changed}}, exact=True, kind=STRATEGIC_PATCH)


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
            removed: list[Document] = [{"$patch": "delete", "uid": item.meta.uid}]
            yield Step(ref(one.resource, one.meta), (_references(one, removed),))


def _without(item: _Object, finalizer: str) -> Step:
    left = [name for name in item.meta.finalizers if name != finalizer]
    body: Document = {"metadata": {"finalizers": left}}
    return Step(ref(item.resource, item.meta), (patch(item.resource, item.meta, body, exact=True),))


CONTROLLER = Controller(
    name="garbage_collector", reads=(), plan=plan, memory=Memory(), reads_everything=True, min_interval_s=0.1
)

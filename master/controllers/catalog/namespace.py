"""Empty a namespace that is being deleted, then let it go. Pure: no clock, no network, no log.

Source: k/k `pkg/controller/namespace/deletion/namespaced_resources_deleter.go`.
"""

from __future__ import annotations

from collections.abc import Iterator

from labctl.kube.client import STRATEGIC_PATCH
from labctl.kube.errors import Document
from labctl.kube.resources import EVENTS, NAMESPACES, Resource
from master.controllers.pods import condition
from master.controllers.protocol import ConfirmEmpty, Controller, Finalize, Plan, Step, World, delete, patch, ref
from master.controllers.views import NAMESPACES_KIND, Namespace, Owned

_RETRY_S = 2.0
# What is said of a namespace that is being emptied: type -> reason and message while there is nothing to complain of.
_FINE = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": (
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
}


def plan(world: World, memory: None) -> Plan:
    """Delete the contents of every terminating namespace; once nothing is left, take the finalizer off."""
    steps: list[Step] = []
    for namespace in world.all(NAMESPACES_KIND).values():
        if namespace.metadata.deleting and "kubernetes" in namespace.spec.finalizers:
            steps += _steps(namespace, world)
    return Plan(tuple(steps), _RETRY_S if steps else float("inf"), memory)


def _steps(namespace: Namespace, world: World) -> Iterator[Step]:
    name = namespace.metadata.name
    about = ref(NAMESPACES, namespace.metadata)
    kinds = [kind for kind in world.settings.kinds if kind.namespaced and kind != EVENTS]
    left: list[tuple[Resource, Owned]] = []
    for kind in kinds:
        for item in world.objects.get(kind, {}).values():
            if item.metadata.namespace == name:
                left.append((kind, item))
    if left:
        yield from (
            Step(ref(kind, item.metadata), (delete(kind, item.metadata, propagation="Background"),))
            for kind, item in left
            if not item.metadata.deleting
        )
        yield from _report(namespace, left, world)
        return
    yield Step(about, (ConfirmEmpty(namespace=name, kinds=tuple(kinds)), Finalize(namespace=name)))


def _report(namespace: Namespace, left: list[tuple[Resource, Owned]], world: World) -> Iterator[Step]:
    """Conditions that say what is being waited for."""
    counts: dict[str, int] = {}
    finalizers: dict[str, int] = {}
    for resource, item in left:
        counts[resource.qualified] = counts.get(resource.qualified, 0) + 1
        for finalizer in item.metadata.finalizers:
            finalizers[finalizer] = finalizers.get(finalizer, 0) + 1
    content = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(counts.items()))
    waiting = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
    wanted = {kind: ("False", *told) for kind, told in _FINE.items()}
    message = f"Some resources are remaining: {content}"
    wanted["NamespaceContentRemaining"] = ("True", "SomeResourcesRemain", message)
    if finalizers:
        message = f"Some content in the namespace has finalizers remaining: {waiting}"
        wanted["NamespaceFinalizersRemaining"] = ("True", "SomeFinalizersRemain", message)
    entries: list[Document] = []
    for kind, (status, reason, message) in wanted.items():
        old = condition(namespace.status.conditions, kind)
        if old is not None and (old.status, old.reason, old.message) == (status, reason, message):
            continue
        moved = old.last_transition_time if old and old.status == status else world.stamp
        entries.append(
            {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": moved}
        )
    if entries:
        body = {"status": {"conditions": entries}}
        change = patch(NAMESPACES, namespace.metadata, body, subresource="status", kind=STRATEGIC_PATCH)
        yield Step(ref(NAMESPACES, namespace.metadata), (change,))


CONTROLLER = Controller(
    name="namespace", reads=(NAMESPACES_KIND,), plan=plan, reads_everything=True, min_interval_s=0.1
)

"""Priority: a pod's priority number and preemption policy from its class, the default class, or 0."""

from __future__ import annotations

from typing import Any

from labctl.kube.resources import PRIORITY_CLASSES
from master.apiserver import problems
from master.apiserver.admit import Attributes, World


class _Priority:
    name = "Priority"
    order = 30
    operations = frozenset({"create"})
    resources = frozenset({"pods"})

    def admit(self, write: Attributes, world: World) -> None:
        assert write.document is not None
        if write.subresource:
            return
        spec = write.document["spec"]
        name = spec.get("priorityClassName", "")
        chosen = _class(name, write, world) if name else _default(world)
        value = int(chosen.get("value", 0)) if chosen else 0
        if "priority" in spec and spec["priority"] != value:
            why = (
                "the integer value of priority ({}) must not be provided in pod spec;"
                " priority admission controller computed {} from the given PriorityClass name"
            )
            raise problems.forbidden(write.kind.resource, write.name, why.format(spec["priority"], value))
        if chosen and not name:
            spec["priorityClassName"] = chosen["metadata"]["name"]
        spec["priority"] = value
        spec.setdefault(
            "preemptionPolicy",
            chosen.get("preemptionPolicy", "PreemptLowerPriority") if chosen else "PreemptLowerPriority",
        )


def _class(name: str, write: Attributes, world: World) -> dict[str, Any]:
    kind = world.registry.of(PRIORITY_CLASSES)
    found = world.storage.cache(kind).get(kind.key("", name)) or world.storage.find(kind, "", name)
    if found is None:
        raise problems.forbidden(write.kind.resource, write.name, f"no PriorityClass with name {name} was found")
    return found.document


def _default(world: World) -> dict[str, Any] | None:
    """The lowest of the classes that call themselves the default."""
    classes, _ = world.storage.cache(world.registry.of(PRIORITY_CLASSES)).list()
    marked = [entry.document for entry in classes if entry.document.get("globalDefault")]
    return min(marked, key=lambda entry: int(entry.get("value", 0)), default=None)


ADMISSION = _Priority()

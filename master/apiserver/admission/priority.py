"""Priority: a pod's priority number and preemption policy from its class, the default class, or 0.

Source: `plugin/pkg/admission/priority/admission.go`.
"""

from __future__ import annotations

from typing import Any

from labctl.kube.resources import PRIORITY_CLASSES
from master.apiserver import problems
from master.apiserver.admit import Attributes, World

_PREEMPT = "PreemptLowerPriority"


class _Priority:
    name = "Priority"
    order = 30
    operations = frozenset({"create", "update"})
    resources = frozenset({"pods", "priorityclasses"})

    def admit(self, write: Attributes, world: World) -> None:
        assert write.document is not None
        if write.subresource:
            return
        if write.kind.resource == PRIORITY_CLASSES:
            _one_default(write, world)
        elif write.operation == "create":
            _fill(write, write.document["spec"], world)
        else:
            _keep(write.document.get("spec") or {}, (write.old or {}).get("spec") or {})


def _keep(spec: dict[str, Any], was: dict[str, Any]) -> None:
    """What an update leaves out stays."""
    for key in ("priority", "preemptionPolicy"):
        if key in was:
            spec.setdefault(key, was[key])


def _fill(write: Attributes, spec: dict[str, Any], world: World) -> None:
    name = spec.get("priorityClassName", "")
    chosen = _class(name, write, world) if name else _default(world)
    value = int(chosen.get("value", 0)) if chosen else 0
    policy = chosen.get("preemptionPolicy", _PREEMPT) if chosen else _PREEMPT
    for key, wanted, noun in (
        ("priority", value, "integer value of priority"),
        ("preemptionPolicy", policy, "string value of PreemptionPolicy"),
    ):
        if spec.setdefault(key, wanted) != wanted:
            why = (
                f"the {noun} ({spec[key]}) must not be provided in pod spec; priority admission controller computed"
                f" {wanted} from the given PriorityClass name"
            )
            raise problems.forbidden(write.kind.resource, write.name, why)
    if chosen and not name:
        spec["priorityClassName"] = chosen["metadata"]["name"]


def _one_default(write: Attributes, world: World) -> None:
    """At most one class is what pods get that name none."""
    assert write.document is not None
    if not write.document.get("globalDefault"):
        return
    had = _default(world)
    if had is not None and had["metadata"]["name"] != write.name:
        told = f"PriorityClass {had['metadata']['name']} is already marked as default. Only one default can exist"
        raise problems.forbidden(PRIORITY_CLASSES, write.name, told)


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

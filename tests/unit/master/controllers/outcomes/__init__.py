"""A table of what upstream documents its controllers to do, and the little language that it is written in.

A case names its source, the controller to `run`, the objects `given`, and what to `expect` of the plan; `then` looks
again later, at a world that may have changed. Objects are short: `Kind/name: {...}` with what matters, the rest by
default (see `objects`). Expectations are exact where they count or name, and subsets where they show a document.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import yaml

from labctl.kube.resources import BUILTIN, Resource
from labctl.kube.timing import PROFILES
from master.controllers import process
from master.controllers.protocol import Create, Delete, Patch, Plan, Settings, Tell, World
from master.controllers.views import Owned
from tests.unit.master.controllers.outcomes.objects import build, laid
from tests.unit.master.controllers.world import NOW, actions

Document = dict[str, Any]

_CONTROLLERS = process.controllers()
_VIEWS: dict[Resource, Any] = {}
for _one in _CONTROLLERS.values():
    for _kind in (*_one.reads, *_one.quiet):
        _VIEWS.setdefault(_kind.resource, _kind.view)
KINDS: dict[str, Resource] = {}
for _resource in BUILTIN:
    KINDS.setdefault(_resource.kind, _resource)


def load() -> list[Document]:
    """Every case of every file, in order."""
    found: list[Document] = []
    for path in sorted(Path(__file__).parent.glob("*.yaml")):
        found += [{**case, "file": path.stem} for case in yaml.safe_load(path.read_text())]
    return found


class Case:
    """One case as it is played: the world, and the memory from look to look."""

    def __init__(self, case: Document) -> None:
        self._controller = _CONTROLLERS[case["run"]]
        self._profile = PROFILES[case.get("profile", "kubernetes")]
        self._objects: dict[str, Document] = {}
        self._memory, self._after_s = self._controller.memory, 0.0
        self.change(case.get("given", ()))

    def change(self, entries: Any) -> None:
        """Put objects in the place of those of the same kind and name; null takes one away."""
        for entry in entries:
            for key, short in entry.items():
                if short is None:
                    del self._objects[key]
                    continue
                for name in _names(key, (short or {}).get("count", 1)):
                    self._objects[name] = build(KINDS[name.partition("/")[0]], name.partition("/")[2], short or {})

    @property
    def sizes(self) -> dict[str, int]:
        """How many replicas each object asks for now."""
        found = {one["metadata"]["name"]: one["spec"].get("replicas") for one in self._objects.values()}
        return {name: size for name, size in found.items() if size is not None}

    def look(self, after_s: float) -> Plan:
        """One pass, that much later."""
        self._after_s += after_s
        decided = self._controller.plan(self._world(), self._memory)
        self._memory = decided.memory
        return decided

    def _world(self) -> World:
        kinds = tuple(dict.fromkeys(KINDS[key.partition("/")[0]] for key in self._objects))
        objects: dict[Resource, dict[str, Any]] = {}
        for key, document in self._objects.items():
            resource = KINDS[key.partition("/")[0]]
            view = _VIEWS.get(resource, Owned)
            item = msgspec.json.decode(msgspec.json.encode(document), type=view)
            objects.setdefault(resource, {})[item.metadata.key] = item
        known = process.collectable() if self._controller.reads_everything else kinds
        for resource in known:
            objects.setdefault(resource, {})
        return World(
            now_s=1_000.0 + self._after_s,
            now=NOW + timedelta(seconds=self._after_s),
            steady_since_s=0.0,
            settings=Settings(profile=self._profile, kinds=known),
            objects=objects,
        )


def _names(key: str, count: int) -> list[str]:
    return [key] if count == 1 else [f"{key}{number}" for number in range(count)]


def found(plan: Plan, before: dict[str, int]) -> Document:
    """A plan in the words of `expect`; `before` are the sizes that it may change."""
    creates: dict[str, int] = {}
    for action in actions(plan, Create):
        creates[action.resource.kind] = creates.get(action.resource.kind, 0) + 1
    status: Document = {}
    patches: Document = {}
    sizes: dict[str, int] = {}
    for action in actions(plan, Patch):
        key = f"{action.resource.kind}/{action.name}"
        if action.subresource == "status":
            status[key] = action.body["status"]
        else:
            patches[key] = laid(patches.get(key, {}), msgspec.to_builtins(action.body))
        size = action.body.get("spec", {}).get("replicas")
        if size is not None and size != before.get(action.name):
            sizes[action.name] = size
    return {
        "creates": creates,
        "created": [action.body for action in actions(plan, Create)],
        "deletes": sorted(action.name for action in actions(plan, Delete)),
        "deletions": {action.name: msgspec.to_builtins(action) for action in actions(plan, Delete)},
        "status": status,
        "patches": patches,
        "sizes": sizes,
        "conditions": {key: _conditions(body) for key, body in status.items()},
        "events": [f"{one.type} {one.reason}: {one.message}" for one in actions(plan, Tell)],
        "wake_s": plan.wake_after_s,
        "steps": len(plan.steps),
    }


def _conditions(status: Document) -> dict[str, str]:
    entries = status.get("conditions") or ()
    return {one["type"]: " ".join((one["status"], one.get("reason", ""))).strip() for one in entries}


_EXACT = {"creates", "deletes", "sizes", "wake_s", "steps"}


def differences(expected: Document, plan: Plan, before: dict[str, int]) -> list[str]:
    """What of `expected` does not hold, each in a line."""
    seen = found(plan, before)
    wrong: list[str] = []
    for key, wanted in expected.items():
        if key in _EXACT:
            holds = seen[key] == wanted
        elif key == "events":
            holds = all(any(text.startswith(one) for text in seen[key]) for one in wanted) and (
                bool(wanted) or not seen[key]
            )
        elif key == "created":
            holds = all(any(_covers(one, body) for body in seen[key]) for one in wanted)
        else:
            holds = _covers(wanted, seen[key])
        if not holds:
            wrong.append(f"{key}: wanted {wanted}, found {seen[key]}")
    return wrong


def _covers(wanted: Any, document: Any) -> bool:
    """Whether `document` holds all that `wanted` shows; a list must match in full, a null is an absent key."""
    if isinstance(wanted, dict):
        return isinstance(document, dict) and all(
            (key not in document if value is None else key in document and _covers(value, document[key]))
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(document, list | tuple)
            and len(wanted) == len(document)
            and all(_covers(one, other) for one, other in zip(wanted, document, strict=True))
        )
    return bool(wanted == document)

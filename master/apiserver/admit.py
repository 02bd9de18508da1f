"""The admission chain: plugins found in `admission/`, run in their stated order on every create, update and delete."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from labctl.kube.timing import Profile
from labctl.runtime.clock import Clock
from labctl.runtime.discovery import discover
from master.apiserver import admission
from master.apiserver.authz.authorizer import Authorizer
from master.apiserver.registry import Kind, Registry
from master.apiserver.request import User
from master.apiserver.storage import Storage

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class World:
    """What plugins may look at."""

    storage: Storage
    registry: Registry
    profile: Profile
    authorizer: Authorizer
    clock: Clock


@dataclass(frozen=True, slots=True)
class Attributes:
    """One write. `document` is the new object, which plugins may change; None on a delete."""

    operation: str  # create, update or delete
    kind: Kind
    namespace: str
    name: str
    document: Document | None
    old: Document | None
    user: User
    subresource: str = ""
    dry_run: bool = False


@runtime_checkable
class Admission(Protocol):
    """One concern. `resources` are the plurals it looks at; empty for all. One that is `last` runs after validation."""

    name: str
    order: int
    operations: frozenset[str]
    resources: frozenset[str]

    def admit(self, write: Attributes, world: World) -> None:
        """Change `write.document`, or raise an ApiError."""
        ...


class Chain:
    """Every plugin, in order."""

    def __init__(self, world: World, disabled: Collection[str] = ()) -> None:
        """`disabled` are names of plugins to leave out, as upstream's --disable-admission-plugins."""
        self._world = world
        found = discover(admission, "ADMISSION", Admission)  # type: ignore[type-abstract]
        wanted = (plugin for plugin in found.values() if plugin.name not in disabled)
        ordered = sorted(wanted, key=lambda plugin: (plugin.order, plugin.name))
        self._plugins = [plugin for plugin in ordered if not getattr(plugin, "last", False)]
        self._last = [plugin for plugin in ordered if getattr(plugin, "last", False)]

    def admit(self, write: Attributes) -> None:
        """Run every plugin that looks at this write, before it is validated."""
        self._run(self._plugins, write)

    def check(self, write: Attributes) -> None:
        """Run those that look at valid writes only."""
        self._run(self._last, write)

    def _run(self, plugins: list[Admission], write: Attributes) -> None:
        plural = write.kind.resource.plural
        for plugin in plugins:
            if write.operation in plugin.operations and (not plugin.resources or plural in plugin.resources):
                plugin.admit(write, self._world)

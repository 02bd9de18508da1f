"""What a cycle looks at beside nodes and pods: Services and sets for spreading, namespaces' labels, budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from labctl.kube.client import Client
from labctl.kube.informer import Informer
from labctl.kube.resources import (
    NAMESPACES,
    POD_DISRUPTION_BUDGETS,
    REPLICA_SETS,
    SERVICES,
    STATEFUL_SETS,
    Resource,
    builtin,
)
from labctl.kube.selectors import Requirement, Selector
from labctl.runtime.clock import Clock
from labctl.runtime.loop import Stop
from master.scheduler.snapshot import Snapshot
from master.scheduler.views import Budget, Namespace, PodSet, Service

REPLICATION_CONTROLLERS = builtin("replicationcontrollers")

T = TypeVar("T")
Sets = Mapping[tuple[str, str], Selector]


class _Made(Generic[T]):
    """Something made of informers' snapshots, made again only when one of them is another."""

    def __init__(self, make: Callable[..., T], *informers: Informer[Any]) -> None:
        self._make, self._informers = make, informers
        self._seen: tuple[object, ...] = ()
        self._value: T | None = None

    def get(self) -> T:
        seen = tuple(informer.snapshot() for informer in self._informers)
        if self._value is None or any(one is not other for one, other in zip(seen, self._seen, strict=True)):
            self._value, self._seen = self._make(*seen), seen
        return self._value


class Around:
    """Follows them, and completes snapshots."""

    def __init__(self, client: Client, clock: Clock) -> None:
        def follow(resource: Resource, view: type[T]) -> Informer[T]:
            return Informer(client, resource, view, clock=clock)

        services = follow(SERVICES, Service)
        controllers = follow(REPLICATION_CONTROLLERS, Service)  # a plain map selects their pods too
        sets, stateful = follow(REPLICA_SETS, PodSet), follow(STATEFUL_SETS, PodSet)
        namespaces = follow(NAMESPACES, Namespace)
        budgets = follow(POD_DISRUPTION_BUDGETS, Budget)
        self.informers: tuple[Informer[Any], ...] = (services, controllers, sets, stateful, namespaces, budgets)
        self._services = _Made(lambda found: tuple(found.values()), services)
        self._sets = _Made(_selectors, controllers, sets, stateful)
        self._spaces = _Made(_labels, namespaces)
        self._budgets = _Made(lambda found: tuple(found.values()), budgets)

    def start(self, stop: Stop) -> None:
        """Follow the API until `stop`."""
        for informer in self.informers:
            informer.start(stop)

    def complete(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with all this in it."""
        return replace(
            snapshot,
            services=self._services.get(),
            sets=self._sets.get(),
            namespaces=self._spaces.get(),
            budgets=self._budgets.get(),
        )


def _labels(namespaces: Mapping[str, Namespace]) -> Mapping[str, Mapping[str, str]]:
    return {name: namespace.metadata.labels for name, namespace in namespaces.items()}


def _selectors(controllers: Mapping[str, Service], sets: Mapping[str, PodSet], stateful: Mapping[str, PodSet]) -> Sets:
    found: dict[tuple[str, str], Selector] = {}
    for key, item in controllers.items():
        found["ReplicationController", key] = tuple(
            Requirement(name, "In", (value,)) for name, value in item.spec.selector.items()
        )
    for kind, items in (("ReplicaSet", sets), ("StatefulSet", stateful)):
        for key, entry in items.items():
            if entry.spec.selector is not None:
                found[kind, key] = entry.spec.selector.terms
    return found

"""What a controller is: a pure function from a frozen world to a plan of small, conditional writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from labctl.kube.client import MERGE_PATCH
from labctl.kube.errors import Document
from labctl.kube.events import EventType
from labctl.kube.fencing import DEFAULT, Mode
from labctl.kube.meta import ObjectMeta, Reference
from labctl.kube.resources import Resource
from labctl.kube.timing import FAST, Profile
from labctl.runtime.clock import rfc3339

T = TypeVar("T")
NEVER_S = math.inf


class HasMeta(Protocol):
    """Any view of an object."""

    @property
    def metadata(self) -> ObjectMeta:
        """Its metadata."""
        ...


H = TypeVar("H", bound=HasMeta)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A resource and the view its objects are decoded into; every controller of a process shares one copy."""

    resource: Resource
    view: type[T]
    namespace: str = ""  # only this one's objects
    metadata_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the process was configured with."""

    profile: Profile = FAST
    cluster_cidr: str = "10.244.0.0/16"
    node_cidr_mask: int = 24
    root_ca: str = ""  # PEM, published to every namespace
    kinds: tuple[Resource, ...] = ()  # everything that can be listed and deleted
    fencing: Mode = DEFAULT  # of StatefulSets' pods


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last step on behalf of an object failed: its `failure_reason`, and what the API server said."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class World:
    """All that a plan may look at. It never changes."""

    now_s: float  # our monotonic clock, read once per pass
    now: datetime  # for stamps in objects; never compared with a stamp of another machine
    steady_since_s: float  # since when our own writes have come through without a gap
    settings: Settings = field(default_factory=Settings)
    objects: Mapping[Resource, Mapping[str, Any]] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)  # this controller's, by the uid it acted for

    def all(self, kind: Kind[T]) -> Mapping[str, T]:
        """Every object of a kind by `namespace/name` or `name`."""
        return self.objects.get(kind.resource, {})

    @cached_property
    def stamp(self) -> str:
        """`now` as objects carry it."""
        return rfc3339(self.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Create an object. AlreadyExists ends the step, to look again."""

    resource: Resource
    body: Document
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Change an object; `body` may carry metadata.uid or metadata.resourceVersion as a condition."""

    resource: Resource
    name: str
    body: Document
    namespace: str = ""
    subresource: str = ""
    kind: str = MERGE_PATCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete this very object (`uid`); already gone is as good."""

    resource: Resource
    name: str
    uid: str
    namespace: str = ""
    resource_version: str = ""
    grace_s: int | None = None
    propagation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmAbsent:
    """Go on only if the API server itself knows no such object, or one of another uid; the informer may lag."""

    resource: Resource
    name: str
    namespace: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmUnmoved:
    """Go on only if the API server itself has this very version of the object ("": none); the informer may lag."""

    resource: Resource
    name: str
    resource_version: str
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerOff:
    """Go on only once the fence agent has powered the node's machine off and seen it off; an Event says how."""

    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmEmpty:
    """Go on only if the namespace holds no object of any of `kinds`."""

    namespace: str
    kinds: tuple[Resource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalize:
    """Take the finalizer `kubernetes` off a namespace."""

    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """An Event, by default about the step's object."""

    reason: str
    message: str
    type: EventType = "Normal"
    about: Reference | None = None


Action = Create | Patch | Delete | ConfirmAbsent | ConfirmUnmoved | ConfirmEmpty | PowerOff | Finalize | Tell


@dataclass(frozen=True, slots=True)
class Step:
    """Actions on behalf of one object, in order; the first that fails ends the step, not the plan."""

    about: Reference
    actions: tuple[Action, ...]
    failure_reason: str = ""  # of the Event if one fails, e.g. FailedCreate
    failure_prefix: str = ""  # of its message
    failure_also: tuple[Reference, ...] = ()  # what else the Event is told about


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, when to look again at the latest, and what to remember until then."""

    steps: tuple[Step, ...] = ()
    wake_after_s: float = NEVER_S
    memory: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """A controller: its name, the kinds it reads, and its plan. `memory` is what its first pass gets."""

    name: str
    reads: tuple[Kind[Any], ...]
    plan: Callable[[World, Any], Plan]
    memory: Any = None
    quiet: tuple[Kind[Any], ...] = ()  # read too, but their changes alone are no reason to look
    reads_everything: bool = False  # and every other kind's metadata
    min_interval_s: float = 0.01  # between the starts of two passes


def ref(resource: Resource, meta: ObjectMeta) -> Reference:
    """How an Event or an owner reference names the object."""
    return Reference(
        api_version=resource.api_version,
        kind=resource.kind,
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
    )


def owner_reference(resource: Resource, meta: ObjectMeta) -> Document:
    """The controller reference that an object made for `meta` carries."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def delete(resource: Resource, meta: ObjectMeta, **options: Any) -> Delete:
    """Delete the object that `meta` belongs to."""
    return Delete(resource=resource, namespace=meta.namespace, name=meta.name, uid=meta.uid, **options)


def patch(resource: Resource, meta: ObjectMeta, body: Document, *, exact: bool = False, **options: Any) -> Patch:
    """Change the object that `meta` belongs to: this very one (`uid`), and with `exact` this very version of it."""
    condition = {"uid": meta.uid} | ({"resourceVersion": meta.resource_version} if exact else {})
    merged = {**body, "metadata": {**body.get("metadata", {}), **condition}}
    return Patch(resource=resource, namespace=meta.namespace, name=meta.name, body=merged, **options)


def each(resource: Resource, objects: Iterable[H], decide: Callable[[H], Iterable[Step]]) -> Iterator[Step]:
    """The steps for every object; one that cannot be acted on gets an Event that says why, and the others go on."""
    for item in objects:
        try:
            yield from tuple(decide(item))
        except Exception as error:  # whatever it is, it concerns this object alone
            message = f"cannot act on this {resource.kind}: {type(error).__name__}: {error}"
            about = ref(resource, item.metadata)
            yield Step(about, (Tell(reason="FailedSync", message=message, type="Warning"),))

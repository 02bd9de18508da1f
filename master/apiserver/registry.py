"""What is served: kinds as data, by path and by group. CustomResourceDefinitions will add to the same table.

A kind says where its objects are stored and, where two versions share objects, how to turn one into the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from labctl.kube.resources import BUILTIN, METRICS, Resource, builtin
from labctl.kube.schema import Schemas, Shape
from master.apiserver.convert import EVENTS, HPA, Conversion

Document = dict[str, Any]
Convert = Callable[[Document], Document]

# Groups in discovery's order, as upstream's aggregator sorts them; others follow by name.
_GROUP_ORDER = (
    "", "apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io",
    "autoscaling", "batch", "certificates.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io",
    "storage.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io", "scheduling.k8s.io",
    "coordination.k8s.io", "node.k8s.io", "discovery.k8s.io", "resource.k8s.io", "flowcontrol.apiserver.k8s.io",
    "storagemigration.k8s.io",
)  # fmt: skip
_VIRTUAL = frozenset(
    {"bindings", "componentstatuses", "selfsubjectreviews", "tokenreviews", "localsubjectaccessreviews",
     "selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews"}
)  # fmt: skip
_CONVERSIONS = {("events.k8s.io", "events"): EVENTS, ("autoscaling", "horizontalpodautoscalers"): HPA}


@dataclass(frozen=True, slots=True)
class Kind:
    """A served resource. `stored` is the version its objects are kept in; `conversion` is None if that is this one."""

    resource: Resource
    schema_name: str
    stored: Resource
    conversion: Conversion | None = None
    virtual: bool = False  # nothing is stored: the answer is computed

    @property
    def prefix(self) -> str:
        """Where objects are kept."""
        return f"/registry/{self.stored.group or 'core'}/{self.stored.plural}/"

    def key(self, namespace: str, name: str) -> str:
        """Where one object is kept."""
        return f"{self.prefix}{namespace}/{name}" if self.resource.namespaced else f"{self.prefix}{name}"

    def scope(self, namespace: str) -> str:
        """The prefix of a namespace's objects, or of all."""
        return f"{self.prefix}{namespace}/" if self.resource.namespaced and namespace else self.prefix


class Registry:
    """Every served kind."""

    def __init__(self, schemas: Schemas, resources: Iterable[Resource] = (*BUILTIN, *METRICS)) -> None:
        self.schemas = schemas
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        for resource in resources:
            self._kinds[resource.group, resource.version, resource.plural] = _kind(resource, schemas)

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind served at a path."""
        return self._kinds.get((group, version, plural))

    def of(self, resource: Resource) -> Kind:
        """The kind of a resource that is known to be served."""
        return self._kinds[resource.group, resource.version, resource.plural]

    def kinds(self, group: str, version: str) -> list[Kind]:
        """The kinds of a group version, by name."""
        found = [kind for (g, v, _), kind in self._kinds.items() if g == group and v == version]
        return sorted(found, key=lambda kind: kind.resource.plural)

    def all(self) -> list[Kind]:
        """Every kind."""
        return list(self._kinds.values())

    def groups(self) -> dict[str, list[str]]:
        """Group to its versions, the preferred one first; groups in discovery's order."""
        found: dict[str, list[str]] = {}
        for group, version, _ in self._kinds:
            versions = found.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        known = {group: at for at, group in enumerate(_GROUP_ORDER)}
        return {group: found[group] for group in sorted(found, key=lambda name: (known.get(name, 99), name))}

    def shape(self, kind: Kind) -> Shape | None:
        """The kind's schema."""
        return self.schemas.shape(kind.schema_name) if kind.schema_name else None


def _kind(resource: Resource, schemas: Schemas) -> Kind:
    name = schemas.name_of(resource.group, resource.version, resource.kind)
    stored, conversion = resource, _CONVERSIONS.get((resource.group, resource.plural))
    if resource.group == "events.k8s.io":
        stored = builtin("events")
    elif resource.group == "autoscaling":
        stored = builtin("horizontalpodautoscalers", "autoscaling", "v2")
    if stored == resource:
        conversion = None
    virtual = resource.plural in _VIRTUAL or resource in METRICS
    return Kind(resource, name, stored, conversion, virtual)

"""Kubernetes' OpenAPI definitions as compact shapes: what a field is, and how lists and maps of it merge.

One file holds every definition (`x-kubernetes-*` extensions included). It stays in memory as bytes; a definition is
decoded when it is first asked for, without its descriptions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from labctl.runtime.errors import LabError

_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_ANY = frozenset(
    {
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        "io.k8s.apimachinery.pkg.runtime.RawExtension",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
    }
)


class GroupVersionKind(msgspec.Struct, frozen=True):
    """What an object says it is."""

    group: str
    version: str
    kind: str


class _Kinds(msgspec.Struct, rename={"kinds": "x-kubernetes-group-version-kind"}):
    kinds: list[GroupVersionKind] = []


class _Headings(msgspec.Struct, rename={"definitions": "$defs"}):
    definitions: dict[str, _Kinds]


class _Bodies(msgspec.Struct, rename={"definitions": "$defs"}):
    definitions: dict[str, msgspec.Raw]


class Shape:
    """A type, or a field with its merge rules. Fields of a referenced type are resolved when they are first read.

    `kind` is object, map, array, string, integer, number, boolean, quantity, intstr, bytes, time or any.
    """

    __slots__ = (
        "_properties", "_schemas", "enum", "format", "items", "kind", "list_keys", "list_type", "map_type",
        "merge_key", "name", "ref", "required", "strategies", "values",
    )  # fmt: skip

    def __init__(self, schemas: Schemas, raw: Mapping[str, Any], name: str = "") -> None:
        self._schemas = schemas
        self.name = name  # of the definition, e.g. io.k8s.api.core.v1.PodSpec; "" for a field
        self.ref = _ref(raw)
        self.kind = _kind(raw, self.ref)
        self.format: str = raw.get("format", "")  # of an integer: int32 or int64
        self.merge_key: str = raw.get("x-kubernetes-patch-merge-key", "")
        self.strategies: tuple[str, ...] = tuple(raw.get("x-kubernetes-patch-strategy", "").split(",")) or ()
        self.list_type: str = raw.get("x-kubernetes-list-type", "")
        self.list_keys: tuple[str, ...] = tuple(raw.get("x-kubernetes-list-map-keys", ()))
        self.map_type: str = raw.get("x-kubernetes-map-type", "")
        self.required: tuple[str, ...] = tuple(raw.get("required", ()))
        self.enum: tuple[str, ...] = tuple(value for value in raw.get("enum", ()) if isinstance(value, str))
        self.items = Shape(schemas, raw["items"]) if "items" in raw else None
        extra = raw.get("additionalProperties")
        self.values = Shape(schemas, extra) if isinstance(extra, dict) else None
        properties = raw.get("properties")
        self._properties = {key: Shape(schemas, value) for key, value in properties.items()} if properties else {}

    @property
    def target(self) -> Shape:
        """The type itself, behind a reference."""
        return self._schemas.shape(self.ref) if self.ref else self

    def sibling(self, name: str) -> Shape:
        """Another definition of the same schemas."""
        return self._schemas.shape(name)

    @property
    def properties(self) -> Mapping[str, Shape]:
        """The fields of an object; empty where the schema names none."""
        return self.target._properties


def _ref(raw: Mapping[str, Any]) -> str:
    ref = raw.get("$ref", "")
    if not ref:
        for part in raw.get("allOf", ()):
            ref = ref or part.get("$ref", "")
    return str(ref).rpartition("/")[2]


def _kind(raw: Mapping[str, Any], ref: str) -> str:
    if ref:
        if ref == _QUANTITY:
            return "quantity"
        if ref == _INT_OR_STRING:
            return "intstr"
        if ref.endswith(("meta.v1.Time", "meta.v1.MicroTime")):
            return "time"
        return "any" if ref in _ANY else "object"
    kind = raw.get("type")
    if isinstance(kind, list):
        kind = next((entry for entry in kind if entry != "null"), None)
    if kind == "object":
        if isinstance(raw.get("additionalProperties"), dict):
            return "map"
        return "object" if "properties" in raw else "any"
    if kind == "string" and raw.get("format") == "byte":
        return "bytes"
    return str(kind) if kind else "any"


class Schemas:
    """Every definition of one Kubernetes version."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.read_bytes()
            headings = msgspec.json.decode(self._file, type=_Headings).definitions
        except (OSError, msgspec.DecodeError) as error:
            raise LabError(f"{path}: Kubernetes' schemas cannot be read: {error}") from error
        self._bodies = msgspec.json.decode(self._file, type=_Bodies).definitions
        self._names = {
            (gvk.group, gvk.version, gvk.kind): name
            for name, heading in headings.items()
            if len(heading.kinds) == 1
            for gvk in heading.kinds
        }
        self._shapes: dict[str, Shape] = {}

    def names(self) -> Iterator[str]:
        """Every definition's name."""
        return iter(self._bodies)

    def name_of(self, group: str, version: str, kind: str) -> str:
        """The definition of a kind; "" where there is none."""
        return self._names.get((group, version, kind), "")

    def definition(self, name: str) -> dict[str, Any]:
        """The definition as published, descriptions included; decoded anew on every call."""
        found: dict[str, Any] = msgspec.json.decode(self._bodies[name])
        return found

    def shape(self, name: str) -> Shape:
        """The definition's shape, made once."""
        found = self._shapes.get(name)
        if found is None:
            found = self._shapes[name] = Shape(self, self.definition(name), name)
        return found

    def shape_of(self, group: str, version: str, kind: str) -> Shape | None:
        """The shape of a kind; None where no schema is known."""
        name = self.name_of(group, version, kind)
        return self.shape(name) if name else None

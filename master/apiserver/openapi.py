"""The OpenAPI documents: /openapi/v3 by group version, /openapi/v2 whole, made from the registry and the schemas.

Made when asked for and kept compressed: clients cache them by hash, so they are asked for rarely.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import msgspec

from master.apiserver.openapi_writer import Writer
from master.apiserver.registry import Kind, Registry

Document = dict[str, Any]


class OpenApi:
    """Makes and keeps the documents."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._kept: dict[str, bytes] = {}

    def index(self) -> Document:
        """/openapi/v3."""
        paths = {}
        for group, versions in self._registry.groups().items():
            for version in versions:
                path = f"apis/{group}/{version}" if group else f"api/{version}"
                paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(group, version)}"}
        return {"paths": paths}

    def v3(self, group: str, version: str) -> bytes | None:
        """One group version's document, JSON; None where it is not served."""
        kinds = self._registry.kinds(group, version)
        return self._made(f"v3/{group}/{version}", lambda: self._v3(kinds)) if kinds else None

    def v2(self) -> bytes:
        """/openapi/v2, JSON."""
        return self._made("v2", self._v2)

    def _hash(self, group: str, version: str) -> str:
        """Changes with what is served and with how documents are made."""
        names = [
            (kind.resource.plural, kind.resource.verbs, kind.schema_name)
            for kind in self._registry.kinds(group, version)
        ]
        return hashlib.sha256(msgspec.json.encode(["3", names])).hexdigest()[:32].upper()

    def _made(self, name: str, make: Any) -> bytes:
        kept = self._kept.get(name)
        if kept is None:
            made: bytes = msgspec.json.encode(make())
            self._kept[name] = zlib.compress(made, 6)
            return made
        return zlib.decompress(kept)

    def _v3(self, kinds: list[Kind]) -> Document:
        writer = Writer(self._registry.schemas, "#/components/schemas/")
        paths: Document = {}
        for kind in kinds:
            paths |= writer.paths(kind)
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "v1.37.0"},
            "paths": paths,
            "components": {"schemas": writer.components()},
        }

    def _v2(self) -> Document:
        writer = Writer(self._registry.schemas, "#/definitions/", v2=True)
        paths: Document = {}
        for kind in self._registry.all():
            paths |= writer.paths(kind)
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": "v1.37.0"},
            "paths": paths,
            "definitions": writer.components(),
        }

"""The OpenAPI documents: /openapi/v3 by group version, /openapi/v2 whole, made from the registry and the schemas.

Made when asked for and kept compressed, as most clients take them; those keep them by hash and ask rarely.
Source: kube-openapi `pkg/handler3/handler.go` (ETag, hash, redirects).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec

from master.apiserver.openapi_protobuf import MEDIA, encode, wants_protobuf
from master.apiserver.openapi_writer import Writer
from master.apiserver.published import Published
from master.apiserver.registry import Kind, Registry
from master.apiserver.reply import Reply
from master.apiserver.request import Request

Document = dict[str, Any]

_EDITION = "5"  # of how documents are made; raise it with the writer, for clients keep them by hash


class OpenApi:
    """Makes and keeps the documents."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._kept: dict[str, Published] = {}

    def answer(self, parts: list[str], request: Request, now: datetime) -> Reply | None:
        """GET of /openapi/PARTS; None where there is nothing.

        As upstream, a document asked for by its hash may be kept for a year, and one asked for by an old hash is
        elsewhere (301).
        """
        if parts == ["v2"]:
            if wants_protobuf(request.environ.get("HTTP_ACCEPT", "")):
                return self._made("v2 protobuf", lambda: encode(self._v2())).reply(request.environ, MEDIA)
            return self._made("v2", self._v2).reply(request.environ)
        if parts == ["v3"]:
            return self._made("v3", self._index).reply(request.environ)
        group, version = (parts[2], parts[3]) if len(parts) == 4 else ("", parts[-1] if parts else "")
        if parts[:-1] != (["v3", "apis", group] if group else ["v3", "api"]):
            return None
        kinds = self._described(group, version)
        if not kinds:
            return None
        wanted, etag = request.query.get("hash", ""), self._hash(group, version)
        if wanted and wanted != etag:
            return Reply(b"", 301, headers={"Location": _url(group, version, etag)})
        reply = self._made(f"v3/{group}/{version}", lambda: self._v3(kinds), etag).reply(request.environ)
        if wanted:
            reply.headers["Cache-Control"] = "public, immutable"
            reply.headers["Expires"] = format_datetime(now + timedelta(days=365), usegmt=True)
        return reply

    def _index(self) -> Document:
        paths = {}
        for group, versions in self._registry.groups().items():
            for version in (version for version in versions if self._described(group, version)):
                path = f"apis/{group}/{version}" if group else f"api/{version}"
                paths[path] = {"serverRelativeURL": _url(group, version, self._hash(group, version))}
        return {"paths": paths}

    def _described(self, group: str, version: str) -> list[Kind]:
        """The kinds of a group version that there is a schema for."""
        return [kind for kind in self._registry.kinds(group, version) if kind.schema_name]

    def _hash(self, group: str, version: str) -> str:
        """Changes with what is served and with how documents are made."""
        names = [
            (kind.resource.plural, kind.resource.verbs, kind.resource.subresources, kind.schema_name)
            for kind in self._described(group, version)
        ]
        return hashlib.sha256(msgspec.json.encode([_EDITION, names])).hexdigest()[:32].upper()

    def _made(self, name: str, make: Callable[[], Document | bytes], etag: str = "") -> Published:
        kept = self._kept.get(name)
        if kept is None:
            made = make()
            kept = self._kept[name] = Published(made if isinstance(made, bytes) else msgspec.json.encode(made), etag)
        return kept

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
            paths |= writer.paths(kind) if kind.schema_name else {}
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": "v1.37.0"},
            "paths": paths,
            "definitions": writer.components(),
        }


def _url(group: str, version: str, etag: str) -> str:
    return f"/openapi/v3/{f'apis/{group}' if group else 'api'}/{version}?hash={etag}"

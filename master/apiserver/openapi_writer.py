"""Operations and definitions in OpenAPI's dialects, for the kinds of a document."""

from __future__ import annotations

from typing import Any

from labctl.kube.schema import Schemas
from master.apiserver.registry import Kind

Document = dict[str, Any]

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_DELETE_OPTIONS, _STATUS, _PATCH = _META + "DeleteOptions", _META + "Status", _META + "Patch"
_ANSWER_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_LIST_OPTIONS = (
    ("allowWatchBookmarks", "boolean"), ("continue", "string"), ("fieldSelector", "string"),
    ("labelSelector", "string"), ("limit", "integer"), ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"), ("timeoutSeconds", "integer"), ("watch", "boolean"),
)  # fmt: skip
_WRITE_OPTIONS = (("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"))
_DELETE_QUERY = (
    ("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
)  # fmt: skip
_WORDS = {"get": "read", "post": "create", "put": "replace", "patch": "patch", "delete": "delete"}
_SUB_BODIES = {
    "scale": "io.k8s.api.autoscaling.v1.Scale",
    "binding": "io.k8s.api.core.v1.Binding",
    "eviction": "io.k8s.api.policy.v1.Eviction",
    "token": "io.k8s.api.authentication.v1.TokenRequest",
}


class Writer:
    """Writes the operations of kinds and gathers the definitions they need."""

    def __init__(self, schemas: Schemas, prefix: str, *, v2: bool = False) -> None:
        self._schemas, self._prefix, self._v2 = schemas, prefix, v2
        self._needed: set[str] = set()

    def paths(self, kind: Kind) -> Document:
        """Every path of a kind with its operations."""
        if not kind.schema_name:
            return {}
        resource = kind.resource
        namespace = "{namespace}" if resource.namespaced else ""
        list_name = kind.schema_name + "List"
        found: Document = {}
        verbs = set(resource.verbs)
        single, many = resource.path(namespace, "{name}"), resource.path(namespace)
        operations = {
            (many, "get", "list"): ("list", list_name, "", _LIST_OPTIONS),
            (many, "post", "create"): ("post", kind.schema_name, kind.schema_name, _WRITE_OPTIONS),
            (many, "delete", "deletecollection"): (
                "deletecollection",
                _STATUS,
                _DELETE_OPTIONS,
                _LIST_OPTIONS + _DELETE_QUERY,
            ),
            (single, "get", "get"): ("get", kind.schema_name, "", ()),
            (single, "put", "update"): ("put", kind.schema_name, kind.schema_name, _WRITE_OPTIONS),
            (single, "patch", "patch"): ("patch", kind.schema_name, _PATCH, (*_WRITE_OPTIONS, ("force", "boolean"))),
            (single, "delete", "delete"): ("delete", _STATUS, _DELETE_OPTIONS, _DELETE_QUERY),
        }
        for (path, method, verb), (action, answer, body, options) in operations.items():
            if verb in verbs:
                self._add(found, path, method, self._operation(kind, (method, action), (answer, body), options))
        if resource.namespaced and "list" in verbs:
            self._add(
                found,
                resource.path(),
                "get",
                self._operation(kind, ("get", "list"), (list_name, ""), _LIST_OPTIONS, "ForAllNamespaces"),
            )
        for sub in resource.subresources:
            self._subresource(found, kind, sub)
        return found

    def components(self) -> Document:
        """Every definition that was named, and those they name in turn."""
        found: Document = {}
        waiting = sorted(self._needed)
        while waiting:
            name = waiting.pop()
            if name in found or name not in self._names:
                continue
            before = set(self._needed)
            found[name] = self._schema(self._schemas.definition(name))
            waiting += self._needed - before
        return dict(sorted(found.items()))

    @property
    def _names(self) -> frozenset[str]:
        return frozenset(self._schemas.names())

    def _subresource(self, found: Document, kind: Kind, sub: str) -> None:
        resource = kind.resource
        path = resource.path("{namespace}" if resource.namespaced else "", "{name}", sub)
        body = _SUB_BODIES.get(sub, kind.schema_name)
        if sub in {"binding", "eviction", "token"}:
            methods = ["post"]
        elif sub in {"log", "exec", "attach", "portforward", "proxy"}:
            methods = ["get"]
        elif sub == "finalize":
            methods = ["put"]
        else:
            methods = ["get", "put", "patch"]
        word = "".join(part.capitalize() for part in [sub])
        for method in methods:
            given = "" if method == "get" else _PATCH if method == "patch" else body
            options = () if method == "get" else _WRITE_OPTIONS
            self._add(
                found,
                path,
                method,
                self._operation(
                    kind,
                    (method, "connect" if sub in {"exec", "attach", "portforward", "proxy"} else method),
                    (body, given),
                    options,
                    word,
                ),
            )

    @staticmethod
    def _add(found: Document, path: str, method: str, operation: Document) -> None:
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in ("namespace", "name")
            if f"{{{name}}}" in path
        ]
        if "swagger" in operation:
            parameters = [
                {"name": entry["name"], "in": "path", "required": True, "type": "string"} for entry in parameters
            ]
            del operation["swagger"]
        found.setdefault(path, {})[method] = operation | {"parameters": [*parameters, *operation["parameters"]]}

    def _operation(
        self,
        kind: Kind,
        how: tuple[str, str],
        bodies: tuple[str, str],
        options: tuple[tuple[str, str], ...],
        suffix: str = "",
    ) -> Document:
        resource, (method, action), (answer, body) = kind.resource, how, bodies
        self._needed |= {name for name in bodies if name}
        namespaced = "Namespaced" if resource.namespaced and suffix != "ForAllNamespaces" else ""
        word = {"list": "list", "deletecollection": "deleteCollection", "connect": f"connect{method.capitalize()}"}.get(
            action, _WORDS[method]
        )
        group = "".join(part.capitalize() for part in (resource.group.removesuffix(".k8s.io") or "core").split("."))
        operation: Document = {
            "operationId": f"{word}{group}{resource.version.capitalize()}{namespaced}{resource.kind}{suffix}",
            "tags": [f"{(resource.group or 'core').removesuffix('.k8s.io').replace('.', '_')}_{resource.version}"],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {
                "group": resource.group,
                "version": resource.version,
                "kind": resource.kind,
            },
        }
        return operation | (
            self._body_v2(body, answer, options, method) if self._v2 else self._body_v3(body, answer, options, method)
        )

    def _ref(self, name: str) -> Document:
        return {"$ref": self._prefix + name}

    def _body_v3(self, body: str, answer: str, options: tuple[tuple[str, str], ...], method: str) -> Document:
        found: Document = {
            "parameters": [
                {"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": True}} for name, kind in options
            ],
            "responses": {
                "200": {
                    "description": "OK",
                    "content": {media: {"schema": self._ref(answer)} for media in _ANSWER_TYPES},
                },
                "401": {"description": "Unauthorized"},
            },
        }
        if body:
            media = _PATCH_TYPES if method == "patch" else ("*/*",)
            found["requestBody"] = {
                "content": {entry: {"schema": self._ref(body)} for entry in media},
                "required": method != "delete",
            }
        return found

    def _body_v2(self, body: str, answer: str, options: tuple[tuple[str, str], ...], method: str) -> Document:
        parameters: list[Document] = [
            {"name": name, "in": "query", "type": kind, "uniqueItems": True} for name, kind in options
        ]
        if body:
            parameters.append({"name": "body", "in": "body", "required": method != "delete", "schema": self._ref(body)})
        return {
            "swagger": True,
            "consumes": list(_PATCH_TYPES) if method == "patch" else ["*/*"],
            "produces": list(_ANSWER_TYPES),
            "parameters": parameters,
            "responses": {
                "200": {"description": "OK", "schema": self._ref(answer)},
                "401": {"description": "Unauthorized"},
            },
        }

    def _schema(self, raw: Any) -> Any:
        """A stored definition in the published dialect: plain types, no null, references in place."""
        if not isinstance(raw, dict):
            return raw
        found: Document = {}
        for key, value in raw.items():
            if key in {"oneOf", "anyOf"}:
                found |= {"format": "int-or-string"} if not self._v2 and "oneOf" in raw else {}
            elif key == "properties":
                found[key] = {name: self._schema(field) for name, field in value.items()}
            elif key in {"items", "additionalProperties"}:
                found[key] = self._schema(value) if isinstance(value, dict) else value
            elif key == "type":
                found[key] = (
                    next((entry for entry in value if entry != "null"), "object") if isinstance(value, list) else value
                )
            elif key not in {
                "$ref",
                "enum",
            }:  # the only enums are the kinds' own names, which upstream does not publish
                found[key] = value
        if "$ref" in raw:
            found = self._reference(raw["$ref"].rpartition("/")[2], found)
        if "oneOf" in raw and "type" not in found:
            found["type"] = "string"
        return found

    def _reference(self, name: str, beside: Document) -> Document:
        self._needed.add(name)
        if not beside or self._v2:
            return self._ref(name) | beside
        # OpenAPI 3.0 ignores what stands beside a $ref, so upstream wraps it.
        return {**beside, "allOf": [self._ref(name)], "default": beside.get("default", {})}

"""What a request asks for: verb, resource, namespace, name, subresource, options.

Source: apiserver `endpoints/request/requestinfo.go`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from labctl.kube.errors import BadRequest
from master.apiserver import problems

_INTEGER = re.compile(r"[+-]?[0-9]+")
_LIMIT = 1 << 63
_OPTIONS = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions", "DELETE": "DeleteOptions"}
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


class User(msgspec.Struct, frozen=True):
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()  # what the credential says besides, e.g. the pod of a token


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Target(msgspec.Struct, frozen=True):
    """The parsed path of a resource request, or of a group version (`plural` empty)."""

    group: str
    version: str
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""  # after the subresource: nodes/x/proxy/REST

    @property
    def is_resource(self) -> bool:
        """Whether a resource is named."""
        return bool(self.plural)


def parse_path(path: str) -> Target | None:
    """The target of /api/… or /apis/…; None for every other path (and for the bare group lists)."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) >= 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    if not rest:
        return Target(group, version)
    namespace = ""
    if rest[0] == "namespaces" and len(rest) >= 2:
        if len(rest) == 2 or (len(rest) == 3 and rest[2] in {"status", "finalize"}):
            # The namespace object itself; its own namespace is its name, as authorization sees it.
            return Target(group, version, "namespaces", rest[1], rest[1], rest[2] if len(rest) == 3 else "")
        namespace, rest = rest[1], rest[2:]
    name, subresource = (rest[1] if len(rest) > 1 else ""), (rest[2] if len(rest) > 2 else "")
    return Target(group, version, rest[0], namespace, name, subresource, "/".join(rest[3:]))


class Request(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A request, read once."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # lower-case names
    user: User
    target: Target | None
    body: bytes = b""
    environ: dict[str, Any] = {}  # the WSGI environment, for what is passed on as it came: streams and proxies
    alive: Callable[[], bool] = lambda: True  # whether the client is still there; long answers look now and then

    @cached_property
    def verb(self) -> str:
        """The verb as RBAC knows it; the lower-case method for paths that are no resource."""
        if self.target is None or not self.target.is_resource:
            return self.method.lower()
        if self.method in {"GET", "HEAD"}:
            if self.flag("watch") and not self.target.subresource:
                return "watch"
            return "get" if self.target.name else "list"
        if self.method == "DELETE":
            return "delete" if self.target.name else "deletecollection"
        return _VERBS.get(self.method, self.method.lower())

    def flag(self, name: str) -> bool:
        """A boolean option; upstream takes 1, t, true and a bare name for true."""
        value = self.query.get(name)
        if value is None:
            return False
        return value.lower() not in {"0", "f", "false"}

    def number(self, name: str) -> int | None:
        """An integer option, as Go reads it; BadRequest where it is none."""
        text = self.query.get(name, "")
        if not text:
            return None
        if not _INTEGER.fullmatch(text):
            raise BadRequest(f'strconv.ParseInt: parsing "{text[:100]}": invalid syntax', details={})
        if len(text) > 20 or not -_LIMIT <= int(text) < _LIMIT:
            raise BadRequest(f'strconv.ParseInt: parsing "{text[:100]}": value out of range', details={})
        return int(text)

    @property
    def options(self) -> str:
        """The kind of the request's options, as errors about them name it."""
        return _OPTIONS.get(self.method, "ListOptions")

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be stored."""
        value = self.query.get("dryRun", "")
        if value not in {"", "All"}:
            told = f'Unsupported value: []string{{"{value}"}}: supported values: "All"'
            raise problems.bad_option(self.options, problems.FieldError("FieldValueNotSupported", "dryRun", told))
        return value == "All"


def parse_query(text: str) -> tuple[tuple[str, str], ...]:
    """The query's pairs in order."""
    return tuple(parse_qsl(text, keep_blank_values=True)) if text else ()

"""The Flask application: every request goes through one dispatcher, which finds the kind and the verb's handler."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import flask
import msgspec

from labctl.kube.errors import ApiError, ServerError, TooLarge, Unavailable
from labctl.kube.resources import METRICS
from labctl.runtime.errors import LabError
from master.apiserver import (
    advice,
    delete,
    discovery,
    health,
    patch,
    problems,
    read,
    reviews,
    streams,
    subresources,
    watch,
    write,
)
from master.apiserver.authn import Authenticator
from master.apiserver.connection import STREAMS, connected
from master.apiserver.context import Context
from master.apiserver.impersonation import impersonated
from master.apiserver.limits import REQUEST_S, long_running, within
from master.apiserver.negotiate import PLAIN, Form, negotiate, negotiated_error, wants_aggregated
from master.apiserver.openapi import OpenApi
from master.apiserver.published import Published
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply, document_reply, object_reply
from master.apiserver.request import Request, User, parse_path, parse_query
from master.apiserver.response import respond
from master.apiserver.tokens import JWKS_PATH, OPENID_PATH
from master.apiserver.usage import Usage
from master.apiserver.wsgi import App
from master.store.protocol import Refused, StoreError

_log = logging.getLogger(__name__)

_MAX_BODY_BYTES = 3 * 1024 * 1024
_STALL_S = 30  # a client that takes nothing of its answer for so long is given up
_MAX_AUDIT_ID = 64
_OPEN = frozenset({"/healthz", "/livez", "/readyz"})  # not asked of the authorizer, which may be what is not well
_SLOW_S = 2.0  # a request that took longer is worth a line in the log


class Server:
    """Answers requests. One instance serves every greenlet of the process."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.metrics = context.metrics
        self._authenticator = Authenticator(context.tokens, context.clock)
        self._openapi = OpenApi(context.registry)
        self._usage = Usage(context)
        self._discovery: dict[str, Published] = {}  # the aggregated documents of /api and /apis

    def answer(self, environ: dict[str, Any], body: Callable[[], bytes]) -> tuple[Reply, list[str]]:
        """The reply to one request and its warnings; never raises."""
        warnings: list[str] = []
        began_s = self.context.clock.monotonic_s()
        request: Request | None = None
        accept = environ.get("HTTP_ACCEPT", "")
        try:
            user = self._authenticator.user(environ.get("gunicorn.socket"), environ.get("HTTP_AUTHORIZATION", ""))
            user = impersonated(user, environ, self.context.authorizer)
            request = _request(environ, user, body)
            asked = request
            reply = self.metrics.in_flight.run(asked, lambda: self._dispatch(asked, environ, warnings))
        except ApiError as error:
            reply = _failure(error, accept)
        except StoreError as error:
            how = f"; to mend it: {error.hint}" if isinstance(error, Refused) and error.hint else ""
            reply = _failure(Unavailable(f"etcdserver: {error}{how}", details={}), accept)
        except (LabError, RecursionError) as error:
            _log.exception("%s %s failed", environ.get("REQUEST_METHOD"), environ.get("PATH_INFO"))
            reply = _failure(ServerError(f"Internal error occurred: {error}", details={}), accept)
        except Exception as error:  # the server must answer whatever happens
            _log.exception("%s %s failed", environ.get("REQUEST_METHOD"), environ.get("PATH_INFO"))
            reply = _failure(ServerError(f"Internal error occurred: {error}", details={}), accept)
        self._note(environ, request, reply, self.context.clock.monotonic_s() - began_s)
        return reply, warnings

    def _note(self, environ: dict[str, Any], request: Request | None, reply: Reply, took_s: float) -> None:
        """Count the request; say in the log what went wrong, or slowly, and with -v everything."""
        target = request.target if request is not None else None
        kind = self.context.registry.find(target.group, target.version, target.plural) if target else None
        self.metrics.request(request, kind, reply.code, took_s)
        stream = not isinstance(reply.body, bytes)
        self.context.audit.note(environ, request, reply.code, streams=stream, took_s=took_s)
        if stream and request is not None and request.verb != "watch" and long_running(request):
            STREAMS.add(environ.get("gunicorn.socket"))
        slow = took_s >= _SLOW_S and not stream
        level = logging.INFO if slow or reply.code >= 500 else logging.DEBUG
        if _log.isEnabledFor(level):
            verb = request.verb if request is not None else environ.get("REQUEST_METHOD", "")
            user = request.user.name if request is not None else ""
            told = {"verb": verb, "path": environ.get("PATH_INFO"), "code": reply.code, "ms": round(took_s * 1000, 1)}
            told |= {"user": user, "audit-ID": environ.get("labctl.audit_id", "")}
            _log.log(level, "slow request" if slow else "request", extra={"kv": told})

    def _dispatch(self, request: Request, environ: dict[str, Any], warnings: list[str]) -> Reply:
        if request.target is not None and not self.context.startup.serves(request.user):
            raise Unavailable("the API server is starting, try again later", details={"retryAfterSeconds": 1})
        if request.path not in _OPEN:
            self.context.authorizer.authorize(request)
        accept = environ.get("HTTP_ACCEPT", "")
        if request.target is None or not request.target.is_resource:
            return self._path(request, environ)
        target = request.target
        kind = self.context.registry.find(target.group, target.version, target.plural)
        if kind is None:
            raise problems.no_such_resource()
        form = PLAIN
        if target.subresource not in streams.FORMLESS:
            form = negotiate(accept, protobuf=bool(kind.schema_name), stream=request.verb == "watch")
        if form.transform == "Table" and (include := request.query.get("includeObject")):
            form = msgspec.structs.replace(form, include=include)
        reply = self._resource(request, kind, form, warnings)
        if told := advice.of_kind(kind.resource):
            warnings.append(told)
        return reply

    def _resource(self, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
        context, target, verb = self.context, request.target, request.verb
        assert target is not None
        if target.subresource:
            return subresources.handle(context, request, kind, form, warnings)
        _must_serve(kind, target.namespace, verb, named=bool(target.name))
        if kind.resource in METRICS:
            return self._usage.handle(request, kind, form)
        if kind.virtual:
            return reviews.handle(context, request, kind, form, warnings)
        if verb == "get":
            return read.get(context, request, kind, form)
        if verb == "list":
            return read.list_objects(context, request, kind, form)
        if verb == "watch":
            told = partial(self.metrics.sent, kind.resource)
            return self.metrics.watching(kind.resource, watch.watch(context, request, kind, form, told))
        if verb == "create":
            return object_reply(write.create(context, request, kind, warnings), kind, form, 201)
        if verb == "update":
            raw, code = write.update(context, request, kind, warnings)
            return object_reply(raw, kind, form, code)
        if verb == "patch":
            raw, code = patch.patch(context, request, kind, warnings)
            return object_reply(raw, kind, form, code)
        if verb == "delete":
            return delete.delete(context, request, kind, form)
        return delete.delete_collection(context, request, kind, form)

    def _path(self, request: Request, environ: dict[str, Any]) -> Reply:
        """Everything that is no resource: discovery, OpenAPI, health, version, metrics."""
        if request.method not in {"GET", "HEAD"}:
            raise problems.method_not_allowed()
        path, registry = request.path.rstrip("/") or "/", self.context.registry
        accept = environ.get("HTTP_ACCEPT", "")
        if path in {"/api", "/apis"}:
            if wants_aggregated(accept):
                if path not in self._discovery:
                    found = discovery.aggregated(registry, core=path == "/api")
                    self._discovery[path] = Published(msgspec.json.encode(found))
                return self._discovery[path].reply(environ, discovery.AGGREGATED)
            if path == "/api":
                config = self.context.config
                versions = discovery.core_versions(f"{config.advertise_address}:{config.port}")
                return document_reply(versions, negotiate(accept))
            return document_reply(discovery.group_list(registry), negotiate(accept))
        if request.target is not None:
            listed = discovery.resource_list(registry, request.target.group, request.target.version)
            if listed is None:
                raise problems.no_such_resource()
            return document_reply(listed, negotiate(accept))
        return self._other_path(path, request, environ)

    def _other_path(self, path: str, request: Request, environ: dict[str, Any]) -> Reply:
        parts, accept = path.strip("/").split("/"), environ.get("HTTP_ACCEPT", "")
        if parts[0] in {"healthz", "livez", "readyz"}:
            excluded = [value for name, value in parse_query(environ.get("QUERY_STRING", "")) if name == "exclude"]
            verbose = "verbose" in request.query
            return health.check(self.context, parts[0], "/".join(parts[1:]), verbose=verbose, exclude=excluded)
        if path == "/version":
            return document_reply(health.VERSION, PLAIN)
        if path == "/metrics":
            return Reply(
                self.metrics.render(self.context.storage.counts()),
                content_type="text/plain; version=0.0.4; charset=utf-8",
            )
        if path == OPENID_PATH:
            return document_reply(self.context.tokens.discovery(), PLAIN)
        if path == JWKS_PATH:
            keys = msgspec.json.encode(self.context.tokens.jwks())
            return Reply(keys, content_type="application/jwk-set+json")
        if parts[0] == "openapi" and (found := self._openapi.answer(parts[1:], request, self.context.clock.now())):
            return found
        groups = self.context.registry.groups()
        if parts[0] == "apis" and len(parts) == 2 and parts[1] in groups:
            about = {"kind": "APIGroup", "apiVersion": "v1"} | discovery.group(parts[1], groups[parts[1]])
            return document_reply(about, negotiate(accept))
        if path == "/":
            return document_reply({"paths": self._paths()}, PLAIN)
        raise problems.no_such_resource()

    def _paths(self) -> list[str]:
        groups = self.context.registry.groups()
        found = {
            "/api",
            "/api/v1",
            "/apis",
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/readyz",
            "/version",
        }
        for group, versions in groups.items():
            if group:
                found |= {f"/apis/{group}", *(f"/apis/{group}/{version}" for version in versions)}
        return sorted(found)


def _request(environ: dict[str, Any], user: User, body: Callable[[], bytes]) -> Request:
    pairs = parse_query(environ.get("QUERY_STRING", ""))
    path = environ.get("PATH_INFO", "/")
    method = environ["REQUEST_METHOD"]
    target = parse_path(path)
    headers = {
        "content-type": environ.get("CONTENT_TYPE", ""),
        "authorization": environ.get("HTTP_AUTHORIZATION", ""),
        "user-agent": environ.get("HTTP_USER_AGENT", ""),
    }
    return Request(
        method=method,
        path=path,
        query=dict(reversed(pairs)),  # the first of repeated options counts
        headers=headers,
        user=user,
        target=target,
        body=b"" if method in {"GET", "HEAD"} or (target and target.subresource in streams.FORMLESS) else body(),
        environ=environ,
        alive=partial(connected, environ.get("gunicorn.socket")),
    )


def _must_serve(kind: Kind, namespace: str, verb: str, *, named: bool) -> None:
    """The kind has the verb, at this scope."""
    resource = kind.resource
    if verb not in resource.verbs or (verb in {"update", "patch"} and not named) or (verb == "create" and named):
        raise problems.method_not_allowed()
    if resource.namespaced:
        if not namespace and verb not in {"list", "watch"}:
            raise problems.method_not_allowed() if not named else problems.no_such_resource()
    elif namespace and resource.plural != "namespaces":
        raise problems.no_such_resource()


def _failure(error: ApiError, accept: str = "") -> Reply:
    headers, form = dict(error.headers), negotiated_error(accept)
    if after_s := error.details.get("retryAfterSeconds"):  # without it clients take a 429 as the answer: an eviction's
        headers.setdefault("Retry-After", str(after_s))
    reply = document_reply(error.to_status(), form, error.code)
    reply.headers |= headers
    return reply


def _audit_id(given: str) -> str:
    """The id that the log, the audit log and the answer share: the client's `Audit-ID`, or a new one."""
    return given if given and len(given) <= _MAX_AUDIT_ID and given.isascii() and given.isprintable() else str(uuid4())


def create_app(server: Server) -> flask.Flask:
    """The WSGI application."""

    def every() -> flask.Response:
        incoming = flask.request

        def body() -> bytes:
            length = incoming.content_length
            if length is not None and length > _MAX_BODY_BYTES:
                raise TooLarge(f"Request entity too large: limit is {_MAX_BODY_BYTES}", details={})
            data = within(REQUEST_S, lambda: incoming.stream.read(_MAX_BODY_BYTES + 1))
            if len(data) > _MAX_BODY_BYTES:
                raise TooLarge(f"Request entity too large: limit is {_MAX_BODY_BYTES}", details={})
            return data

        environ = incoming.environ
        audit_id = environ["labctl.audit_id"] = _audit_id(environ.get("HTTP_AUDIT_ID", ""))
        reply, warnings = server.answer(environ, body)
        if reply.code != 101:
            environ["gunicorn.socket"].settimeout(_STALL_S)
        return respond(reply, warnings, request_id=audit_id)

    return App(every)

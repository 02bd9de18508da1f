"""The API client of every component: pooled TLS connections, deadlines on all of them, failover between servers.

It returns plain documents, or decodes into frozen views where a type is given. Errors are `ApiError`s.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec
import urllib3

from labctl.kube.errors import Document, Expired, NotFound, Unavailable, from_status
from labctl.kube.kubeconfig import Endpoint, load
from labctl.kube.resources import Resource
from labctl.kube.servers import Servers

T = TypeVar("T")

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

_LIST_S = 30.0
# The server is told how long we wait, and has this part of it: an answer that says "not in time" keeps the connection,
# and nobody works on for a client that left. To a slow server both are worth more than the answer itself.
_SERVERS_PART = 0.8
_READ_BYTES = 1 << 16
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Asked(NamedTuple):
    """A request, its body encoded."""

    method: str
    path: str
    query: Mapping[str, str]
    data: bytes | None
    content_type: str
    accept: str

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


class WatchEvent(msgspec.Struct, frozen=True):
    """One event of a watch: ADDED, MODIFIED, DELETED or BOOKMARK; `object` is still encoded."""

    type: str
    object: msgspec.Raw


class ListMeta(msgspec.Struct, frozen=True, rename={"resource_version": "resourceVersion", "next_token": "continue"}):
    """A list's metadata."""

    resource_version: str = ""
    next_token: str = ""


class RawList(msgspec.Struct, frozen=True):
    """A list whose items are still encoded."""

    metadata: ListMeta
    items: list[msgspec.Raw] = []


class Client:
    """Talks to one cluster as one identity. Safe to share between threads."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout_s: float = 10.0,
        user_agent: str = "labctl",
        pool: int = 16,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """`guard` is called before every write and may refuse it by raising: a leader that lost its lease."""
        self._servers = Servers(endpoint, pool=pool)
        self._guard = guard
        self._timeout_s = timeout_s
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}
        if endpoint.token:
            self._headers["Authorization"] = f"Bearer {endpoint.token}"

    @classmethod
    def from_kubeconfig(cls, path: str, **options: Any) -> Client:
        """A client for the current context of a kubeconfig file."""
        return cls(load(path), **options)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        timeout_s: float | None = None,
        accept: str = "application/json",
    ) -> bytes:
        """One request; the answer's body. Raises the ApiError of its Status, Unavailable where nobody answers."""
        data = None if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        if method != "GET":
            self._guard()
        return self._exchange(Asked(method, path, query or {}, data, content_type, accept), timeout_s)

    def _exchange(self, asked: Asked, timeout_s: float | None) -> bytes:
        """One request over the network; a simulation has a network of its own."""
        headers = self._headers | {"Accept": asked.accept}
        if asked.data is not None:
            headers["Content-Type"] = asked.content_type
        read_s = timeout_s or self._timeout_s
        target = f"{asked.path}?{urlencode({**asked.query, 'timeout': f'{read_s * _SERVERS_PART:g}s'})}"
        return bytes(self._servers.ask(asked.method, target, asked.data, headers, read_s=read_s).data)

    def get(self, resource: Resource, name: str, namespace: str = "") -> Document:
        """The object; NotFound where there is none."""
        return _document(self.request("GET", resource.path(namespace, name)))

    def find(self, resource: Resource, view: type[T], name: str, namespace: str = "") -> T | None:
        """The object as a `view`; None where there is none."""
        try:
            return msgspec.json.decode(self.request("GET", resource.path(namespace, name)), type=view)
        except NotFound:
            return None

    def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        limit: int = 0,
        continue_token: str = "",
        metadata_only: bool = False,
    ) -> RawList:
        """Matching objects, still encoded, with the revision they were read at.

        With `limit`, at most so many; `metadata.next_token` then asks for the rest. `metadata_only` lets the server
        leave out the rest of each object.
        """
        query = _selectors(label_selector, field_selector)
        for name, value in (("resourceVersion", resource_version), ("continue", continue_token)):
            if value:
                query[name] = value
        if limit:
            query["limit"] = str(limit)
        accept = f"{_METADATA_LIST},application/json" if metadata_only else "application/json"
        body = self.request("GET", resource.path(namespace), query=query, timeout_s=_LIST_S, accept=accept)
        return msgspec.json.decode(body, type=RawList)

    def create(self, resource: Resource, body: object, namespace: str = "") -> Document:
        """Create; AlreadyExists where the name is taken."""
        return _document(self.request("POST", resource.path(namespace), body=body))

    def update(
        self, resource: Resource, name: str, body: object, namespace: str = "", *, subresource: str = ""
    ) -> Document:
        """Replace the whole object; only for documents read in full."""
        return _document(self.request("PUT", resource.path(namespace, name, subresource), body=body))

    def patch(
        self,
        resource: Resource,
        name: str,
        body: object,
        namespace: str = "",
        *,
        subresource: str = "",
        kind: str = MERGE_PATCH,
        timeout_s: float | None = None,
    ) -> Document:
        """Patch; put `metadata.resourceVersion` into a merge patch to make it conditional (Conflict otherwise)."""
        path = resource.path(namespace, name, subresource)
        return _document(self.request("PATCH", path, body=body, content_type=kind, timeout_s=timeout_s))

    def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        grace_s: int | None = None,
        propagation: str = "",
    ) -> Document:
        """Delete, on condition of `uid` and `resource_version` where given; NotFound where it is gone.

        The answer is the object while it still stands (it is `deletionTimestamp`ed), else a Status or its last state.
        """
        options: Document = {"kind": "DeleteOptions", "apiVersion": "v1"}
        preconditions = {key: value for key, value in (("uid", uid), ("resourceVersion", resource_version)) if value}
        if preconditions:
            options["preconditions"] = preconditions
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if propagation:
            options["propagationPolicy"] = propagation
        return _document(self.request("DELETE", resource.path(namespace, name), body=options))

    def post(self, resource: Resource, name: str, subresource: str, body: object, namespace: str = "") -> Document:
        """POST to a subresource: binding, eviction, token."""
        return _document(self.request("POST", resource.path(namespace, name, subresource), body=body))

    @contextlib.contextmanager
    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: int = 300,
        metadata_only: bool = False,
    ) -> Iterator[Iterator[WatchEvent]]:
        """Events after `resource_version`, bookmarks among them, until the server ends the watch after `timeout_s`.

        Leaving the block closes the connection. Expired: list again. A dead peer is noticed by TCP keepalive.
        """
        query = _selectors(label_selector, field_selector) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_s),
        }
        accept = f"{_METADATA},application/json" if metadata_only else "application/json"
        target = f"{resource.path(namespace)}?{urlencode(query)}"
        headers = self._headers | {"Accept": accept}
        answer = self._servers.ask("GET", target, None, headers, read_s=timeout_s + 10.0, stream=True)
        try:
            yield _events(answer)
        finally:
            answer.close()


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    pairs = (("labelSelector", label_selector), ("fieldSelector", field_selector))
    return {key: value for key, value in pairs if value}


def _document(body: bytes) -> Document:
    found = msgspec.json.decode(body)
    assert isinstance(found, dict)
    return found


def _events(answer: urllib3.BaseHTTPResponse) -> Iterator[WatchEvent]:
    """Decode line by line as bytes arrive: `read1` returns what is there and never waits for a buffer to fill."""
    pending: list[bytes] = []  # pieces of a line that is not complete yet
    try:
        while chunk := answer.read1(_READ_BYTES):
            first, *rest = chunk.split(b"\n")
            pending.append(first)
            for piece in rest:
                line = b"".join(pending)
                pending = [piece]
                if line.strip():
                    yield _event(line)
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise Unavailable(f"the watch broke: {error}") from error


def _event(line: bytes) -> WatchEvent:
    event = msgspec.json.decode(line, type=WatchEvent)
    if event.type == "ERROR":
        status: dict[str, Any] = msgspec.json.decode(event.object)
        if status.get("code") == Expired.code:
            raise Expired(str(status.get("message", "too old resource version")))
        raise from_status(int(status.get("code") or 500), status)
    return event

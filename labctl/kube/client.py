"""The API client of every component: pooled TLS connections, deadlines on all of them, failover between servers.

It returns plain documents, or decodes into frozen views where a type is given. Errors are `ApiError`s.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
import urllib3

from labctl.kube.corked import CorkedPools
from labctl.kube.errors import ApiError, Document, Expired, ServerTimeout, Unavailable, from_status
from labctl.kube.kubeconfig import Endpoint, load
from labctl.kube.resources import Resource
from labctl.runtime.sockets import keepalive
from labctl.runtime.tls import isolated

T = TypeVar("T")

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

# A server that is gone is told by the kernel (TCP_SYNCNT below: one repeated SYN, 3 s); one that is there may be busy:
# a TLS handshake that is given up is work for nothing, and asked for again it keeps a slow server slow.
_HANDSHAKE_S = (3.0, 8.0)  # at least, at most; else as long as the answer may take
_LIST_S = 30.0
# The server is told how long we wait, and has this part of it: an answer that says "not in time" keeps the connection,
# and nobody works on for a client that left. To a slow server both are worth more than the answer itself.
_SERVERS_PART = 0.8
_READ_BYTES = 1 << 16
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
# A peer that vanished is noticed after 3 + 3 * 1 s of silence, so no watch hangs on a dead connection.
_SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1),
    *keepalive(idle_s=3, every_s=1, probes=3),
]


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
        self._servers = list(endpoint.servers)
        self._doubted = ""  # the server that was silent, or cut us off, when it was last asked
        self._guard = guard
        self._timeout_s = timeout_s
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}
        if endpoint.token:
            self._headers["Authorization"] = f"Bearer {endpoint.token}"
        self._http = CorkedPools(
            num_pools=max(10, len(self._servers)),
            maxsize=pool,
            ssl_context=_context(endpoint),
            socket_options=_SOCKET_OPTIONS,
            retries=False,
        )

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
        headers = self._headers | {"Accept": accept} | ({"Content-Type": content_type} if data is not None else {})
        read_s = timeout_s or self._timeout_s
        target = f"{path}?{urlencode({**(query or {}), 'timeout': f'{read_s * _SERVERS_PART:g}s'})}"
        answer = self._open(method, target, data, headers, read_s=read_s)
        return bytes(answer.data)

    def get(self, resource: Resource, name: str, namespace: str = "") -> Document:
        """The object; NotFound where there is none."""
        return _document(self.request("GET", resource.path(namespace, name)))

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
        answer = self._open(
            "GET", target, None, self._headers | {"Accept": accept}, read_s=timeout_s + 10.0, stream=True
        )
        try:
            yield _events(answer)
        finally:
            answer.close()

    def _open(
        self,
        method: str,
        target: str,
        data: bytes | None,
        headers: Mapping[str, str],
        *,
        read_s: float,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        if method != "GET":
            self._guard()
        least_s, most_s = _HANDSHAKE_S
        timeout = urllib3.Timeout(connect=min(most_s, max(least_s, read_s)), read=read_s)
        failure: Exception | None = None
        servers = list(self._servers)
        for number, server in enumerate(servers):  # it may grow under way
            try:
                pool, prefix = self._http.of(server)
                answer = pool.urlopen(
                    method,
                    prefix + target,
                    body=data,
                    headers=headers,
                    timeout=timeout,
                    redirect=False,
                    preload_content=not stream,
                )
            except urllib3.exceptions.HTTPError as error:
                failure = error
                if _never_sent(error) or self._doubted == server:
                    self._rotate(server)
                self._doubted = server
                if method != "GET" and not _never_sent(error):
                    break  # the request may have taken effect: the caller decides
                if number == 0 and _cut(error):
                    servers.insert(1, server)  # an address that moves is another machine's by now
                continue
            if answer.status < 400:
                self._doubted = ""
                return answer
            failure = error_of(answer)
            if not isinstance(failure, (Unavailable, ServerTimeout)):
                self._doubted = ""
                raise failure
            if isinstance(failure, Unavailable) or self._doubted == server:
                self._rotate(server)  # it is up and cannot serve, e.g. without etcd: another may
            self._doubted = server if isinstance(failure, ServerTimeout) else ""
            if method != "GET":
                raise failure
        if isinstance(failure, ApiError):
            raise failure
        path = target.partition("?")[0]
        words = str(failure).rpartition(">: ")[2]  # without the connection's address in memory
        raise Unavailable(f"{method} {path}: the API server does not answer: {words}") from failure

    def _rotate(self, server: str) -> None:
        """Try the others first next time. Lists are replaced, never changed, so threads need no lock here."""
        servers = self._servers
        if servers[0] == server:
            self._servers = [*servers[1:], server]


def _context(endpoint: Endpoint) -> ssl.SSLContext | None:
    """TLS that trusts the cluster's own authority; None where no server speaks TLS."""
    if not any(server.startswith("https:") for server in endpoint.servers):
        return None
    context = ssl.create_default_context(cadata=endpoint.ca_pem or None)
    if endpoint.cert_pem:
        with tempfile.NamedTemporaryFile("w", prefix="labctl-", suffix=".pem") as file:  # TLS reads from files only
            file.write(f"{endpoint.cert_pem}\n{endpoint.key_pem}\n")
            file.flush()
            context.load_cert_chain(file.name)
    return isolated(context)


def _never_sent(error: Exception) -> bool:
    return isinstance(error, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))


def _cut(error: Exception) -> bool:
    """Whether a connection that stood was broken, as all are whose peer has died: a new one may work."""
    return isinstance(error, urllib3.exceptions.ProtocolError)


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    pairs = (("labelSelector", label_selector), ("fieldSelector", field_selector))
    return {key: value for key, value in pairs if value}


def _document(body: bytes) -> Document:
    found = msgspec.json.decode(body)
    assert isinstance(found, dict)
    return found


def error_of(answer: urllib3.BaseHTTPResponse) -> ApiError:
    """The error that an answer with a status of 400 or more stands for."""
    try:
        status = msgspec.json.decode(answer.data)
    except (msgspec.DecodeError, urllib3.exceptions.HTTPError):
        status = {}
    finally:
        answer.release_conn()
    return from_status(answer.status, status if isinstance(status, dict) else {})


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

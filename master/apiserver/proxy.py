"""nodes/proxy, pods/proxy, services/proxy: HTTP requests handed on as they come, answers handed back as they come.

Sources: apimachinery `util/proxy/{upgradeaware,transport}.go`, `util/net/port_split.go`; k/k
`pkg/registry/core/{node,pod,service}`.
"""

from __future__ import annotations

import http.client
import ipaddress
import secrets
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from labctl.kube.errors import BadRequest, Unavailable
from labctl.kube.resources import builtin
from labctl.runtime.tls import isolated
from master.apiserver import kubelet, problems
from master.apiserver.context import Context
from master.apiserver.joined import Place, upgrade, wants_upgrade
from master.apiserver.negotiate import Form
from master.apiserver.registry import Kind
from master.apiserver.reply import Reply
from master.apiserver.request import Request

Document = dict[str, Any]

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_BLOCK = 64 * 1024
_ANSWER_S = 4 * 3600.0  # between two pieces of an answer
_HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"}
_HOP |= {"te", "trailer", "transfer-encoding", "upgrade"}
_OURS = frozenset({"host", "authorization", "content-length", "expect"})
_CORS = "access-control-"


def proxy(context: Context, request: Request, kind: Kind, form: Form, warnings: list[str]) -> Reply:
    """Any method; also an upgrade."""
    del form, warnings
    if request.method not in _METHODS:
        raise problems.method_not_allowed()
    assert request.target is not None
    place = _LOCATE[request.target.plural](context, request, kind)
    path, query = _path(request)
    if not path and request.method in {"GET", "HEAD"}:
        return Reply(b"", 301, "text/plain", {"Location": f"{request.path}/{'?' if query else ''}{query}"})
    path = f"{path or '/'}{'?' if query else ''}{query}"
    if wants_upgrade(request.environ):
        return upgrade(request.environ, place, path)
    return _pass_on(request, place, path)


def split(text: str, request: Request) -> tuple[str, str, str]:
    """Scheme, name and port of `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`; BadRequest for anything else."""
    assert request.target is not None
    parts = text.split(":")
    scheme, name, port = ("", parts[0], "") if len(parts) == 1 else ("", *parts) if len(parts) == 2 else ("", "", "")
    if len(parts) == 3:
        scheme, name, port = parts
    if not name or scheme not in {"", "http", "https"}:
        raise BadRequest(f'invalid {request.target.plural.removesuffix("s")} request "{text}"', details={})
    return scheme, name, port


def _path(request: Request) -> tuple[str, str]:
    """What follows `/proxy`, as the client wrote it, and the query."""
    parts = urlsplit(str(request.environ.get("RAW_URI") or request.path))
    _, _, rest = parts.path.partition("/proxy")
    return rest, str(request.environ.get("QUERY_STRING", ""))


def _to_node(context: Context, request: Request, kind: Kind) -> Place:
    assert request.target is not None
    scheme, name, port = split(request.target.name, request)
    host, listens = kubelet.address(context.storage.get(kind, "", name).document)
    if port in {"", str(listens)}:
        return Place(host, listens, kubelet.tls(context.config))
    return Place(_proxyable(host), _number(port, request), _unverified() if scheme == "https" else None)


def _to_pod(context: Context, request: Request, kind: Kind) -> Place:
    assert request.target is not None
    scheme, name, port = split(request.target.name, request)
    pod = context.storage.get(kind, request.target.namespace, name).document
    if not port:
        containers = (pod.get("spec") or {}).get("containers") or ()
        ports = [entry["containerPort"] for one in containers for entry in (one.get("ports") or ())[:1]]
        port = str(ports[0]) if ports else ("443" if scheme == "https" else "80")
    addresses = (pod.get("status") or {}).get("podIPs") or ()
    host = _proxyable(str(addresses[0]["ip"]) if addresses else "")
    return Place(host, _number(port, request), _unverified() if scheme == "https" else None)


def _to_service(context: Context, request: Request, kind: Kind) -> Place:
    """One of the ready endpoints, by chance."""
    assert request.target is not None
    namespace = request.target.namespace
    scheme, name, wanted = split(request.target.name, request)
    service = context.storage.get(kind, namespace, name).document
    ports = (service.get("spec") or {}).get("ports") or []
    if wanted:
        chosen = [entry for entry in ports if wanted in {entry.get("name", ""), str(entry["port"])}]
    else:
        chosen = ports if len(ports) == 1 else [entry for entry in ports if not entry.get("name")]
    if not chosen:
        raise Unavailable(f'no service port "{wanted}" found for service "{name}"', details={})
    slices = context.registry.of(builtin("endpointslices", "discovery.k8s.io"))
    found = []
    for entry in context.storage.current(slices).list(slices.scope(namespace))[0]:
        document = entry.document
        if (document["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name:
            numbers = [p["port"] for p in document.get("ports") or () if p.get("name", "") == chosen[0].get("name", "")]
            ready = (
                e for e in document.get("endpoints") or () if (e.get("conditions") or {}).get("ready") is not False
            )
            found += [(address, number) for e in ready for address in e["addresses"] for number in numbers[:1]]
    if not found:
        raise Unavailable(f'no endpoints available for service "{name}"', details={})
    host, port = secrets.choice(found)
    return Place(_proxyable(host), port, _unverified() if scheme == "https" else None)


_LOCATE = {"nodes": _to_node, "pods": _to_pod, "services": _to_service}


def _proxyable(host: str) -> str:
    """Only an address that others may have, too: never one that means this machine to us."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if (
        address is None
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
    ):
        raise BadRequest("address not allowed", details={})
    return host


def _number(port: str, request: Request) -> int:
    assert request.target is not None
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadRequest(f'invalid port "{port}" of {request.target.plural} "{request.target.name}"', details={})
    return int(port)


def _unverified() -> ssl.SSLContext:
    """As upstream's proxy transport: what a pod serves is not signed by anyone we know."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return isolated(context)


def _pass_on(request: Request, place: Place, path: str) -> Reply:
    connection = _connection(place)
    try:
        connection.connect()
        connection.sock.settimeout(_ANSWER_S)
        _send(connection, request, place, path)
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise Unavailable(f"error trying to reach service: {_why(error, place)}", details={}) from error
    headers = {
        name: value
        for name, value in answer.getheaders()
        if name.lower() not in _HOP and not name.lower().startswith(_CORS) and name.lower() != "content-type"
    }
    return Reply(_pieces(connection, answer), answer.status, answer.getheader("Content-Type", ""), headers)


def _why(error: Exception, place: Place) -> str:
    """As Go tells it."""
    where = f"dial tcp {place.host}:{place.port}"
    if isinstance(error, TimeoutError):
        return f"{where}: i/o timeout"
    if isinstance(error, http.client.RemoteDisconnected):
        return "EOF"
    return f"{where}: connect: {(getattr(error, 'strerror', None) or str(error)).lower()}"


def _connection(place: Place) -> http.client.HTTPConnection:
    if place.tls is None:
        return http.client.HTTPConnection(place.host, place.port, timeout=kubelet.CONNECT_S)
    return http.client.HTTPSConnection(place.host, place.port, timeout=kubelet.CONNECT_S, context=place.tls)


def _send(connection: http.client.HTTPConnection, request: Request, place: Place, path: str) -> None:
    environ = request.environ
    connection.putrequest(request.method, path, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", f"{place.host}:{place.port}")
    for key, value in environ.items():
        name = key.removeprefix("HTTP_").replace("_", "-").lower()
        if key.startswith("HTTP_") and name not in _HOP and name not in _OURS and not name.startswith("x-forwarded-"):
            connection.putheader(name.title(), str(value))
    before = environ.get("HTTP_X_FORWARDED_FOR")
    client = str(environ.get("REMOTE_ADDR", ""))
    connection.putheader("X-Forwarded-For", f"{before}, {client}" if before else client)
    connection.putheader("X-Forwarded-Uri", request.path)
    connection.putheader("X-Forwarded-Host", str(environ.get("HTTP_HOST", "")))
    connection.putheader("X-Forwarded-Proto", "https")
    if environ.get("CONTENT_TYPE"):
        connection.putheader("Content-Type", str(environ["CONTENT_TYPE"]))
    size = environ.get("CONTENT_LENGTH")
    chunked = "chunked" in str(environ.get("HTTP_TRANSFER_ENCODING", "")).lower()
    if size:
        connection.putheader("Content-Length", str(size))
    elif chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    if size or chunked:
        source = environ["wsgi.input"]
        while data := source.read(_BLOCK):
            connection.send(b"%x\r\n%b\r\n" % (len(data), data) if chunked and not size else data)
        if chunked and not size:
            connection.send(b"0\r\n\r\n")


def _pieces(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while data := answer.read1(_BLOCK):
            yield data
    finally:
        answer.close()
        connection.close()

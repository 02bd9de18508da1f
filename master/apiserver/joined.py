"""A client's connection joined to another, once both have left HTTP: bytes go both ways until either ends.

Source: apimachinery `util/proxy/upgradeaware.go`.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gevent

from labctl.kube.errors import ServerError
from labctl.runtime.sockets import keep_alive
from master.apiserver.kubelet import CONNECT_S, READ_S, said
from master.apiserver.reply import Reply

_BLOCK = 64 * 1024
_HEAD_BYTES = 64 * 1024
_FAREWELL_S = 2.0  # given to one side to take its last bytes when the other has ended
_PASSED = (
    *("connection", "upgrade", "origin", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol"),
    *("sec-websocket-extensions", "x-stream-protocol-version"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect; with `tls`, under TLS."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


def wants_upgrade(environ: Mapping[str, Any]) -> bool:
    """Whether the client asks to leave HTTP."""
    words = str(environ.get("HTTP_CONNECTION", "")).lower().split(",")
    return "upgrade" in (word.strip() for word in words) and bool(environ.get("HTTP_UPGRADE"))


def upgrade(environ: Mapping[str, Any], place: Place, path: str) -> Reply:
    """Ask `place` for the upgrade that the client asks us for; the reply joins the two once it is sent.

    ServerError, in upstream's words, where the other side cannot be reached or refuses.
    """
    backend = dial(place)
    try:
        backend.sendall(_request_head(environ, place, path))
        head, rest = _answer(backend)
        if not head.startswith(b"HTTP/1.1 101"):
            raise _refused(backend, head, rest)
        backend.settimeout(None)
    except OSError as error:
        backend.close()
        raise _failure(f"error dialing backend: {error}") from error
    except ServerError:
        backend.close()
        raise
    client = environ["gunicorn.socket"]
    return Reply(_joined(client, backend, head, rest), code=101)


def dial(place: Place) -> Any:
    """A connection, with our deadline on each step."""
    try:
        plain = socket.create_connection((place.host, place.port), timeout=CONNECT_S)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise _failure(f"error dialing backend: dial tcp {place.host}:{place.port}: connect: {why}") from error
    try:
        keep_alive(plain)
        plain.settimeout(READ_S)
        return plain if place.tls is None else place.tls.wrap_socket(plain, server_hostname=place.host)
    except OSError as error:
        plain.close()
        raise _failure(f"error dialing backend: {error}") from error


def _request_head(environ: Mapping[str, Any], place: Place, path: str) -> bytes:
    lines = [f"{environ['REQUEST_METHOD']} {path} HTTP/1.1", f"Host: {place.host}:{place.port}"]
    for name in _PASSED:
        value = environ.get(f"HTTP_{name.upper().replace('-', '_')}")
        if value:
            lines.append(f"{name}: {value}")
    if environ["REQUEST_METHOD"] == "POST":
        lines.append("Content-Length: 0")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def _answer(backend: Any) -> tuple[bytes, bytes]:
    """The head of the answer, and what came after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = backend.recv(_BLOCK)
        if not more or len(data) > _HEAD_BYTES:
            raise ConnectionResetError(errno.ECONNRESET, "EOF")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _refused(backend: Any, head: bytes, rest: bytes) -> ServerError:
    """The error that an answer other than 101 stands for; it reads the body to its end, within bounds."""
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    size = min(int(lengths[0]), _HEAD_BYTES) if lengths and lengths[0].strip().isdigit() else 0
    while len(rest) < size and (more := backend.recv(_BLOCK)):
        rest += more
    return _failure(f"unable to upgrade connection: {said(rest[:size] if size else rest)}")


def _failure(why: str) -> ServerError:
    return ServerError(f"Internal error occurred: {why}", details={"causes": [{"message": why}]})


def _joined(client: Any, backend: Any, head: bytes, rest: bytes) -> Iterator[bytes]:
    """A body that yields nothing: it takes the client's connection, and ends it."""
    try:
        keep_alive(client)
        client.sendall(head + rest)
        _join(client, backend)
    finally:
        backend.close()
    # gunicorn is not to write an answer of its own: this tells it that the connection is no more.
    raise ConnectionResetError(errno.ECONNRESET, "the connection was a stream, and has ended")
    yield b""


def _join(client: Any, backend: Any) -> None:
    down, up = gevent.spawn(_copy, backend, client), gevent.spawn(_copy, client, backend)
    try:
        gevent.wait([down, up], count=1)
        if down.ready():  # its last bytes are on their way: no reset before the client has them
            _shut(client, socket.SHUT_WR)
            up.join(_FAREWELL_S)
    finally:
        _shut(client, socket.SHUT_RDWR)
        _shut(backend, socket.SHUT_RDWR)
        gevent.killall([down, up], timeout=_FAREWELL_S)


def _copy(source: Any, target: Any) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_BLOCK):
            target.sendall(data)


def _shut(sock: Any, how: int) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(how)

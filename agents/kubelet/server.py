"""The kubelet's HTTPS server on port 10250: logs, pods, figures, exec, attach, port-forward; for the API server alone.

Threads and the standard library carry it: a handful of requests at a time, almost none while idle, and hardly anything
to import at start. Each connection's handshake happens in its own thread, so nobody can hold up the others.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from agents.kubelet.answers import Request, Routes
from agents.kubelet.streaming import STREAMING, Streams, Upgrade
from labctl.kube.errors import ApiError, Forbidden, MethodNotAllowed, ServerError
from labctl.runtime.errors import LabError, UsageError
from labctl.runtime.sockets import keep_alive

_log = logging.getLogger(__name__)

_IDLE_S = 30.0  # a connection without a request
_CONNECTIONS = 128
_POLL_S = 2.0  # how late the end of serving is noticed
_CHUNK_BYTES = 16_384
_ALLOWED_NAME = "kube-apiserver-kubelet-client"


@dataclass(frozen=True, slots=True)
class Tls:
    """Our certificate, and the authority that callers' certificates must come from; paths."""

    cert_file: str
    key_file: str
    client_ca_file: str


class Server:
    """Listens in threads of its own from `start` to `stop`."""

    def __init__(
        self,
        routes: Routes,
        tls: Tls,
        *,
        streams: Streams | None = None,
        address: str = "0.0.0.0",  # noqa: S104
        port: int = 10250,
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file)
            context.load_verify_locations(tls.client_ca_file)
        except OSError as error:
            raise UsageError(f"the kubelet's certificates: {tls.cert_file}, {tls.client_ca_file}: {error}") from error
        handler = type("Handler", (_Handler,), {"routes": routes, "streams": streams, "context": context})
        self._streams = streams
        try:
            self._http = _Http((address, port), handler)
        except OSError as error:
            raise LabError(f"the kubelet cannot listen on {address}:{port}: {error}") from error

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._http.server_address[1])

    def start(self) -> Server:
        """Serve until `stop`."""
        threading.Thread(target=self._http.serve_forever, args=(_POLL_S,), name="server", daemon=True).start()
        return self

    def stop(self) -> None:
        """Take no more connections and end the streams; other open ones end with the process."""
        if self._streams is not None:
            self._streams.stop()
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)  # the bound of this queue
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        _log.debug("connection from %s ended badly", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One connection: handshake, then requests until it is closed or idle."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "labctl-kubelet", ""
    routes: Routes
    streams: Streams | None
    context: ssl.SSLContext

    def setup(self) -> None:
        self.request.settimeout(_IDLE_S)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._pending = bytearray()
        self.request = self.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def do_GET(self) -> None:
        """Answer; errors as a Status, as upstream's API server expects to pass them on."""
        try:
            self._admit()
            parts = urlsplit(self.path)
            path = tuple(unquote(word) for word in parts.path.split("/") if word)
            pairs = tuple(parse_qsl(parts.query, keep_blank_values=True))
            if self.streams is not None and path[:1] and path[0] in STREAMING:
                self._upgrade(self.streams, path, pairs)
                return
            if self.command != "GET":
                raise MethodNotAllowed("the kubelet serves GET alone there")
            kind, body = self.routes.answer(Request(path, dict(pairs), self._gone))
        except LabError as error:
            self._refuse(error if isinstance(error, ApiError) else ServerError(str(error)))
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if isinstance(body, list):
            self._send_whole(b"".join(body))
        else:
            self._stream(body)

    def do_POST(self) -> None:
        """Streams are opened this way, too; nothing is changed here."""
        self.close_connection = True
        self.do_GET()

    do_PUT = do_DELETE = do_PATCH = do_HEAD = do_POST  # noqa: N815

    def _upgrade(self, streams: Streams, path: tuple[str, ...], query: tuple[tuple[str, str], ...]) -> None:
        """Answer 101 and give the connection away."""
        names = {name.lower() for name in self.headers}
        headers = {name: ",".join(self.headers.get_all(name, ())) for name in names}
        accepted = streams.accept(Upgrade(path, query, headers))
        self.close_connection = True
        self.send_response(101)
        for name, value in accepted.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        keep_alive(self.request)
        accepted.run(self.request)

    def log_message(self, format: str, *arguments: Any) -> None:
        """To our own log, at its lowest level."""
        _log.debug(format, *arguments)

    def _admit(self) -> None:
        """The certificate is the lab's own, or the handshake had failed; now whose it is."""
        entries = [pair for part in (self.request.getpeercert() or {}).get("subject", ()) for pair in part]
        name = next((value for key, value in entries if key == "commonName"), "")
        if name != _ALLOWED_NAME:
            raise Forbidden(f'user "{name}" may not use the kubelet')

    def _refuse(self, error: ApiError) -> None:
        self.send_response(error.code)
        self.send_header("Content-Type", "application/json")
        self._send_whole(msgspec.json.encode(error.to_status()))

    def _send_whole(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self, body: Iterable[bytes]) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in body:
            self._pending += piece
            if len(self._pending) >= _CHUNK_BYTES:
                self._flush()
        self._flush()
        self.wfile.write(b"0\r\n\r\n")

    def _flush(self) -> None:
        if self._pending:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(self._pending), bytes(self._pending)))
            self._pending.clear()

    def _gone(self, seconds: float) -> bool:
        """Hand over what there is, then wait. A client that reads sends nothing: what arrives says that it left."""
        self._flush()
        return bool(self.request.pending() or select.select([self.request], [], [], seconds)[0])

"""A small HTTP server that answers what a test tells it to."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
import pytest

from labctl.kube.client import Client
from labctl.kube.kubeconfig import Endpoint

Handler = Callable[["Request"], None]


@dataclass
class Request:
    """One request and the means to answer it."""

    method: str
    path: str  # without how long the client waits
    body: bytes
    raw: http.server.BaseHTTPRequestHandler

    def json(self, status: int, document: Any) -> None:
        """Answer with a document."""
        data = msgspec.json.encode(document)
        self.raw.send_response(status)
        self.raw.send_header("Content-Type", "application/json")
        self.raw.send_header("Content-Length", str(len(data)))
        self.raw.end_headers()
        self.raw.wfile.write(data)

    def hang_up(self) -> None:
        """Break the connection."""
        self.raw.close_connection = True
        self.raw.connection.shutdown(socket.SHUT_RDWR)

    def stream(self, *, chunked: bool = True) -> Callable[[bytes], None]:
        """Start a streamed answer; the returned function sends a piece, b"" the end."""
        self.raw.send_response(200)
        if chunked:
            self.raw.send_header("Transfer-Encoding", "chunked")
        else:
            self.raw.close_connection = True
            self.raw.send_header("Connection", "close")
        self.raw.end_headers()

        def send(piece: bytes) -> None:
            self.raw.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            self.raw.wfile.flush()

        return send


@dataclass
class FakeServer:
    """An HTTP server on loopback; `handle` decides, `requests` remembers."""

    url: str
    handle: Handler
    requests: list[tuple[str, str]] = field(default_factory=list)
    timeouts: list[str] = field(default_factory=list)  # how long each client said it waits, e.g. `8s`

    def client(self, *more: str, **options: Any) -> Client:
        """A client of this server, with `more` servers before it."""
        return Client(Endpoint(servers=(*more, self.url)), **options)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server whose `handle` the test sets."""
    fake = FakeServer("", lambda request: request.json(404, {}))

    class Raw(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            parts = urlsplit(self.path)
            query = parse_qsl(parts.query, keep_blank_values=True)
            fake.timeouts += [value for name, value in query if name == "timeout"]
            rest = urlencode([(name, value) for name, value in query if name != "timeout"])
            path = f"{parts.path}?{rest}" if rest else parts.path
            fake.requests.append((self.command, path))
            fake.handle(Request(self.command, path, self.rfile.read(length), self))

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _any  # noqa: N815

    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Raw)
    http_server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{http_server.server_port}"
    threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield fake
    http_server.shutdown()
    http_server.server_close()
